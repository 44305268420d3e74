//! `ReduceMean` and the like, which keep their axes

use edgesmith_graph::{Reduce, ReduceFunction};

use super::{Name, Site, Write};
use crate::write::file::ints;

impl Write for Reduce {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let input = &*site.input(0);
        // The batch is axis 0.
        let axes: Vec<u32> = self.axes.iter().map(|axis| axis + 1).collect();
        let op_type = match self.function {
            ReduceFunction::L2 => "ReduceL2",
            ReduceFunction::Maximum => "ReduceMax",
            ReduceFunction::Mean => "ReduceMean",
            ReduceFunction::Minimum => "ReduceMin",
            // The only one that reads its axes as an input at opset 17.
            ReduceFunction::Sum => {
                let axes = site.file.indices(&format!("{}.axes", site.output), &axes);
                return site.finish("ReduceSum", &[input, &axes], vec![]);
            }
        };
        site.finish(op_type, &[input], vec![ints("axes", &axes)])
    }
}

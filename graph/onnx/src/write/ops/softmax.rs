//! `Softmax` or `LogSoftmax`

use edgesmith_graph::Softmax;

use super::{Name, Site, Write};
use crate::write::file::int;

impl Write for Softmax {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let op_type = if self.log { "LogSoftmax" } else { "Softmax" };
        // The batch is axis 0.
        site.finish(op_type, &[&site.input(0)], vec![int("axis", i64::from(self.axis) + 1)])
    }
}

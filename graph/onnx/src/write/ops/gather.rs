//! `Gather`

use edgesmith_graph::Gather;

use super::{Name, Site, Write};
use crate::write::file::int;

impl Write for Gather {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let indices = site.file.indices(&format!("{}.indices", site.output), &self.indices);
        // Axis 0 is the batch there.
        let axis = int("axis", i64::from(self.axis) + 1);
        site.finish("Gather", &[&site.input(0), &indices], vec![axis])
    }
}

//! `Concat`

use edgesmith_graph::Concat;

use super::{Name, Site, Write};
use crate::write::file::int;

impl Write for Concat {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let inputs = site.inputs.clone();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        // Axis 0 is the batch there.
        site.finish("Concat", &inputs, vec![int("axis", i64::from(self.axis) + 1)])
    }
}

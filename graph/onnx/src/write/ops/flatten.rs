//! `Flatten` from the channels on

use edgesmith_graph::Flatten;

use super::{Name, Site, Write};
use crate::write::file::int;

impl Write for Flatten {
    fn write(&self, site: &mut Site<'_>) -> Name {
        site.finish("Flatten", &[&site.input(0)], vec![int("axis", 1)])
    }
}

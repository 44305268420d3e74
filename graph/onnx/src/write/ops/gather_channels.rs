//! `Gather` of channels

use edgesmith_graph::GatherChannels;

use super::{Name, Site, Write};
use crate::write::file::int;

impl Write for GatherChannels {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let indices = site.file.indices(&format!("{}.indices", site.output), &self.indices);
        site.finish("Gather", &[&site.input(0), &indices], vec![int("axis", 1)])
    }
}

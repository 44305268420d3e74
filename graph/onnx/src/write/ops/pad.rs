//! `Pad`

use edgesmith_graph::Pad;

use super::{Name, Site, Write};

impl Write for Pad {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let pads = site.pads(&self.before, &self.after);
        let value = format!("{}.padding", site.output);
        let value = site.file.floats(&value, &[], &[self.value]);
        site.finish("Pad", &[&site.input(0), &pads, &value], vec![])
    }
}

//! `HardSwish`

use edgesmith_graph::HardSwish;

use super::{Name, Site, Write};

impl Write for HardSwish {
    fn write(&self, site: &mut Site<'_>) -> Name {
        site.finish("HardSwish", &[&site.input(0)], vec![])
    }
}

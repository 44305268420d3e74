//! `Sigmoid`

use edgesmith_graph::Sigmoid;

use super::{Name, Site, Write};

impl Write for Sigmoid {
    fn write(&self, site: &mut Site<'_>) -> Name {
        site.finish("Sigmoid", &[&site.input(0)], vec![])
    }
}

//! `Add`

use edgesmith_graph::Add;

use super::{Name, Site, Write};

impl Write for Add {
    fn write(&self, site: &mut Site<'_>) -> Name {
        site.finish("Add", &[&site.input(0), &site.input(1)], vec![])
    }
}

//! `Add`

use edgesmith_graph::Add;

use super::{Name, Site, Write};

impl Write for Add {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let [a, b] = [0, 1].map(|place| site.aligned(place));
        site.finish("Add", &[&a, &b], vec![])
    }
}

//! `Mul`

use edgesmith_graph::Multiply;

use super::{Name, Site, Write};

impl Write for Multiply {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let [a, b] = [0, 1].map(|place| site.aligned(place));
        site.finish("Mul", &[&a, &b], vec![])
    }
}

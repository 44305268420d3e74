//! `Transpose`

use edgesmith_graph::Transpose;

use super::{Name, Site, Write};
use crate::write::file::ints;

impl Write for Transpose {
    fn write(&self, site: &mut Site<'_>) -> Name {
        // The batch stays first.
        let mut order = vec![0];
        order.extend(self.order.iter().map(|axis| axis + 1));
        site.finish("Transpose", &[&site.input(0)], vec![ints("perm", &order)])
    }
}

//! `Reshape` that keeps the batch

use edgesmith_graph::Reshape;

use super::{Name, Site, Write};

impl Write for Reshape {
    fn write(&self, site: &mut Site<'_>) -> Name {
        // A size of 0 stands for that of the input.
        let mut sizes = vec![0];
        sizes.extend_from_slice(&self.sizes);
        let sizes = site.file.indices(&format!("{}.sizes", site.output), &sizes);
        site.finish("Reshape", &[&site.input(0), &sizes], vec![])
    }
}

//! `PRelu`

use edgesmith_graph::Prelu;

use super::{Name, Site, Write};

impl Write for Prelu {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let mut dims = vec![site.shape(0).channels()];
        dims.resize(1 + site.shape(0).space().len(), 1);
        let slope = site.parameter_as(0, &dims);
        site.finish("PRelu", &[&site.input(0), &slope], vec![])
    }
}

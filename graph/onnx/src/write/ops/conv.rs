//! `Conv`

use edgesmith_graph::Conv;

use super::{Name, Site, Write};
use crate::write::file::{int, window};

impl Write for Conv {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let groups = self.parts(site.shape(0).channels());
        let mut attributes = window(&site.dims(0)[2..], &self.axes);
        attributes.push(int("group", i64::from(groups)));
        let (input, weight, bias) = (site.input(0), site.parameter(0), site.bias());
        let inputs: Vec<&str> = [&input, &weight].into_iter().chain(&bias).map(|n| &**n).collect();
        site.finish("Conv", &inputs, attributes)
    }
}

//! `Gemm` on vectors, and at several positions a `Conv` with a kernel of one position

use edgesmith_graph::Linear;

use super::{Name, Site, Write};
use crate::write::file::int;

impl Write for Linear {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let input = site.input(0);
        let mut dims = site.dims(0).to_vec();
        dims.resize(2 + site.shape(0).space().len(), 1);
        let (weight, bias) = (site.parameter_as(0, &dims), site.bias());
        let inputs: Vec<&str> = [&input, &weight].into_iter().chain(&bias).map(|n| &**n).collect();
        if site.shape(0).space().is_empty() {
            site.finish("Gemm", &inputs, vec![int("transB", 1)])
        } else {
            site.finish("Conv", &inputs, vec![])
        }
    }
}

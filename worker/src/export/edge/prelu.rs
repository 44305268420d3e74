//! Parametric ReLU, in integers a table of all bytes for each channel.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Prelu;

use super::{Integer, Lower, LowerError, Site, table};

impl Lower for Prelu {
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::Prelu { slope: site.parameter(0).to_vec() }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let (input, output) = (site.inputs[0], site.output()?);
        let tables = site.parameter(0).iter().flat_map(|slope| {
            table(input, output, |x| edge::Function::LeakyRelu { slope: *slope }.apply(x))
        });
        Ok(Integer::Layer(edge::Table { function: None, tables: tables.collect() }.into()))
    }
}

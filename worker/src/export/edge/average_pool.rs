//! The mean of each window.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::AveragePool;

use super::max_pool::windows;
use super::{Integer, Lower, LowerError, Site};

impl Lower for AveragePool {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(layer(self).into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let pool = layer(self);
        site.check_sum(pool.axes.iter().map(|axis| axis.kernel))?;
        let refused = |problem| edge::ModelError::Node { node: 0, kind: "average pool", problem };
        let shape = edge::Shape::new(&site.input_shape().sizes()).map_err(refused)?;
        let counts = pool.counts(&shape).map_err(refused)?;
        let scale = site.input_scale(0) / site.output_scale()?;
        let factor = |count: u32| edge::Requantization::from_real(scale / f64::from(count));
        let factors = counts.into_iter().map(|count| (count, factor(count))).collect();
        Ok(Integer::Layer(edge::IntAveragePool { pool, factors }.into()))
    }
}

fn layer(pool: &AveragePool) -> edge::AveragePool {
    edge::AveragePool { axes: windows(&pool.axes, &pool.kernel), counted: pool.counted.to_vec() }
}

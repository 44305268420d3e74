//! A mean, sum or the like along axes. Means and sums have a form in integers; the others are
//! computed in fp32.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::{Reduce, ReduceFunction};

use super::{Integer, Lower, LowerError, Site};

impl Lower for Reduce {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(reduction(self).into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let sizes = site.input_shape().sizes();
        let count: f64 = self.axes.iter().map(|&axis| f64::from(sizes[axis as usize])).product();
        let divisor = match self.function {
            ReduceFunction::Mean => count,
            ReduceFunction::Sum => 1.0,
            ReduceFunction::L2 | ReduceFunction::Maximum | ReduceFunction::Minimum => {
                return Ok(Integer::None);
            }
        };
        site.check_sum(self.axes.iter().map(|&axis| sizes[axis as usize]))?;
        let factor = site.input_scale(0) / (divisor * site.output_scale()?);
        let requantize = edge::Requantization::from_real(factor);
        Ok(Integer::Layer(edge::IntReduce { reduce: reduction(self), requantize }.into()))
    }

    fn has_integers(&self) -> bool {
        matches!(self.function, ReduceFunction::Mean | ReduceFunction::Sum)
    }
}

fn reduction(reduce: &Reduce) -> edge::Reduce {
    let function = match reduce.function {
        ReduceFunction::L2 => edge::ReduceFunction::L2,
        ReduceFunction::Maximum => edge::ReduceFunction::Maximum,
        ReduceFunction::Mean => edge::ReduceFunction::Mean,
        ReduceFunction::Minimum => edge::ReduceFunction::Minimum,
        ReduceFunction::Sum => edge::ReduceFunction::Sum,
    };
    edge::Reduce { function, axes: reduce.axes.to_vec(), keep: true }
}

//! Leaky ReLU, in integers a table of all bytes.

use edgesmith_edge_runtime::{FloatLayer, FloatLeakyRelu, IntLayer, IntLeakyRelu};
use edgesmith_graph::LeakyRelu;

use super::{Lower, LowerError, Site, engine_quantization};

impl Lower for LeakyRelu {
    fn float(&self, _: &Site<'_>) -> Result<FloatLayer, LowerError> {
        Ok(FloatLayer::LeakyRelu(FloatLeakyRelu { slope: self.slope }))
    }

    fn integer(&self, site: &Site<'_>) -> Result<IntLayer, LowerError> {
        let [input, output] = [site.node.inputs[0], site.output].map(|id| site.affine(id));
        let (input, output) = (engine_quantization(input?), engine_quantization(output?));
        let leaky = |x: f32| if x < 0.0 { self.slope * x } else { x };
        let table = |byte: usize| output.quantize(leaky(input.dequantize(byte as u8)));
        let table = Box::new(std::array::from_fn(table));
        Ok(IntLayer::LeakyRelu(IntLeakyRelu { slope: self.slope, table }))
    }
}

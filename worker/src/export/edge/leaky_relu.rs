//! Leaky ReLU, in integers a table of all bytes.

use edgesmith_edge_runtime::{FloatLayer, FloatLeakyRelu, IntLayer, IntLeakyRelu, Quantization};
use edgesmith_graph::LeakyRelu;

use super::{Lower, LowerError, Site, engine_quantization};

impl Lower for LeakyRelu {
    fn float(&self, _: &Site<'_>) -> Result<FloatLayer, LowerError> {
        Ok(FloatLayer::LeakyRelu(FloatLeakyRelu { slope: self.slope }))
    }

    fn integer(&self, site: &Site<'_>) -> Result<IntLayer, LowerError> {
        let [input, output] = [site.node.inputs[0], site.output].map(|id| site.affine(id));
        let (input, output) = (engine_quantization(input?), engine_quantization(output?));
        let table = Box::new(table(self.slope, input, output));
        Ok(IntLayer::LeakyRelu(IntLeakyRelu { slope: self.slope, table }))
    }
}

/// The output byte for each input byte.
pub(super) fn table(slope: f32, input: Quantization, output: Quantization) -> [u8; 256] {
    let leaky = |x: f32| if x < 0.0 { slope * x } else { x };
    std::array::from_fn(|byte| output.quantize(leaky(input.dequantize(byte as u8))))
}

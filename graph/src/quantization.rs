//! An annotation: how the numbers of values and parameters are held as integers. The graph itself
//! stays one of real numbers. It does not choose the integers and does not compute with them.

use crate::{Graph, Op, ParameterId, ValueId};

/// Affine quantization to unsigned bytes: `real = scale * (byte - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Above 0.
    pub scale: f32,
    /// The byte that means 0.
    pub zero_point: u8,
}

/// The quantization of a network, by value and parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantization {
    values: Vec<Option<Affine>>,
    parameters: Vec<Option<Vec<f64>>>,
    /// By parameter.
    largest: Vec<u8>,
    /// By parameter: whether its integers are signs.
    signs: Vec<bool>,
}

/// The integer that a number becomes where only its sign is kept: -1, 1, or 0 for 0.
pub fn sign(number: f32) -> i8 {
    if number == 0.0 { 0 } else { number.signum() as i8 }
}

impl Affine {
    /// The narrowest range. Smaller values do not matter in a network whose values are of order
    /// one.
    pub const NARROWEST: f32 = 1e-6;

    /// The quantization of a range that contains zero. Zero is exactly one of its levels.
    pub fn covering(low: f32, high: f32) -> Self {
        let scale = (high - low).max(Self::NARROWEST) / 255.0;
        let zero_point = (-low / scale).round().clamp(0.0, 255.0) as u8;
        Self { scale, zero_point }
    }
}

impl Quantization {
    /// Largest absolute integer of a parameter, unless another is set. -128 is not used, so that
    /// parameters are symmetric.
    pub const LARGEST: u8 = 127;

    /// Nothing is quantized.
    pub fn none(graph: &Graph) -> Self {
        let (values, parameters) = (graph.values().len(), graph.parameters().len());
        Self {
            values: vec![None; values],
            parameters: vec![None; parameters],
            largest: vec![Self::LARGEST; parameters],
            signs: vec![false; parameters],
        }
    }

    /// How a value is quantized; `None` if it stays real.
    pub fn value(&self, id: ValueId) -> Option<Affine> {
        self.values[id.index()]
    }

    /// How a parameter is quantized: symmetrically to signed bytes, with a scale above 0 for each
    /// index of its first axis, `real = scales[i] * byte`. `None` if it stays real.
    pub fn parameter(&self, id: ParameterId) -> Option<&[f64]> {
        self.parameters[id.index()].as_deref()
    }

    /// Largest absolute integer of a parameter that is quantized: 127 for 8 bits, 7 for 4 bits.
    pub fn largest(&self, id: ParameterId) -> u8 {
        self.largest[id.index()]
    }

    /// Whether the integers of a parameter that is quantized are the signs of its numbers.
    pub fn is_signs(&self, id: ParameterId) -> bool {
        self.signs[id.index()]
    }

    /// The integer of a number of a parameter that is quantized, with its scale: the nearest one,
    /// or its sign.
    pub fn level(&self, id: ParameterId, number: f32, scale: f64) -> i8 {
        if self.is_signs(id) {
            return sign(number);
        }
        let most = f64::from(self.largest(id));
        (f64::from(number) / scale).round().clamp(-most, most) as i8
    }

    /// The annotation with a scale for each value that only a clip reads, if the clip is a layer of
    /// its own ([`Graph::absorbed_clips`]): that of the clip's output. Quantizers give none to a sum
    /// before a ReLU. What the scale does not reach, the clip cuts off anyway.
    ///
    /// # Panics
    /// If it belongs to another graph.
    pub fn with_clipped(&self, graph: &Graph) -> Self {
        let mut quantization = self.clone();
        let (readers, absorbed) = (graph.readers(), graph.absorbed_clips());
        for (id, node) in graph.nodes().filter(|(_, node)| matches!(node.op, Op::Clip(_))) {
            let input = node.inputs[0];
            let alone = readers[input.index()][..] == [id] && !graph.outputs().contains(&input);
            let own = absorbed.iter().flatten().all(|(clip, _)| *clip != id);
            if let Some(affine) = self.value(node.output)
                && alone
                && own
                && self.value(input).is_none()
                && graph.inputs().all(|value| value != input)
            {
                quantization.set_value(input, affine);
            }
        }
        quantization
    }

    /// Quantizes a value.
    pub fn set_value(&mut self, id: ValueId, affine: Affine) {
        self.values[id.index()] = Some(affine);
    }

    /// Quantizes a parameter with a scale for each index of its first axis.
    pub fn set_parameter(&mut self, id: ParameterId, scales: Vec<f64>) {
        self.parameters[id.index()] = Some(scales);
    }

    /// Sets the largest absolute integer of a parameter, from 1 to 127.
    pub fn set_largest(&mut self, id: ParameterId, largest: u8) {
        self.largest[id.index()] = largest;
    }

    /// Makes the integers of a parameter the signs of its numbers.
    pub fn set_signs(&mut self, id: ParameterId) {
        self.signs[id.index()] = true;
        self.largest[id.index()] = 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Add, BatchNormalization, Clip, Conv, GraphBuilder, Place, Role, Shape};

    /// A convolution with batch normalisation and a clip, and a sum with a clip; the sum may be an
    /// output.
    fn clipped(sum_is_output: bool) -> Graph {
        let mut builder = GraphBuilder::new();
        let x = builder.input("x", Shape::new(2, &[3, 3]).unwrap()).unwrap();
        let mut node = |name: &str, op: Op, inputs: &[ValueId], shapes: &[(&[u32], Role)]| {
            let declare = |(at, (shape, role)): (usize, &(&[u32], Role))| {
                builder.parameter(format!("{name}.{at}"), shape, *role).unwrap()
            };
            let parameters: Vec<_> = shapes.iter().enumerate().map(declare).collect();
            builder.node(name.to_owned(), op, inputs, &parameters, Place::default()).unwrap()
        };
        let conv = node("conv", Conv::dense(1, 1).into(), &[x], &[(&[2, 2, 1, 1], Role::Weight)]);
        let of_channel =
            [Role::Scale, Role::Shift, Role::Mean, Role::Variance].map(|role| (&[2][..], role));
        let normalization = BatchNormalization { epsilon: 1e-3 };
        let normalized = node("normalized", normalization.into(), &[conv], &of_channel);
        let first = node("first", Clip::RELU.into(), &[normalized], &[]);
        let sum = node("sum", Add.into(), &[x, first], &[]);
        let second = node("second", Clip::RELU.into(), &[sum], &[]);
        let outputs = if sum_is_output { vec![second, sum] } else { vec![second] };
        builder.finish(&outputs).unwrap()
    }

    #[test]
    fn a_value_before_a_clip_of_its_own_has_the_scale_of_the_clip() {
        for sum_is_output in [false, true] {
            let graph = clipped(sum_is_output);
            let value = |name: &str| graph.value_named(name).unwrap();
            let mut given = Quantization::none(&graph);
            for (name, high) in [("x", 1.0), ("first", 2.0), ("second", 3.0)] {
                given.set_value(value(name), Affine::covering(0.0, high));
            }
            let found = given.with_clipped(&graph);
            let mut expected = given.clone();
            // What is computed along with the convolution is nowhere, and what something else
            // reads, too, keeps its numbers.
            if !sum_is_output {
                expected.set_value(value("sum"), Affine::covering(0.0, 3.0));
            }
            assert_eq!(found, expected);
        }
    }

    proptest! {
        #[test]
        fn zero_is_a_level_and_the_ends_are_near(low in -100.0..=0.0f32, high in 0.0..100.0f32) {
            let q = Affine::covering(low, high);
            prop_assert!(q.scale > 0.0);
            let zero = f32::from(q.zero_point);
            prop_assert!((q.scale * (0.0 - zero) - low).abs() <= q.scale * 0.51);
            prop_assert!((q.scale * (255.0 - zero) - high).abs() <= q.scale * 0.51);
        }
    }
}

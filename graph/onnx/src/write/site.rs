//! What an operation sees of the network that is written, and what it adds to the file.

use edgesmith_graph::{Affine, Graph, Node, Quantization, Shape, ValueId, Weights};

use super::file::{File, Name, int};
use crate::proto::AttributeProto;

/// The network that is written.
#[derive(Clone, Copy)]
pub(super) struct Network<'a> {
    pub graph: &'a Graph,
    pub weights: &'a Weights,
    pub quantization: Option<&'a Quantization>,
    /// By value, whether something reads the bytes that it is held as.
    pub read: &'a [bool],
}

/// A node of the network, with the names of the tensors that it reads and computes.
pub(super) struct Site<'a> {
    pub file: &'a mut File,
    pub network: Network<'a>,
    pub node: &'a Node,
    /// What it reads, one per input.
    pub inputs: Vec<Name>,
    /// A tensor with all examples of the batch; `None` if the network has no input.
    pub batch: Option<Name>,
    /// What it computes, before that is quantized.
    pub output: Name,
}

impl Network<'_> {
    /// How a value is held as bytes, if something reads these.
    pub fn affine(&self, value: ValueId) -> Option<Affine> {
        let quantized = self.quantization.and_then(|quantization| quantization.value(value));
        quantized.filter(|_| self.read[value.index()])
    }
}

impl<'a> Site<'a> {
    /// The name of an input.
    pub fn input(&self, place: usize) -> Name {
        self.inputs[place].clone()
    }

    /// An input with as many axes of positions as the output. ONNX repeats a tensor with fewer axes
    /// along the first ones, so that an `Unsqueeze` has to add those of size 1 at the end.
    pub fn aligned(&mut self, place: usize) -> Name {
        let input = self.input(place);
        let rank = |value| 2 + self.network.graph.shape(value).space().len() as u32;
        let missing = rank(self.node.inputs[place])..rank(self.node.output);
        if missing.is_empty() {
            return input;
        }
        let axes =
            self.file.indices(&format!("{}.axes", self.output), &missing.collect::<Vec<_>>());
        self.step("aligned", "Unsqueeze", &[&input, &axes], vec![])
    }

    /// Adds a constant number.
    pub fn scalar(&mut self, part: &str, value: f32) -> Name {
        self.file.floats(&format!("{}.{part}", self.output), &[], &[value])
    }

    /// The shape of an input.
    pub fn shape(&self, place: usize) -> &'a Shape {
        self.network.graph.shape(self.node.inputs[place])
    }

    /// The shape of the output.
    pub fn output_shape(&self) -> &'a Shape {
        self.network.graph.shape(self.node.output)
    }

    /// The shape of a parameter.
    pub fn dims(&self, slot: usize) -> &'a [u32] {
        &self.network.graph.parameter(self.node.parameters[slot]).shape
    }

    /// Adds the node that computes the output, and its quantization. Returns what is read of it.
    pub fn finish(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Name {
        let output = self.output.clone();
        self.file.node(op_type, inputs, &output, attributes);
        self.quantized(&output)
    }

    /// Adds a node that computes something on the way to the output.
    pub fn step(
        &mut self,
        part: &str,
        op_type: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Name {
        let name = self.file.claim(&format!("{}.{part}", self.output));
        self.file.node(op_type, inputs, &name, attributes);
        name
    }

    /// A tensor with the numbers of the output, quantized as the output is.
    pub fn quantized(&mut self, tensor: &str) -> Name {
        match self.network.affine(self.node.output) {
            Some(affine) => to_bytes_and_back(self.file, tensor, tensor, affine),
            None => tensor.to_owned(),
        }
    }

    /// Adds a parameter of the node.
    pub fn parameter(&mut self, slot: usize) -> Name {
        self.parameter_as(slot, self.dims(slot))
    }

    /// Adds a parameter of the node with other sizes; the first axis stays the first. If it is
    /// quantized, a DequantizeLinear with a scale per index of that axis follows its integers.
    pub fn parameter_as(&mut self, slot: usize, dims: &[u32]) -> Name {
        self.ordered(slot, dims, &|at| at, 0)
    }

    /// Adds a weight `[out, in / groups, kernel…]` as `[in, out / groups, kernel…]`.
    pub fn input_first(&mut self, slot: usize, groups: u32) -> Name {
        let Network { graph, weights, quantization, .. } = self.network;
        let own = self.dims(slot);
        let (out, reads, kernel) = (own[0], own[1], &own[2..]);
        let writes = out / groups;
        let taps: u32 = kernel.iter().product();
        let mut order = Vec::new();
        for (input, write) in (0..groups * reads).flat_map(|i| (0..writes).map(move |w| (i, w))) {
            let (group, read) = (input / reads, input % reads);
            let filter = ((group * writes + write) * reads + read) as usize * taps as usize;
            order.extend(filter..filter + taps as usize);
        }
        let mut dims = vec![groups * reads, writes];
        dims.extend_from_slice(kernel);
        if groups == 1 || (reads == 1 && writes == 1) {
            // One axis has the output channels.
            return self.ordered(slot, &dims, &|at| order[at], usize::from(groups == 1));
        }
        // A channel's scale belongs to a part of either axis, which DequantizeLinear cannot say.
        let id = self.node.parameters[slot];
        let mut numbers = weights.of(graph, id).data.clone();
        if let Some(scales) = quantization.and_then(|quantization| quantization.parameter(id)) {
            for (row, scale) in numbers.chunks_exact_mut((reads * taps) as usize).zip(scales) {
                let level = |number: f32| f64::from((f64::from(number) / scale).round() as i8);
                row.iter_mut().for_each(|number| *number = (level(*number) * scale) as f32);
            }
        }
        let numbers: Vec<f32> = order.iter().map(|&at| numbers[at]).collect();
        self.file.floats(&graph.parameter(id).name, &dims, &numbers)
    }

    /// Adds a parameter of the node with other sizes; `order` says which of its numbers comes
    /// where. The indices of `axis` are those of its own first axis. If it is quantized, a
    /// DequantizeLinear with a scale per index of that axis follows its integers.
    fn ordered(
        &mut self,
        slot: usize,
        dims: &[u32],
        order: &dyn Fn(usize) -> usize,
        axis: usize,
    ) -> Name {
        let Network { graph, weights, quantization, .. } = self.network;
        let id = self.node.parameters[slot];
        let (wish, numbers) = (&graph.parameter(id).name, &weights.of(graph, id).data);
        let Some(scales) = quantization.and_then(|quantization| quantization.parameter(id)) else {
            let numbers: Vec<f32> = (0..numbers.len()).map(|at| numbers[order(at)]).collect();
            return self.file.floats(wish, dims, &numbers);
        };
        let row = numbers.len() / scales.len();
        // The cast saturates.
        let integer = |at: usize| (f64::from(numbers[at]) / scales[at / row]).round() as i8;
        let integers: Vec<i8> = (0..numbers.len()).map(|at| integer(order(at))).collect();
        let scales: Vec<f32> = scales.iter().map(|&scale| scale as f32).collect();
        let name = self.file.claim(wish);
        let channels = &dims[axis..=axis];
        let quantized = self.file.int8s(&format!("{name}_quantized"), dims, &integers);
        let scale = self.file.floats(&format!("{name}_scale"), channels, &scales);
        let zeros = vec![0; scales.len()];
        let zero = self.file.int8s(&format!("{name}_zero_point"), channels, &zeros);
        let axis = vec![int("axis", axis as i64)];
        self.file.node("DequantizeLinear", &[&quantized, &scale, &zero], &name, axis);
        name
    }

    /// Adds the padding of a Pad: what comes before the first index of each axis and after the last
    /// one, channels first. The batch is not padded.
    pub fn pads(&mut self, before: &[u32], after: &[u32]) -> Name {
        let pads = [&[0], before, &[0], after].concat();
        self.file.indices(&format!("{}.pads", self.output), &pads)
    }

    /// Adds the bias of a convolution or linear layer, if it has one: in int32 at the scale of the
    /// products if the weight and the input are quantized.
    pub fn bias(&mut self) -> Option<Name> {
        let Network { graph, weights, quantization, .. } = self.network;
        let [weight, bias] = self.node.parameters[..] else { return None };
        let scales = quantization.and_then(|quantization| quantization.parameter(weight));
        let (Some(scales), Some(input)) = (scales, self.network.affine(self.node.inputs[0])) else {
            return Some(self.parameter(1));
        };
        let (wish, numbers) = (&graph.parameter(bias).name, &weights.of(graph, bias).data);
        let scales: Vec<f64> = scales.iter().map(|scale| f64::from(input.scale) * scale).collect();
        let numbers = numbers.iter().zip(&scales);
        // The cast saturates.
        let integers: Vec<i32> =
            numbers.map(|(&number, scale)| (f64::from(number) / scale).round() as i32).collect();
        let scales: Vec<f32> = scales.into_iter().map(|scale| scale as f32).collect();
        let (name, dims) = (self.file.claim(wish), self.dims(1));
        let quantized = self.file.int32s(&format!("{name}_quantized"), dims, &integers);
        let scale = self.file.floats(&format!("{name}_scale"), dims, &scales);
        // The zero point is 0, which is the default.
        self.file.node("DequantizeLinear", &[&quantized, &scale], &name, vec![int("axis", 0)]);
        Some(name)
    }
}

/// Quantizes a tensor to uint8 and back. `wish` is what the names of the parts begin with.
pub(super) fn to_bytes_and_back(file: &mut File, wish: &str, tensor: &str, affine: Affine) -> Name {
    let scale = file.floats(&format!("{wish}.scale"), &[], &[affine.scale]);
    let zero = file.uint8(&format!("{wish}.zero_point"), affine.zero_point);
    let quantized = file.claim(&format!("{wish}.quantized"));
    file.node("QuantizeLinear", &[tensor, &scale, &zero], &quantized, vec![]);
    let dequantized = file.claim(&format!("{wish}.dequantized"));
    file.node("DequantizeLinear", &[&quantized, &scale, &zero], &dequantized, vec![]);
    dequantized
}

//! Runs a network in integers, step by step.

use std::ops::Range;

use super::schedule::{Schedule, Step, geometry, load_image};
use crate::error::ModelError;
use crate::kernels::Isa;
use crate::kernels::int8::{
    IntAdd, IntConv, IntDepthwise, IntLinear, IntPool, Rescale, int_add, int_conv, int_depthwise,
    int_linear, int_pool,
};
use crate::model::{InputSpec, IntLayer, IntNode, Quantization, ValueId};
use crate::validate::Shapes;

pub(super) struct IntEngine {
    isa: Isa,
    /// For each channel, the normalised and quantized value of each byte.
    tables: Vec<[u8; 256]>,
    image: Range<usize>,
    steps: Vec<Step<Op>>,
    linear: IntLinear,
    features: Range<usize>,
    arena: Vec<u8>,
    scratch: Vec<i16>,
}

enum Op {
    Conv(IntConv),
    Depthwise(IntDepthwise),
    Add(Box<IntAdd>),
    Pool(IntPool),
}

impl IntEngine {
    /// `nodes` must be validated.
    pub fn new(
        isa: Isa,
        input: &InputSpec,
        input_quantization: Quantization,
        nodes: &[IntNode],
        shapes: &Shapes,
    ) -> Result<Self, ModelError> {
        let schedule = Schedule::new(shapes, nodes.iter().map(|node| node.inputs.as_slice()));
        let zero_of = |value: ValueId| match value.0.checked_sub(1) {
            None => input_quantization.zero_point,
            Some(node) => nodes[node as usize].output.zero_point,
        };
        let (mut steps, mut scratch, mut last) = (Vec::with_capacity(nodes.len()), 0, None);
        for (index, node) in nodes.iter().enumerate() {
            let (shape, zero) = (shapes.of(node.inputs[0]), zero_of(node.inputs[0]));
            let output_zero = node.output.zero_point;
            let op = match &node.layer {
                IntLayer::Conv { conv, requantize, clamp } => {
                    let rescale = Rescale::new(requantize, output_zero, *clamp);
                    let conv = IntConv::new(isa, conv, zero, rescale, geometry(conv, shape));
                    scratch = scratch.max(conv.scratch());
                    Op::Conv(conv)
                }
                IntLayer::Depthwise { conv, requantize, clamp } => {
                    let rescale = Rescale::new(requantize, output_zero, *clamp);
                    let conv = IntDepthwise::new(isa, conv, zero, rescale, geometry(conv, shape));
                    scratch = scratch.max(conv.scratch());
                    Op::Depthwise(conv)
                }
                IntLayer::Add { sides, output, clamp } => {
                    let sides = [(zero, sides[0]), (zero_of(node.inputs[1]), sides[1])];
                    let rescale = Rescale::new(&[*output], output_zero, *clamp);
                    Op::Add(Box::new(IntAdd::new(isa, sides, rescale)))
                }
                IntLayer::GlobalAveragePool { requantize } => Op::Pool(IntPool::new(
                    zero,
                    Rescale::new(&[*requantize], output_zero, (u8::MIN, u8::MAX)),
                )),
                IntLayer::Linear { linear, logit_scale } => {
                    let (channels, positions) = (shape.channels as usize, shape.positions());
                    let linear = IntLinear::new(linear, logit_scale, zero, channels, positions);
                    last = Some((linear, schedule.places[node.inputs[0].0 as usize].clone()));
                    continue;
                }
            };
            steps.push(Step::new(&schedule, &node.inputs, index, op));
        }
        schedule.check(scratch)?;
        let (linear, features) = last.ok_or(ModelError::NoNodes)?;
        let quantized =
            |channel, byte| input_quantization.quantize(input.normalized(channel, byte));
        let tables = (0..input.channels as usize)
            .map(|channel| std::array::from_fn(|byte| quantized(channel, byte as u8)))
            .collect();
        Ok(Self {
            isa,
            tables,
            image: schedule.places[0].clone(),
            steps,
            linear,
            features,
            arena: vec![0; schedule.arena],
            scratch: vec![0; scratch],
        })
    }

    pub fn run(&mut self, image: &[u8], logits: &mut [f32]) {
        load_image(image, &self.tables, &mut self.arena[self.image.clone()]);
        for step in &self.steps {
            let (left, right, output) = step.borrow(&mut self.arena);
            match &step.op {
                Op::Conv(conv) => int_conv(self.isa, conv, left, &mut self.scratch, output),
                Op::Depthwise(conv) => {
                    int_depthwise(self.isa, conv, left, &mut self.scratch, output);
                }
                Op::Add(add) => int_add(self.isa, add, left, right, output),
                Op::Pool(pool) => int_pool(self.isa, pool, left, output),
            }
        }
        int_linear(self.isa, &self.linear, &self.arena[self.features.clone()], logits);
    }

    pub fn memory_bytes(&self) -> usize {
        size_of_val(self.arena.as_slice()) + size_of_val(self.scratch.as_slice())
    }
}

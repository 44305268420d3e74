//! Runs a network in fp32, step by step.

use std::ops::Range;

use super::schedule::{Schedule, Step, geometry, load_image};
use crate::error::ModelError;
use crate::kernels::Isa;
use crate::kernels::fp32::{
    FloatConv, FloatDepthwise, FloatLinear, float_add, float_conv, float_depthwise, float_linear,
    float_pool,
};
use crate::model::{FloatLayer, FloatNode, InputSpec};
use crate::validate::Shapes;

pub(super) struct FloatEngine {
    isa: Isa,
    /// For each channel, the normalised value of each byte.
    tables: Vec<[f32; 256]>,
    image: Range<usize>,
    steps: Vec<Step<Op>>,
    linear: FloatLinear,
    features: Range<usize>,
    arena: Vec<f32>,
    scratch: Vec<f32>,
}

enum Op {
    Conv(FloatConv),
    Depthwise(FloatDepthwise),
    Add,
    Pool,
}

impl FloatEngine {
    /// `nodes` must be validated.
    pub fn new(
        isa: Isa,
        input: &InputSpec,
        nodes: &[FloatNode],
        shapes: &Shapes,
    ) -> Result<Self, ModelError> {
        let schedule = Schedule::new(shapes, nodes.iter().map(|node| node.inputs.as_slice()));
        let (mut steps, mut scratch, mut last) = (Vec::with_capacity(nodes.len()), 0, None);
        for (index, node) in nodes.iter().enumerate() {
            let shape = shapes.of(node.inputs[0]);
            let op = match &node.layer {
                FloatLayer::Conv(conv, activation) => {
                    let conv = FloatConv::new(conv, *activation, geometry(conv, shape));
                    scratch = scratch.max(conv.scratch());
                    Op::Conv(conv)
                }
                FloatLayer::Depthwise(conv, activation) => {
                    let conv = FloatDepthwise::new(conv, *activation, geometry(conv, shape));
                    scratch = scratch.max(conv.scratch());
                    Op::Depthwise(conv)
                }
                FloatLayer::Add => Op::Add,
                FloatLayer::GlobalAveragePool => Op::Pool,
                FloatLayer::Linear(linear) => {
                    let channels = shape.channels as usize;
                    let linear = FloatLinear::new(linear, channels, shape.positions());
                    last = Some((linear, schedule.places[node.inputs[0].0 as usize].clone()));
                    continue;
                }
            };
            steps.push(Step::new(&schedule, &node.inputs, index, op));
        }
        schedule.check(scratch)?;
        let (linear, features) = last.ok_or(ModelError::NoNodes)?;
        let tables = (0..input.channels as usize)
            .map(|channel| std::array::from_fn(|byte| input.normalized(channel, byte as u8)))
            .collect();
        Ok(Self {
            isa,
            tables,
            image: schedule.places[0].clone(),
            steps,
            linear,
            features,
            arena: vec![0.0; schedule.arena],
            scratch: vec![0.0; scratch],
        })
    }

    pub fn run(&mut self, image: &[u8], logits: &mut [f32]) {
        load_image(image, &self.tables, &mut self.arena[self.image.clone()]);
        for step in &self.steps {
            let (left, right, output) = step.borrow(&mut self.arena);
            match &step.op {
                Op::Conv(conv) => float_conv(self.isa, conv, left, &mut self.scratch, output),
                Op::Depthwise(conv) => {
                    float_depthwise(self.isa, conv, left, &mut self.scratch, output);
                }
                Op::Add => float_add(self.isa, left, right, output),
                Op::Pool => float_pool(self.isa, left, output),
            }
        }
        float_linear(self.isa, &self.linear, &self.arena[self.features.clone()], logits);
    }

    pub fn memory_bytes(&self) -> usize {
        size_of_val(self.arena.as_slice()) + size_of_val(self.scratch.as_slice())
    }
}

//! Runs a network layer by layer, in fp32 or in integers.

use std::ops::Range;

use super::schedule::{Schedule, Step};
use crate::error::ModelError;
use crate::kernels::Isa;
use crate::layers::{AnyLayer, Arithmetic, Node, Prepared, Site};
use crate::model::ValueId;
use crate::validate::Shapes;

/// An element of a value.
type Element<L> = <<L as AnyLayer>::Arithmetic as Arithmetic>::Element;
type Scratch<L> = <<L as AnyLayer>::Arithmetic as Arithmetic>::Scratch;
type Scale<L> = <<L as AnyLayer>::Arithmetic as Arithmetic>::Scale;

/// The prepared layers of a network and the memory that they use.
pub(super) struct Engine<L: AnyLayer> {
    isa: Isa,
    /// For each channel of the image, the element for each byte.
    tables: Vec<[Element<L>; 256]>,
    image: Range<usize>,
    steps: Vec<Step<L::Prepared>>,
    arena: Vec<Element<L>>,
    scratch: Vec<Scratch<L>>,
}

impl<L: AnyLayer> Engine<L> {
    /// `nodes` must be validated. `image` is the scale of the image's elements, and `tables` holds,
    /// for each channel, the element for each byte.
    pub fn new<N: Node<Layer = L>>(
        isa: Isa,
        nodes: &[N],
        shapes: &Shapes,
        image: Scale<L>,
        tables: Vec<[Element<L>; 256]>,
    ) -> Result<Self, ModelError> {
        let schedule = Schedule::new(shapes, nodes.iter().map(Node::inputs));
        let scale_of = |value: ValueId| match value.0.checked_sub(1) {
            None => image,
            Some(node) => nodes[node as usize].scale(),
        };
        let mut steps = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let inputs: Vec<_> =
                node.inputs().iter().map(|&value| (shapes.of(value), scale_of(value))).collect();
            let site = Site { isa, inputs: &inputs, output: node.scale() };
            let layer = node.layer().prepare(&site);
            steps.push(Step::new(&schedule, node.inputs(), index, layer));
        }
        let scratch = steps.iter().map(|step| step.layer.scratch()).max().unwrap_or(0);
        schedule.check(scratch)?;
        Ok(Self {
            isa,
            tables,
            image: schedule.places[0].clone(),
            steps,
            arena: vec![Element::<L>::default(); schedule.arena],
            scratch: vec![Scratch::<L>::default(); scratch],
        })
    }

    pub fn run(&mut self, image: &[u8], logits: &mut [f32]) {
        load_image(image, &self.tables, &mut self.arena[self.image.clone()]);
        for step in &self.steps {
            step.run(self.isa, &mut self.arena, &mut self.scratch, logits);
        }
    }

    pub fn memory_bytes(&self) -> usize {
        size_of_val(self.arena.as_slice()) + size_of_val(self.scratch.as_slice())
    }
}

/// Turns an image `[channels][height][width]` into a map `[height][width][channels]`, with a
/// look-up table for each channel.
fn load_image<T: Copy>(image: &[u8], tables: &[[T; 256]], map: &mut [T]) {
    let positions = image.len() / tables.len();
    for (channel, (plane, table)) in image.chunks_exact(positions).zip(tables).enumerate() {
        let pixels = map[channel..].iter_mut().step_by(tables.len());
        for (value, &byte) in pixels.zip(plane) {
            *value = table[usize::from(byte)];
        }
    }
}

//! A model that is ready to run: weights packed for this processor, all memory allocated. A session
//! computes on the calling thread and does not allocate while it runs.

mod arena;
mod input;

use std::fmt;
use std::ops::Range;

use self::arena::Arena;
use self::input::{Loader, Unloader};
use crate::error::{InputError, ModelError};
use crate::kernels::Isa;
use crate::layers::{Operands, Prepared, Site};
use crate::model::{Model, Numbers, TestVector};
use crate::planner::Target;

/// An array from outside for one input, with the axes in the order that the input says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tensor<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// 32-bit floating point.
    Fp32(&'a [f32]),
}

impl<'a> From<&'a Numbers> for Tensor<'a> {
    fn from(numbers: &'a Numbers) -> Self {
        match numbers {
            Numbers::Bytes(bytes) => Self::Bytes(bytes),
            Numbers::Fp32(numbers) => Self::Fp32(numbers),
        }
    }
}

/// Runs one model, one example at a time.
pub struct Session {
    isa: Isa,
    arena: Arena,
    /// With the place of its value.
    inputs: Vec<(Loader, Range<usize>)>,
    steps: Vec<Step>,
    /// With the place of its value.
    outputs: Vec<(Unloader, Range<usize>)>,
    /// One per output.
    arrays: Vec<Vec<f32>>,
    integers: bool,
    planned_bytes: u64,
}

/// One node with its prepared layer.
struct Step {
    layer: Box<dyn Prepared>,
    inputs: Vec<Range<usize>>,
    output: Range<usize>,
    scratch: Range<usize>,
}

impl Session {
    /// Validates the model, packs its weights and allocates all memory.
    ///
    /// # Errors
    /// If the model is not valid or its plan has more than
    /// [`MAX_SESSION_BYTES`](crate::MAX_SESSION_BYTES).
    pub fn new(model: &Model) -> Result<Self, ModelError> {
        Self::with_isa(model, Isa::detect())
    }

    /// Like `new`, but uses only the instructions that the compiler was told to use. It is slower
    /// and serves as a reference for the fast kernels: bytes are the same, bit for bit.
    ///
    /// # Errors
    /// See `new`.
    pub fn portable(model: &Model) -> Result<Self, ModelError> {
        Self::with_isa(model, Isa::PORTABLE)
    }

    /// One for each set of instructions that this processor has, the fastest first and
    /// [`Session::portable`] last. They compute the same bytes.
    ///
    /// # Errors
    /// See `new`.
    pub fn each(model: &Model) -> Result<Vec<Self>, ModelError> {
        Isa::all().into_iter().map(|isa| Self::with_isa(model, isa)).collect()
    }

    fn with_isa(model: &Model, isa: Isa) -> Result<Self, ModelError> {
        let values = model.validate()?;
        // Fails before anything is allocated.
        let plan = model.plan_values(&values, Target::Host)?;
        // The plan is below the limit, so places fit.
        let place = |place: &Range<u64>| place.start as usize..place.end as usize;
        let value_at = |value: u32| place(&plan.values[value as usize]);
        let mut steps = Vec::with_capacity(model.nodes.len());
        for (index, node) in model.nodes.iter().enumerate() {
            let inputs: Vec<_> =
                node.inputs.iter().map(|value| values.all()[value.0 as usize]).collect();
            let output = values.all()[model.inputs.len() + index];
            let site = Site { isa, rounding: model.rounding, inputs: &inputs, output };
            steps.push(Step {
                layer: node.layer.prepare(&site),
                inputs: node.inputs.iter().map(|value| value_at(value.0)).collect(),
                output: value_at(output.id.0),
                scratch: place(&plan.scratch[index]),
            });
        }
        let inputs = model.inputs.iter().zip(0..);
        let outputs = model.outputs.iter().map(|output| {
            let value = values.all()[output.value.0 as usize];
            (Unloader::new(output, &value.shape, value.element), value_at(output.value.0))
        });
        let arrays = model.outputs.iter().map(|out| vec![0.0; values.of(out.value).elements()]);
        Ok(Self {
            isa,
            arena: Arena::new(plan.arena as usize),
            inputs: inputs.map(|(input, at)| (Loader::new(input), value_at(at))).collect(),
            steps,
            outputs: outputs.collect(),
            arrays: arrays.collect(),
            integers: model.has_integers(),
            planned_bytes: plan.bytes(),
        })
    }

    /// The first output for an image of bytes, for a model that reads one. For a classifier that
    /// are the logits, one per class. The image of most models is `[channels][height][width]`; the
    /// order of the input's axes says it.
    ///
    /// # Errors
    /// If the model does not read one image, or the image does not have its size.
    pub fn run(&mut self, image: &[u8]) -> Result<&[f32], InputError> {
        match &self.inputs[..] {
            [(loader, _)] if loader.takes_bytes() => {
                let (expected, found) = (loader.elements(), image.len());
                if expected != found {
                    return Err(InputError::WrongLength { expected, found });
                }
            }
            _ => return Err(InputError::NotAnImage),
        }
        self.run_on(&[Tensor::Bytes(image)])?;
        Ok(&self.arrays[0])
    }

    /// The class of an image: the one with the highest logit, or the first of several equal ones.
    ///
    /// # Errors
    /// See `run`.
    pub fn classify(&mut self, image: &[u8]) -> Result<usize, InputError> {
        let logits = self.run(image)?;
        let best = |best, (class, &logit)| if logit > logits[best] { class } else { best };
        Ok(logits.iter().enumerate().fold(0, best))
    }

    /// Computes all outputs from one array per input, in the order of the model's inputs.
    ///
    /// # Errors
    /// If an array does not fit its input.
    pub fn run_on(&mut self, arrays: &[Tensor]) -> Result<(), InputError> {
        self.run_watched(arrays, |_| ())
    }

    /// Like `run_on`. Calls `after` with the number of each node of the model once it has run, so
    /// that nodes can be timed.
    ///
    /// # Errors
    /// See `run_on`.
    pub fn run_watched(
        &mut self,
        arrays: &[Tensor],
        mut after: impl FnMut(usize),
    ) -> Result<(), InputError> {
        let (expected, found) = (self.inputs.len(), arrays.len());
        if expected != found {
            return Err(InputError::WrongCount { expected, found });
        }
        for ((loader, _), array) in self.inputs.iter().zip(arrays) {
            loader.check(array)?;
        }
        let arena = self.arena.bytes();
        for ((loader, place), array) in self.inputs.iter().zip(arrays) {
            loader.load(array, &mut arena[place.clone()]);
        }
        for (index, Step { layer, inputs, output, scratch }) in self.steps.iter().enumerate() {
            layer.run(Operands::new(self.isa, arena, inputs, output, scratch));
            after(index);
        }
        for ((unloader, place), array) in self.outputs.iter().zip(&mut self.arrays) {
            unloader.unload(&arena[place.clone()], array);
        }
        Ok(())
    }

    /// One output of the last run, with the axes in the order that the output says. Zeros before
    /// the first run.
    ///
    /// # Panics
    /// If the model has no such output.
    #[must_use]
    pub fn output(&self, index: usize) -> &[f32] {
        &self.arrays[index]
    }

    /// All outputs of the last run.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.arrays.iter().map(Vec::as_slice)
    }

    /// The largest difference between the outputs of a test vector and what this session computes;
    /// NaN if one of them is not a number.
    ///
    /// # Errors
    /// If the test vector does not fit the model.
    pub fn difference(&mut self, test: &TestVector) -> Result<f32, InputError> {
        let tensors: Vec<Tensor> = test.inputs.iter().map(Tensor::from).collect();
        self.run_on(&tensors)?;
        let (expected, found) = (self.arrays.len(), test.outputs.len());
        if expected != found {
            return Err(InputError::WrongCount { expected, found });
        }
        for (array, given) in self.arrays.iter().zip(&test.outputs) {
            let (expected, found) = (array.len(), given.len());
            if expected != found {
                return Err(InputError::WrongLength { expected, found });
            }
        }
        let pairs = self.outputs().flatten().zip(test.outputs.iter().flatten());
        let differences = pairs.map(|(got, expected)| (got - expected).abs());
        // `f32::max` would leave out what is not a number.
        Ok(differences.fold(0.0, |most, one| if one > most || one.is_nan() { one } else { most }))
    }

    /// Bytes of one image, or numbers of the first input.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        self.inputs[0].0.elements()
    }

    /// Numbers of the first output: the classes of a classifier.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.arrays[0].len()
    }

    /// Bytes of the plan: activations, scratch memory, tables and outputs. Weights are not
    /// included.
    #[must_use]
    pub fn peak_memory_bytes(&self) -> usize {
        self.planned_bytes as usize
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("integers", &self.integers)
            .field("inputs", &self.inputs.len())
            .field("outputs", &self.outputs.len())
            .field("planned_bytes", &self.planned_bytes)
            .finish_non_exhaustive()
    }
}

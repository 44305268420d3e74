//! A model that is ready to run: weights packed for this processor, all memory allocated. A session
//! computes on the calling thread and does not allocate while it runs.

mod engine;
mod schedule;

use std::fmt;

use self::engine::Engine;
use crate::error::{InputError, ModelError};
use crate::kernels::Isa;
use crate::layers::{FloatLayer, IntLayer};
use crate::model::{InputSpec, Model, Network};

/// Largest number of elements of a session's working memory.
pub const MAX_SESSION_ELEMENTS: u64 = 1 << 26;

/// Runs one model, one image at a time.
pub struct Session {
    engine: AnyEngine,
    image_bytes: usize,
    logits: Vec<f32>,
}

enum AnyEngine {
    Fp32(Engine<FloatLayer>),
    Int8(Engine<IntLayer>),
}

impl Session {
    /// Validates the model, packs its weights and allocates all memory.
    ///
    /// # Errors
    /// If the model is not valid or needs more than [`MAX_SESSION_ELEMENTS`] of working memory.
    pub fn new(model: &Model) -> Result<Self, ModelError> {
        Self::with_isa(model, Isa::detect())
    }

    /// Like `new`, but uses only the instructions that the compiler was told to use. It is slower
    /// and serves as a reference for the fast kernels: int8 logits are the same, bit for bit.
    ///
    /// # Errors
    /// See `new`.
    pub fn portable(model: &Model) -> Result<Self, ModelError> {
        Self::with_isa(model, Isa::PORTABLE)
    }

    fn with_isa(model: &Model, isa: Isa) -> Result<Self, ModelError> {
        let shapes = model.validate()?;
        let engine = match &model.network {
            Network::Fp32(nodes) => {
                let tables = tables(&model.input, |real| real);
                AnyEngine::Fp32(Engine::new(isa, nodes, &shapes, (), tables)?)
            }
            Network::Int8 { input, nodes } => {
                let tables = tables(&model.input, |real| input.quantize(real));
                AnyEngine::Int8(Engine::new(isa, nodes, &shapes, *input, tables)?)
            }
        };
        Ok(Self { engine, image_bytes: model.input.bytes(), logits: vec![0.0; shapes.classes()] })
    }

    /// The logits of an image of bytes `[channels][height][width]`, one per class.
    ///
    /// # Errors
    /// If the image does not have the size of the model's input.
    pub fn run(&mut self, image: &[u8]) -> Result<&[f32], InputError> {
        if image.len() != self.image_bytes {
            return Err(InputError::WrongLength { expected: self.image_bytes, found: image.len() });
        }
        match &mut self.engine {
            AnyEngine::Fp32(engine) => engine.run(image, &mut self.logits),
            AnyEngine::Int8(engine) => engine.run(image, &mut self.logits),
        }
        Ok(&self.logits)
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

    /// Bytes of one image.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        self.image_bytes
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.logits.len()
    }

    /// Bytes of working memory: planned activations, scratch memory and logits. Weights are not
    /// included.
    #[must_use]
    pub fn peak_memory_bytes(&self) -> usize {
        size_of_val(self.logits.as_slice())
            + match &self.engine {
                AnyEngine::Fp32(engine) => engine.memory_bytes(),
                AnyEngine::Int8(engine) => engine.memory_bytes(),
            }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arithmetic = match self.engine {
            AnyEngine::Fp32(_) => "fp32",
            AnyEngine::Int8(_) => "int8",
        };
        f.debug_struct("Session")
            .field("arithmetic", &arithmetic)
            .field("image_bytes", &self.image_bytes)
            .field("classes", &self.logits.len())
            .finish_non_exhaustive()
    }
}

/// For each channel, what `convert` makes of the normalised value of each byte.
fn tables<T>(input: &InputSpec, convert: impl Fn(f32) -> T) -> Vec<[T; 256]> {
    let table =
        |channel| std::array::from_fn(|byte| convert(input.normalized(channel, byte as u8)));
    (0..input.channels as usize).map(table).collect()
}

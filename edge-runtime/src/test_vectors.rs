//! Test vectors: inputs with what a model computes for them, so that people who get its file
//! can check another engine or another machine. The inputs are made up and no user's data, because
//! a file goes to places where the data may not go.

use crate::error::{InputError, ModelError};
use crate::layers::Layer;
use crate::model::{Array, Element, Input, Model, Notes, Numbers, Quantization, TestVector};
use crate::session::{Session, Tensor};

/// Most test vectors that [`Model::add_tests`] makes.
pub const MAX_TESTS: usize = 4;

/// How far outputs in fp32 may be off, as a share of the largest one, or of 1 if that is smaller.
/// Sums may be in another order.
const FLOAT_TOLERANCE: f32 = 1e-4;

/// The same for a model in which sums of fp32 become bytes: a number that is a little off may
/// become the next byte.
const MIXED_TOLERANCE: f32 = 1e-2;

/// What came of one test vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestResult {
    /// Largest difference of any output; NaN if one is not a number.
    pub difference: f32,
    /// The largest one that is allowed.
    pub tolerance: f32,
}

impl TestResult {
    /// Whether the outputs are as the test vector says.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.difference <= self.tolerance
    }
}

impl Model {
    /// Gives the notes test vectors in place of those that they have: at most [`MAX_TESTS`], whose
    /// numbers take at most `most_bytes` together. There are none if a single one takes more, and
    /// an input with an output that is not finite is left out. They depend on the model alone. If
    /// it computes in integers only, they are the same on every machine.
    ///
    /// # Errors
    /// If the model is not valid or needs too much memory.
    pub fn add_tests(&mut self, most_bytes: u64) -> Result<(), ModelError> {
        self.notes.tests.clear();
        self.notes.tolerances.clear();
        // The portable loops add up in the same order on all processors.
        let mut session = Session::portable(self)?;
        let inputs = self.inputs.iter().map(array_bytes).sum::<u64>();
        let outputs = session.outputs().map(|array| array.len() as u64 * 4).sum::<u64>();
        // A vector has at least one number.
        let count = (most_bytes / (inputs + outputs)).min(MAX_TESTS as u64);
        for test in 0..count {
            let inputs = self.inputs.iter().zip(0..).map(|(input, at)| made_up(input, at, test));
            let inputs: Vec<Numbers> = inputs.collect();
            let tensors: Vec<Tensor> = inputs.iter().map(Tensor::from).collect();
            session.run_on(&tensors).expect("the arrays fit the inputs");
            let outputs: Vec<Vec<f32>> = session.outputs().map(<[f32]>::to_vec).collect();
            if outputs.iter().flatten().all(|number| number.is_finite()) {
                self.notes.tolerances.push(self.tolerance(&outputs));
                self.notes.tests.push(TestVector { inputs, outputs });
            }
        }
        Ok(())
    }

    /// By how much these outputs may differ on another machine.
    fn tolerance(&self, outputs: &[Vec<f32>]) -> f32 {
        if self.nodes.iter().all(|node| is_exact(&node.layer)) {
            return 0.0;
        }
        let share = if self.rounds_sums() { MIXED_TOLERANCE } else { FLOAT_TOLERANCE };
        share * largest(outputs).max(1.0)
    }

    /// Whether numbers that differ between machines become bytes.
    fn rounds_sums(&self) -> bool {
        let mut differ = vec![false; self.inputs.len()];
        let mut rounds = false;
        for node in &self.nodes {
            let reads = node.inputs.iter().any(|input| differ[input.0 as usize]);
            let own = reads || !is_exact(&node.layer);
            rounds |= own && matches!(node.output, Element::Uint8(_));
            differ.push(own);
        }
        rounds
    }
}

impl Session {
    /// Runs the test vectors of the notes, which are those of its model. Vectors without a
    /// tolerance get the one of a model in fp32.
    ///
    /// # Errors
    /// If a test vector does not fit the model.
    pub fn check(&mut self, notes: &Notes) -> Result<Vec<TestResult>, InputError> {
        let result = |(at, test): (usize, &TestVector)| {
            let given = notes.tolerances.get(at).copied();
            let tolerance =
                given.unwrap_or_else(|| FLOAT_TOLERANCE * largest(&test.outputs).max(1.0));
            Ok(TestResult { difference: self.difference(test)?, tolerance })
        };
        notes.tests.iter().enumerate().map(result).collect()
    }
}

/// The largest absolute number.
fn largest(outputs: &[Vec<f32>]) -> f32 {
    outputs.iter().flatten().fold(0.0, |most, number| number.abs().max(most))
}

/// Bytes of the array of an input.
fn array_bytes(input: &Input) -> u64 {
    let elements = input.shape.elements() as u64;
    match input.array {
        Array::Fp32 => elements * 4,
        Array::Bytes(_) => elements,
    }
}

/// An array for an input: a ramp over all bytes in the first vector, and noise in the others.
fn made_up(input: &Input, at: u64, test: u64) -> Numbers {
    let elements = input.shape.elements() as u64;
    let level = move |element: u64| match test {
        0 => (element * 255 / (elements - 1).max(1)) as u8,
        _ => (mixed((test << 48) + (at << 32) + element) >> 56) as u8,
    };
    let levels = (0..elements).map(level);
    match (&input.array, input.element) {
        (Array::Bytes(_), _) => Numbers::Bytes(levels.collect()),
        (Array::Fp32, Element::Uint8(quantization)) => {
            Numbers::Fp32(levels.map(|level| quantization.dequantize(level)).collect())
        }
        // From -1 to almost 1, in steps that are exact.
        (Array::Fp32, Element::Fp32) => {
            let real = Quantization { scale: 1.0 / 128.0, zero_point: 128 };
            Numbers::Fp32(levels.map(|level| real.dequantize(level)).collect())
        }
    }
}

/// Bits that look random (SplitMix64 of Steele et al. 2014).
fn mixed(number: u64) -> u64 {
    let bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Whether a layer computes the same on every machine: it computes in integers, moves numbers, or
/// rounds a single product or quotient.
fn is_exact(layer: &Layer) -> bool {
    match layer {
        Layer::IntAddTwice(_)
        | Layer::IntAveragePool(_)
        | Layer::Concat(_)
        | Layer::Constant(_)
        | Layer::IntConv(_)
        | Layer::IntConvTranspose(_)
        | Layer::Quantize(_)
        | Layer::Dequantize(_)
        | Layer::Gather(_)
        | Layer::IntLinear(_)
        | Layer::MaxPool(_)
        | Layer::Pad(_)
        | Layer::IntProduct(_)
        | Layer::IntReduce(_)
        | Layer::Reshape(_)
        | Layer::IntResize(_)
        | Layer::Select(_)
        | Layer::IntSum(_)
        | Layer::Table(_)
        | Layer::Transpose(_) => true,
        Layer::AveragePool(_)
        | Layer::Binary(_)
        | Layer::FloatConv(_)
        | Layer::FloatConvTranspose(_)
        | Layer::LayerNormalization(_)
        | Layer::Leveled(_)
        | Layer::FloatLinear(_)
        | Layer::Map(_)
        | Layer::MatrixProduct(_)
        | Layer::Prelu(_)
        | Layer::Reduce(_)
        | Layer::Resize(_)
        | Layer::Round(_)
        | Layer::Softmax(_) => false,
    }
}

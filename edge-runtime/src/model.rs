//! A model in memory, with the content of the model file. What a node computes is in `layers`.
//!
//! Values are numbered: the inputs first, then the outputs of the nodes in the order in which they
//! run. A value is in fp32, or in bytes with a scale and a zero point. Weights are row-major,
//! outermost dimension first.

use crate::error::Problem;
use crate::layers::Layer;
use crate::shape::Shape;

/// A network that is ready to run on inputs of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What it reads, at least one.
    pub inputs: Vec<Input>,
    /// The layers, in the order in which they run.
    pub nodes: Vec<Node>,
    /// What it answers, at least one.
    pub outputs: Vec<Output>,
    /// How layers in integers round.
    pub rounding: Rounding,
    /// What does not change the numbers.
    pub notes: Notes,
}

/// One input.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Not empty, and no other input has it.
    pub name: String,
    /// Sizes of the value.
    pub shape: Shape,
    /// How arrays come from outside: their axis `i` is axis `order[i]` of the value. `[0, 1, 2]` is
    /// a picture channel by channel, `[1, 2, 0]` one with the channels of each pixel together.
    pub order: Vec<u32>,
    /// What the arrays hold.
    pub array: Array,
    /// What the value holds.
    pub element: Element,
}

/// What an array from outside holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// The real numbers themselves.
    Fp32,
    /// Bytes, which are normalised.
    Bytes(Normalization),
}

/// What the bytes of an array mean: `(byte / 255 - mean) / std`, computed in fp32.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    /// One per channel.
    pub mean: Vec<f32>,
    /// One per channel, above 0.
    pub std: Vec<f32>,
    /// For a value of bytes: for each channel, the byte of the value for each byte of the array, so
    /// that a target without fp32 can read it. Empty for a value in fp32.
    pub tables: Vec<u8>,
}

/// One output. It is always handed out in fp32.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Not empty, and no other output has it.
    pub name: String,
    /// The value.
    pub value: ValueId,
    /// How the array is handed out: its axis `i` is axis `order[i]` of the value.
    pub order: Vec<u32>,
}

/// Which value a node reads: the inputs come first, then the outputs of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// One layer in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The values that it reads.
    pub inputs: Vec<ValueId>,
    /// What it computes.
    pub layer: Layer,
    /// What its output holds.
    pub output: Element,
}

/// What a value holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Element {
    /// 32-bit floating point.
    Fp32,
    /// Bytes that stand for real numbers.
    Uint8(Quantization),
}

/// Affine quantization to uint8: `real = scale * (q - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantization {
    /// Above 0.
    pub scale: f32,
    /// The byte that means 0.
    pub zero_point: u8,
}

/// A positive real factor as integers (Jacob et al. 2018, section 2.2): `multiplier / 2^31 *
/// 2^shift`, with `multiplier` in `2^30..2^31`. Zero is `multiplier == 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requantization {
    /// Fixed-point mantissa.
    pub multiplier: i32,
    /// Power of two; negative shifts right.
    pub shift: i32,
}

/// How layers in integers round the product of an accumulator and a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Once, in 64 bits, halves up. Every new model does.
    Once,
    /// Twice, as gemmlowp and TFLite do. Only models of files of version 1 do.
    Twice,
}

/// What a model says besides what it computes. A reader may skip all of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Notes {
    /// Names of the classes, in the order of the first output. Empty if they have none.
    pub classes: Vec<String>,
    /// How a picture becomes the first input's bytes, as pairs of a name and a text;
    /// docs/model-format.md lists the names.
    pub preprocessing: Vec<(String, String)>,
    /// Where the model comes from, as pairs of a name and a text.
    pub provenance: Vec<(String, String)>,
    /// Inputs with the outputs that were computed for them.
    pub tests: Vec<TestVector>,
    /// For each test vector, by how much an output may differ from it on another machine; 0 if not
    /// by a bit. Empty if that is not known.
    pub tolerances: Vec<f32>,
    /// Sections that this engine does not know, in the order of their tags.
    pub others: Vec<Section>,
}

/// Arrays for all inputs, and what the model computes for them.
#[derive(Debug, Clone, PartialEq)]
pub struct TestVector {
    /// One array per input.
    pub inputs: Vec<Numbers>,
    /// One array per output.
    pub outputs: Vec<Vec<f32>>,
}

/// The content of an array.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Bytes.
    Bytes(Vec<u8>),
    /// 32-bit floating point.
    Fp32(Vec<f32>),
}

/// A section of a file as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Four ASCII letters; the first is a small one, which says that a reader may skip it.
    pub tag: [u8; 4],
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A model's only input where that is a picture in bytes, channel by channel.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// Image channels.
    pub channels: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Per channel; the network sees `(byte / 255 - mean) / std`.
    pub mean: Vec<f32>,
    /// Per channel, above 0.
    pub std: Vec<f32>,
}

impl Model {
    /// The picture that it reads, if that is its only input and comes as bytes
    /// `[channels][height][width]`.
    #[must_use]
    pub fn image(&self) -> Option<InputSpec> {
        let [Input { shape, order, array: Array::Bytes(normalization), .. }] = &self.inputs[..]
        else {
            return None;
        };
        let ([channels, height, width], [0, 1, 2]) = (shape.sizes(), &order[..]) else {
            return None;
        };
        let Normalization { mean, std, .. } = normalization.clone();
        Some(InputSpec { channels: *channels, height: *height, width: *width, mean, std })
    }

    /// Whether it runs by reference: it rounds values in fp32 to levels that no engine computes
    /// with, so its latency is not that of a device that would.
    #[must_use]
    pub fn runs_by_reference(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.layer, Layer::Round(_)))
    }

    /// Whether it was quantized: values are in bytes or rounded to levels, or weights are levels.
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        let leveled = |layer: &Layer| matches!(layer, Layer::Leveled(_) | Layer::Round(_));
        self.has_integers() || self.nodes.iter().any(|node| leveled(&node.layer))
    }

    /// Whether any value is in bytes.
    #[must_use]
    pub fn has_integers(&self) -> bool {
        let inputs = self.inputs.iter().map(|input| input.element);
        let mut elements = inputs.chain(self.nodes.iter().map(|node| node.output));
        elements.any(|element| element != Element::Fp32)
    }
}

impl Input {
    /// The input of a picture in bytes, channel by channel, under the name `image`.
    ///
    /// # Errors
    /// If the sizes are not those of a value.
    pub fn image(image: &InputSpec, element: Element) -> Result<Self, Problem> {
        let shape = Shape::new(&[image.channels, image.height, image.width])?;
        let InputSpec { mean, std, .. } = image.clone();
        let normalization = Normalization::new(mean, std, element);
        Ok(Self {
            name: "image".to_owned(),
            shape,
            order: vec![0, 1, 2],
            array: Array::Bytes(normalization),
            element,
        })
    }
}

impl Output {
    /// An output whose array has the axes of its value, of which there are `axes`.
    #[must_use]
    pub fn new(name: &str, value: ValueId, axes: usize) -> Self {
        Self { name: name.to_owned(), value, order: (0..axes as u32).collect() }
    }
}

impl Normalization {
    /// With the tables that a value of `element` needs.
    #[must_use]
    pub fn new(mean: Vec<f32>, std: Vec<f32>, element: Element) -> Self {
        let mut normalization = Self { mean, std, tables: Vec::new() };
        if let Element::Uint8(quantization) = element {
            let channels = normalization.mean.len().min(normalization.std.len());
            normalization.tables = (0..channels)
                .flat_map(|channel| (0..=u8::MAX).map(move |byte| (channel, byte)))
                .map(|(channel, byte)| quantization.quantize(normalization.real(channel, byte)))
                .collect();
        }
        normalization
    }

    /// The normalised value of `byte` in `channel`: `(byte / 255 - mean) / std`.
    ///
    /// # Panics
    /// If there is no such channel.
    #[must_use]
    pub fn real(&self, channel: usize, byte: u8) -> f32 {
        (f32::from(byte) / 255.0 - self.mean[channel]) / self.std[channel]
    }
}

//! What can be wrong with a model, its file, or an image. Messages read after "failed to …: ".

use thiserror::Error;

/// Why a model cannot be read or run.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The bytes are something else.
    #[error("not an edgesmith model file: it does not begin with the magic bytes")]
    WrongMagic,
    /// Written by a newer (or never released) version of the format.
    #[error("model format version {found} is not supported, only version {supported} is")]
    UnsupportedVersion {
        /// What the file says.
        found: u32,
        /// What this engine reads.
        supported: u32,
    },
    /// The file ends early.
    #[error("model file is truncated: {expected} bytes expected, {found} found")]
    Truncated {
        /// Bytes that the header asks for, or the header's own size.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The file goes on after its end.
    #[error("model file is {found} bytes long, but its header says {expected}")]
    TrailingBytes {
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The content changed after it was written.
    #[error(
        "model file has a wrong checksum: {expected:08x} is written in it, \
         its content gives {found:08x}"
    )]
    WrongChecksum {
        /// The checksum at the end of the file.
        expected: u32,
        /// The checksum of what is there.
        found: u32,
    },
    /// The checksum is right and the layout is not.
    #[error("model file is malformed at byte {offset}: {problem}")]
    Malformed {
        /// Where, from the beginning of the file.
        offset: usize,
        /// What was found there.
        problem: FormatProblem,
    },
    /// The input's description makes no sense.
    #[error("the model's input is invalid: {0}")]
    Input(Problem),
    /// A node's description makes no sense.
    #[error("the model's node {node} ({kind}) is invalid: {problem}")]
    Node {
        /// Its place in execution order, from 0.
        node: usize,
        /// The kind of layer.
        kind: &'static str,
        /// What is wrong.
        problem: Problem,
    },
    /// There is nothing to compute.
    #[error("the model has no nodes")]
    NoNodes,
    /// The activations that must be kept at once are too many.
    #[error(
        "the model needs {elements} activations in memory at once, at most {limit} are allowed"
    )]
    TooMuchMemory {
        /// Elements of the planned memory.
        elements: u64,
        /// The engine's bound.
        limit: u64,
    },
}

/// What breaks the layout of a model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatProblem {
    /// A section, list or number is longer than what is left.
    #[error("{needed} bytes needed, {available} left")]
    TooShort {
        /// Bytes that the field takes.
        needed: u64,
        /// Bytes that are left of its section.
        available: u64,
    },
    /// A section has bytes that belong to no field.
    #[error("{0} bytes left over at the end of a section")]
    LeftOver(usize),
    /// Another section was expected here.
    #[error("section {expected:?} expected, {found:?} found")]
    WrongSection {
        /// Tag of the section that the format has here.
        expected: [u8; 4],
        /// Tag that is there.
        found: [u8; 4],
    },
    /// A code that stands for nothing.
    #[error("unknown {what} code {code}")]
    UnknownCode {
        /// What the code selects.
        what: &'static str,
        /// The code.
        code: u8,
    },
    /// A variable-length integer too large for its field, or not in its shortest form.
    #[error("a number is out of range or not in its shortest form")]
    BadNumber,
}

/// What is wrong with the input or a node of a model.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// A size is 0.
    #[error("{0} is 0")]
    Zero(&'static str),
    /// A list is not as long as the shapes say.
    #[error("{what} has {found} elements where the shapes give {expected}")]
    WrongSize {
        /// Which list.
        what: &'static str,
        /// By the shapes.
        expected: u64,
        /// In the list.
        found: u64,
    },
    /// Too many or too few inputs.
    #[error("it reads {found} values instead of {expected}")]
    InputCount {
        /// What the layer reads.
        expected: usize,
        /// What the node has.
        found: usize,
    },
    /// Reads a value that is not there yet.
    #[error("it reads value {value}, but only values below {limit} exist by then")]
    ForwardReference {
        /// The value.
        value: u32,
        /// The node's own value.
        limit: usize,
    },
    /// The layer does not fit what it reads.
    #[error("it takes {expected} {what}, but value {value} has {found}")]
    ShapeMismatch {
        /// Channels or features.
        what: &'static str,
        /// The value that is read.
        value: u32,
        /// By the layer.
        expected: u64,
        /// In the value.
        found: u64,
    },
    /// The two sides of a sum differ.
    #[error("its inputs have the shapes {0} and {1}")]
    UnequalShapes(crate::Shape, crate::Shape),
    /// A depthwise convolution that changes the number of channels.
    #[error("it is depthwise, but has {in_channels} input and {out_channels} output channels")]
    NotDepthwise {
        /// Channels read.
        in_channels: u32,
        /// Channels written.
        out_channels: u32,
    },
    /// The kernel does not fit into the padded map even once.
    #[error("its kernel of {kernel} does not fit into the padded map of {height} x {width}")]
    KernelTooLarge {
        /// Side of the kernel.
        kernel: u32,
        /// Rows with padding.
        height: u64,
        /// Columns with padding.
        width: u64,
    },
    /// Padding so wide that outputs would see nothing but padding.
    #[error("its padding of {padding} is not below its kernel of {kernel}")]
    PaddingTooLarge {
        /// On every side.
        padding: u32,
        /// Side of the kernel.
        kernel: u32,
    },
    /// A map or layer beyond what the engine takes.
    #[error("{what} has {elements} elements, at most {limit} are allowed")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// Its size, saturated.
        elements: u64,
        /// The bound.
        limit: u64,
    },
    /// NaN or infinity, or a scale that is not positive.
    #[error("{what} holds {value}, which is not a finite{} number", if *.positive { " positive" } else { "" })]
    BadNumber {
        /// Which field.
        what: &'static str,
        /// What it holds.
        value: f32,
        /// Whether it must also be above 0.
        positive: bool,
    },
    /// A fixed-point factor that is not in its normal form.
    #[error(
        "a requantization has multiplier {multiplier} and shift {shift}, which are out of range"
    )]
    BadRequantization {
        /// Its mantissa.
        multiplier: i32,
        /// Its power of two.
        shift: i32,
    },
    /// The lowest output is above the highest.
    #[error("its outputs are clamped to the empty range {0}..={1}")]
    EmptyClamp(u8, u8),
    /// Some image could overflow the int32 accumulator.
    #[error("output {channel} could overflow its int32 accumulator")]
    AccumulatorOverflow {
        /// Output channel.
        channel: usize,
    },
    /// The last node must be linear, and no other may.
    #[error("the last node is linear and no other")]
    LinearNotLast,
}

/// Why an image cannot be classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InputError {
    /// The image has not as many bytes as the model's input.
    #[error("the image has {found} bytes where the model takes {expected}")]
    WrongLength {
        /// Channels times rows times columns of the model's input.
        expected: usize,
        /// Bytes of the image.
        found: usize,
    },
}

//! Errors in a model, its file, or an image. Messages are written to follow "failed to …: ".

use thiserror::Error;

/// Why a model cannot be read or run.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The bytes are not a model file.
    #[error("not an edgesmith model file: it does not begin with the magic bytes")]
    WrongMagic,
    /// The file was written by another version of the format.
    #[error("model format version {found} is not supported; use version {supported}")]
    UnsupportedVersion {
        /// Version in the file.
        found: u32,
        /// Version that this engine reads.
        supported: u32,
    },
    /// The file ends early.
    #[error("model file is truncated: {expected} bytes expected, {found} found")]
    Truncated {
        /// Length in the header, or the size of the header itself; bytes.
        expected: u64,
        /// Length of the file, bytes.
        found: u64,
    },
    /// The file is longer than its header says.
    #[error("model file is {found} bytes long, but its header says {expected}")]
    TrailingBytes {
        /// Length in the header, bytes.
        expected: u64,
        /// Length of the file, bytes.
        found: u64,
    },
    /// The content changed after it was written.
    #[error(
        "model file has a checksum mismatch: the file says {expected:08x}, \
         its content has {found:08x}"
    )]
    WrongChecksum {
        /// Checksum at the end of the file.
        expected: u32,
        /// Checksum of the content.
        found: u32,
    },
    /// The checksum is right, but the layout is not.
    #[error("model file is malformed at byte {offset}: {problem}")]
    Malformed {
        /// Position from the beginning of the file, bytes.
        offset: usize,
        /// What is wrong there.
        problem: FormatProblem,
    },
    /// The description of the input is invalid.
    #[error("the model's input is invalid: {0}")]
    Input(Problem),
    /// A node is invalid.
    #[error("the model's node {node} ({kind}) is invalid: {problem}")]
    Node {
        /// Its index in execution order, from 0.
        node: usize,
        /// The kind of layer.
        kind: &'static str,
        /// What is wrong.
        problem: Problem,
    },
    /// The model has no nodes.
    #[error("the model has no nodes")]
    NoNodes,
    /// Too many activations must be in memory at the same time.
    #[error(
        "the model needs {elements} activations in memory at once; at most {limit} are allowed"
    )]
    TooMuchMemory {
        /// Elements of the planned memory.
        elements: u64,
        /// The engine's limit.
        limit: u64,
    },
}

/// How the layout of a model file is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatProblem {
    /// A section, list or number is longer than the bytes that are left.
    #[error("{needed} bytes needed, {available} left")]
    TooShort {
        /// Length of the field.
        needed: u64,
        /// Bytes left in its section.
        available: u64,
    },
    /// A section has bytes after its last field.
    #[error("{0} bytes left over at the end of a section")]
    LeftOver(usize),
    /// Another section was expected here.
    #[error("section {expected:?} expected, {found:?} found")]
    WrongSection {
        /// Tag that the format requires here.
        expected: [u8; 4],
        /// Tag in the file.
        found: [u8; 4],
    },
    /// An unknown code.
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
    /// A list has the wrong length for the shapes.
    #[error("{what} has {found} elements, but the shapes require {expected}")]
    WrongSize {
        /// Which list.
        what: &'static str,
        /// Length that the shapes require.
        expected: u64,
        /// Length of the list.
        found: u64,
    },
    /// Wrong number of inputs.
    #[error("it reads {found} values instead of {expected}")]
    InputCount {
        /// Inputs that the layer needs.
        expected: usize,
        /// Inputs of the node.
        found: usize,
    },
    /// The node reads a value that is computed later, or not at all.
    #[error("it reads value {value}, but only values below {limit} are computed before it")]
    ForwardReference {
        /// The value.
        value: u32,
        /// Number of the node's own value.
        limit: usize,
    },
    /// The layer does not fit its input.
    #[error("it needs {expected} {what}, but value {value} has {found}")]
    ShapeMismatch {
        /// Channels or features.
        what: &'static str,
        /// The value that is read.
        value: u32,
        /// What the layer needs.
        expected: u64,
        /// What the value has.
        found: u64,
    },
    /// The two sides of a sum differ.
    #[error("its inputs have the shapes {0} and {1}")]
    UnequalShapes(crate::Shape, crate::Shape),
    /// A depthwise convolution changes the number of channels.
    #[error("it is depthwise, but has {in_channels} input and {out_channels} output channels")]
    NotDepthwise {
        /// Channels read.
        in_channels: u32,
        /// Channels written.
        out_channels: u32,
    },
    /// The kernel is larger than the padded map.
    #[error("its kernel of {kernel} does not fit into the padded map of {height} x {width}")]
    KernelTooLarge {
        /// Side of the kernel.
        kernel: u32,
        /// Rows with padding.
        height: u64,
        /// Columns with padding.
        width: u64,
    },
    /// The padding is so wide that some outputs would read only padding.
    #[error("its padding of {padding} is not below its kernel of {kernel}")]
    PaddingTooLarge {
        /// On every side.
        padding: u32,
        /// Side of the kernel.
        kernel: u32,
    },
    /// A map or layer is larger than the engine allows.
    #[error("{what} has {elements} elements; at most {limit} are allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its number of elements, saturated.
        elements: u64,
        /// The limit.
        limit: u64,
    },
    /// A value is NaN or infinite, or a scale is not positive.
    #[error(
        "{what} is {value}, which is not a finite{} number",
        if *.positive { " positive" } else { "" }
    )]
    BadNumber {
        /// Which field.
        what: &'static str,
        /// The value.
        value: f32,
        /// Whether it must also be above 0.
        positive: bool,
    },
    /// A fixed-point factor is not in its normal form.
    #[error(
        "a requantization has multiplier {multiplier} and shift {shift}, which are out of range"
    )]
    BadRequantization {
        /// Its mantissa.
        multiplier: i32,
        /// Its power of two.
        shift: i32,
    },
    /// The lower clamp is above the upper one.
    #[error("its outputs are clamped to the empty range {0}..={1}")]
    EmptyClamp(u8, u8),
    /// An image could overflow the int32 accumulator.
    #[error("output {channel} could overflow its int32 accumulator")]
    AccumulatorOverflow {
        /// Output channel.
        channel: usize,
    },
    /// The last node is not linear, or an earlier one is.
    #[error("the last node must be linear, and no other may be")]
    LinearNotLast,
}

/// Why an image cannot be classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InputError {
    /// The image does not have the size of the model's input.
    #[error("the image has {found} bytes, but the model takes {expected}")]
    WrongLength {
        /// Channels times rows times columns of the model's input, bytes.
        expected: usize,
        /// Bytes of the image.
        found: usize,
    },
}

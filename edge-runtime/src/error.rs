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
    #[error(
        "model format version {found} is not supported; use version {supported} or an older one"
    )]
    UnsupportedVersion {
        /// Version in the file.
        found: u32,
        /// The newest version that this engine reads.
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
    /// The description of an input is invalid.
    #[error("the model's input {name} is invalid: {problem}")]
    Input {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: Problem,
    },
    /// The description of an output is invalid.
    #[error("the model's output {name} is invalid: {problem}")]
    Output {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: Problem,
    },
    /// What the model says about itself does not fit it.
    #[error("the model's notes are invalid: {0}")]
    Note(Problem),
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
    /// The model has no inputs.
    #[error("the model has no inputs")]
    NoInputs,
    /// The model has no outputs.
    #[error("the model has no outputs")]
    NoOutputs,
    /// The model has too many nodes.
    #[error("the model has {found} nodes; at most {limit} are allowed")]
    TooManyNodes {
        /// Nodes of the model.
        found: usize,
        /// The engine's limit.
        limit: usize,
    },
    /// The model has too many inputs or outputs.
    #[error("the model has {found} {what}; at most {limit} are allowed")]
    TooManyPorts {
        /// Which.
        what: &'static str,
        /// How many.
        found: usize,
        /// The engine's limit.
        limit: usize,
    },
    /// Too much must be in memory at the same time.
    #[error("the model needs {bytes} bytes of memory to run; at most {limit} are allowed")]
    TooMuchMemory {
        /// Bytes of the plan.
        bytes: u64,
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
    /// A section that a reader may not skip is not known.
    #[error("section {0:?} is not known, and it may not be skipped")]
    UnknownSection([u8; 4]),
    /// The sections that may be skipped are not in the order of their tags, or one comes twice.
    #[error("section {0:?} is not in the order of the tags")]
    SectionOutOfOrder([u8; 4]),
    /// A section that may be skipped has nothing in it.
    #[error("a section has no content")]
    EmptySection,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotText,
    /// A tensor has the wrong number of axes.
    #[error("a tensor has {found} axes instead of {expected}")]
    TensorAxes {
        /// Axes that the layer needs.
        expected: usize,
        /// Axes of the tensor.
        found: usize,
    },
    /// A depthwise convolution of a file of version 1 changes the number of channels.
    #[error("a depthwise convolution has {in_channels} input and {out_channels} output channels")]
    NotDepthwise {
        /// Channels read.
        in_channels: u32,
        /// Channels written.
        out_channels: u32,
    },
    /// Numbers are packed in a way that cannot be undone.
    #[error("packed numbers are damaged: {0}")]
    Packed(&'static str),
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
    /// Two values do not fit together.
    #[error("the shapes {0} and {1} do not fit together")]
    UnequalShapes(crate::Shape, crate::Shape),
    /// A value has no axes, or too many.
    #[error("a value has {found} axes; it must have 1 to {}", crate::MAX_AXES)]
    AxisCount {
        /// Its axes.
        found: usize,
    },
    /// A value has no such axis.
    #[error("its axis {axis} is not one of the {axes} axes of its input")]
    NoAxis {
        /// The axis, from 0.
        axis: u32,
        /// Axes of the input.
        axes: usize,
    },
    /// Axes are not ascending.
    #[error("its axes are not in ascending order")]
    AxesOutOfOrder,
    /// An order of axes does not have each axis once.
    #[error("the order of its axes does not have each of {axes} axes once")]
    NotAnOrder {
        /// Axes of the value.
        axes: usize,
    },
    /// The channels are reduced, and shall not stay.
    #[error("it reduces the channels, so the axes must stay")]
    ChannelsReduced,
    /// There are no levels of so many bits.
    #[error("its levels have {0} bits; they must have 1, 2, 4, 8 or 16")]
    LevelBits(u8),
    /// A level or a zero point is not one of its bits.
    #[error("level {level} is not one of {bits} bits")]
    LevelRange {
        /// The level.
        level: i16,
        /// Bits of all levels.
        bits: u8,
    },
    /// The zero point is none of the levels.
    #[error("its zero point {found} is above its last level {limit}")]
    ZeroPoint {
        /// The zero point.
        found: u16,
        /// The last level.
        limit: u16,
    },
    /// Integers cannot do this.
    #[error("it has no form in integers")]
    NotInIntegers,
    /// An input holds the wrong kind of numbers.
    #[error("it reads {expected}, but value {value} does not hold that")]
    WrongElement {
        /// The value that is read.
        value: u32,
        /// What the layer reads.
        expected: &'static str,
    },
    /// The output holds the wrong kind of numbers.
    #[error("it writes {expected}, but its output does not hold that")]
    WrongOutput {
        /// What the layer writes.
        expected: &'static str,
    },
    /// A layer that moves numbers as they are has an input and an output of different scales.
    #[error("it moves numbers as they are, but value {value} has another type than its output")]
    OtherElement {
        /// The value that is read.
        value: u32,
    },
    /// Groups of channels are not equal.
    #[error(
        "{in_channels} input and {out_channels} output channels do not make {groups} equal groups"
    )]
    UnequalGroups {
        /// Groups.
        groups: u32,
        /// Channels read.
        in_channels: u32,
        /// Channels written.
        out_channels: u32,
    },
    /// The kernel is larger than the padded map.
    #[error("its kernel of {kernel} places does not fit into {padded} padded places")]
    KernelTooLarge {
        /// Places that the kernel covers along an axis.
        kernel: u64,
        /// Places of the axis, with padding.
        padded: u64,
    },
    /// A window of a pool has only padding.
    #[error("one of its windows has only padding")]
    EmptyWindow,
    /// The factors of an average pool are not those of its windows.
    #[error("its factors are not for the numbers of places that its windows have")]
    FactorsOfOtherCounts,
    /// A number is out of its range.
    #[error("{what} is {value}, which is out of range; the limit is {limit}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// The number.
        value: i64,
        /// Its limit.
        limit: i64,
    },
    /// A name is empty.
    #[error("it has no name")]
    NoName,
    /// Two inputs or two outputs have one name.
    #[error("another one has the same name")]
    NameTwice,
    /// An input of a test vector has another type than the model's.
    #[error("an input of a test has another type than the model's input")]
    TestOfOtherType,
    /// A tolerance of a test vector is below 0.
    #[error("the tolerance {0} of a test is negative")]
    NegativeTolerance(f32),
    /// The tag of a section that readers may skip is not valid.
    #[error("the section {0:?} has a tag that is not allowed, comes twice or is out of order")]
    BadTag([u8; 4]),
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
    /// The lower end of a clip is above the upper one, or one of them is NaN.
    #[error("its outputs are clipped to the empty range {0} to {1}")]
    EmptyRange(f32, f32),
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

/// Why a session cannot run on what it is given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
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
    /// The model does not read one array of bytes.
    #[error("the model does not read one image of bytes; give it an array for each input")]
    NotAnImage,
    /// There are more or fewer arrays than inputs.
    #[error("{found} arrays are given, but the model has {expected} inputs")]
    WrongCount {
        /// Inputs of the model.
        expected: usize,
        /// Arrays that are given.
        found: usize,
    },
    /// An array holds other numbers than the input.
    #[error("the input {name} takes {expected}")]
    WrongType {
        /// The input's name.
        name: String,
        /// What it takes.
        expected: &'static str,
    },
    /// An array has the wrong size.
    #[error("the array for the input {name} has {found} numbers, but the model takes {expected}")]
    WrongSize {
        /// The input's name.
        name: String,
        /// Numbers of the input.
        expected: usize,
        /// Numbers of the array.
        found: usize,
    },
}

//! Why an operation does not work on its operands.

use super::Role;
use crate::{Shape, ShapeError};

/// Written to follow "node `x`: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// Too few or too many inputs.
    #[error("it takes {expected} {}, but has {given}", if *expected == 1 { "input" } else { "inputs" })]
    Inputs {
        /// How many it takes.
        expected: usize,
        /// How many there are.
        given: usize,
    },
    /// No inputs, where any number above 0 would do.
    #[error("it has no inputs")]
    NoInputs,
    /// Too few or too many parameters.
    #[error("it takes {} parameters, but has {given}", range(*least, *most))]
    Parameters {
        /// Without optional ones.
        least: usize,
        /// With optional ones.
        most: usize,
        /// How many there are.
        given: usize,
    },
    /// A parameter for something else.
    #[error("its parameter {name} is a {given:?}, where a {expected:?} is needed")]
    Role {
        /// The parameter's name.
        name: String,
        /// What is needed.
        expected: Role,
        /// What it is.
        given: Role,
    },
    /// A parameter of another shape.
    #[error("its {role:?} has shape {given}, where {expected} is needed")]
    ParameterShape {
        /// Which one.
        role: Role,
        /// The shape that fits.
        expected: String,
        /// Its shape.
        given: String,
    },
    /// Inputs that must be alike are not.
    #[error("its inputs have shapes {first} and {other}, which do not fit together")]
    Unlike {
        /// Shape of the first input.
        first: String,
        /// Shape of another one.
        other: String,
    },
    /// A value with another number of axes.
    #[error("it works on {expected} axes of positions, but its input is {shape}")]
    Axes {
        /// How many it works on.
        expected: usize,
        /// The input's shape.
        shape: String,
    },
    /// A window that is larger than the input.
    #[error("its window of {window} does not fit on {size} positions, padding included")]
    Window {
        /// Positions that the window covers.
        window: u64,
        /// Positions there are.
        size: u64,
    },
    /// A window that can lie on padding alone.
    #[error("with a padding of {padding}, a window of {window} can lie on padding alone")]
    Padding {
        /// Padding at one side.
        padding: u32,
        /// Positions that the window covers.
        window: u64,
    },
    /// A setting that has to be at least 1.
    #[error("its {setting} is 0")]
    Zero {
        /// Which one.
        setting: &'static str,
    },
    /// A setting that makes no sense.
    #[error("its {setting} is {value}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What it is.
        value: String,
    },
    /// Groups of unequal size.
    #[error("{groups} groups do not divide {channels} channels")]
    Groups {
        /// How many groups.
        groups: u32,
        /// How many channels.
        channels: u32,
    },
    /// An index that does not exist.
    #[error("it reads index {index} of axis {axis}, where its input has a size of {size}")]
    Index {
        /// Which one, counted from 0.
        index: u32,
        /// Of which axis; the channels are axis 0.
        axis: u32,
        /// The axis's size.
        size: u32,
    },
    /// An axis that does not exist.
    #[error("it works along axis {axis}, but its input is {shape}")]
    NoAxis {
        /// Which one; the channels are axis 0.
        axis: u32,
        /// The input's shape.
        shape: String,
    },
    /// A setting with an entry for each axis, of which there is another number.
    #[error("its {setting} has {given} entries, where {expected} are needed for {shape}")]
    Entries {
        /// Which setting.
        setting: &'static str,
        /// How many entries it has.
        given: usize,
        /// How many are needed.
        expected: usize,
        /// The input's shape.
        shape: String,
    },
    /// Another number of numbers.
    #[error("its sizes are {sizes}, but its input is {shape}, which has another number of numbers")]
    Elements {
        /// The output's sizes.
        sizes: String,
        /// The input's shape.
        shape: String,
    },
    /// An output that is too large.
    #[error("its output {0}")]
    Output(#[from] ShapeError),
}

impl InferError {
    pub(super) fn parameter(role: Role, expected: &[u32], given: &[u32]) -> Self {
        Self::ParameterShape { role, expected: sizes(expected), given: sizes(given) }
    }

    pub(super) fn unlike(first: &Shape, other: &Shape) -> Self {
        Self::Unlike { first: first.to_string(), other: other.to_string() }
    }
}

/// `2`, or `1 to 2`
fn range(least: usize, most: usize) -> String {
    if least == most { most.to_string() } else { format!("{least} to {most}") }
}

/// `[8, 3, 3, 3]`
fn sizes(shape: &[u32]) -> String {
    format!("{shape:?}")
}

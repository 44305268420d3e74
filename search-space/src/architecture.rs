//! The phenotype of a staged convolutional network, before it is lowered to a graph.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A staged CNN: a 3x3 stem convolution, stages of repeated blocks, global average pooling and a
/// linear classifier. Sizes are in pixels and channels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Architecture {
    /// Side of the square input in pixels; images are resized to it.
    pub resolution: u32,
    /// Output channels of the stem convolution.
    pub stem_width: u32,
    /// The stages in order. The stem has the activation of the first stage.
    pub stages: Vec<Stage>,
}

/// `depth` blocks of one kind; the first block has the stride.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stage {
    /// Number of blocks, at least 1.
    pub depth: u32,
    /// Output channels of every block.
    pub width: u32,
    /// Side of the square kernel, odd.
    pub kernel: u32,
    /// Operation of each block.
    pub operation: Operation,
    /// Stride of the first block, 1 or 2.
    pub stride: u32,
    /// Activation inside the blocks.
    pub activation: Activation,
    /// Squeeze-and-excitation in each block (Hu et al. 2018): the channels are squeezed to one in
    /// so many. 0 for none.
    #[serde(default)]
    pub squeeze: u32,
    /// How a block's input goes past it.
    #[serde(default)]
    pub skip: Skip,
}

/// How the input of a block goes past it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Skip {
    /// It is added to the output of an inverted residual, where both have the same shape.
    #[default]
    Add,
    /// It stands beside the output of any block without a stride, which gets more channels that way
    /// (DenseNet, Huang et al. 2017).
    Concat,
}

impl Skip {
    /// Every way.
    pub const ALL: [Skip; 2] = [Skip::Add, Skip::Concat];

    /// The name in study files.
    pub fn name(self) -> &'static str {
        match self {
            Skip::Add => "add",
            Skip::Concat => "concat",
        }
    }
}

impl FromStr for Skip {
    type Err = ParseNameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|skip| skip.name() == s)
            .ok_or_else(|| ParseNameError::new("skip", s, Self::ALL.map(Self::name).to_vec()))
    }
}

/// The operation of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// A dense convolution.
    Conv,
    /// A depthwise convolution followed by a pointwise one (MobileNet, Howard et al. 2017).
    Separable,
    /// Pointwise expansion, depthwise, linear pointwise projection, and a residual connection if
    /// the shapes allow it (MobileNetV2, Sandler et al. 2018).
    InvertedResidual {
        /// Hidden channels as a multiple of the block's input channels, at least 1.
        expansion: u32,
    },
}

/// Names used in study files, without the settings of the operation.
impl Operation {
    /// Every operation's name in study files.
    pub const NAMES: [&'static str; 3] = ["conv", "separable", "inverted-residual"];

    /// The name in study files.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Conv => Self::NAMES[0],
            Operation::Separable => Self::NAMES[1],
            Operation::InvertedResidual { .. } => Self::NAMES[2],
        }
    }

    /// The operation with this name. `expansion` is used by inverted residuals only. `None` if the
    /// name is unknown.
    pub fn from_name(name: &str, expansion: u32) -> Option<Self> {
        [Operation::Conv, Operation::Separable, Operation::InvertedResidual { expansion }]
            .into_iter()
            .find(|operation| operation.name() == name)
    }
}

/// The non-linearity after a normalised convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x * min(max(x + 3, 0), 6) / 6` (MobileNetV3, Howard et al. 2019)
    HardSwish,
    /// `x / (1 + exp(-x))`
    Silu,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Activation; 4] =
        [Activation::Relu, Activation::Relu6, Activation::HardSwish, Activation::Silu];

    /// The name in study files.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Relu6 => "relu6",
            Activation::HardSwish => "hard-swish",
            Activation::Silu => "silu",
        }
    }
}

impl FromStr for Activation {
    type Err = ParseNameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|a| a.name() == s)
            .ok_or_else(|| ParseNameError::new("activation", s, Self::ALL.map(Self::name).to_vec()))
    }
}

/// An unknown name in a study file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {given:?}; use one of {}", known.join(", "))]
pub struct ParseNameError {
    what: &'static str,
    given: String,
    known: Vec<&'static str>,
}

impl ParseNameError {
    pub(crate) fn new(what: &'static str, given: &str, known: Vec<&'static str>) -> Self {
        Self { what, given: given.to_owned(), known }
    }
}

/// Why an architecture is not a valid network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchitectureError {
    /// A stride on a feature map that has one position left.
    #[error(
        "stage {stage} has stride {stride} on a 1x1 feature map; use a larger resolution or fewer \
         strides"
    )]
    NothingLeftToStride {
        /// Counted from 1.
        stage: usize,
        /// Its stride.
        stride: u32,
    },
    /// A feature map that is larger than the inference engine accepts.
    #[error(
        "{layer} works on a feature map of {elements} values; the limit is {MAX_VALUE_ELEMENTS}; \
         use a smaller resolution, width or expansion, or an earlier stride"
    )]
    TooLarge {
        /// The layer's name.
        layer: String,
        /// Values of its padded input or of its output.
        elements: u64,
    },
    /// A variant of an imported network that does not work.
    #[error("{problem}")]
    Variant {
        /// What is wrong with it.
        #[source]
        problem: edgesmith_graph::GraphError,
    },
    /// A layer with more weights than any machine has room for.
    #[error("{layer} has too many weights; use a smaller width, expansion or kernel")]
    TooManyWeights {
        /// The layer's name.
        layer: String,
    },
}

/// Largest number of values of a feature map, including the padding of the layer that reads it.
/// This is the inference engine's limit.
pub const MAX_VALUE_ELEMENTS: u64 = 1 << 24;

/// `r8 stem16 | conv k3 w24 x2 relu | inverted-residual e4 k5 w32 x1 /2 hard-swish se4 concat`
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{} stem{}", self.resolution, self.stem_width)?;
        for s in &self.stages {
            write!(f, " | {}", s.operation.name())?;
            if let Operation::InvertedResidual { expansion } = s.operation {
                write!(f, " e{expansion}")?;
            }
            write!(f, " k{} w{} x{}", s.kernel, s.width, s.depth)?;
            if s.stride != 1 {
                write!(f, " /{}", s.stride)?;
            }
            write!(f, " {}", s.activation.name())?;
            if s.squeeze > 0 {
                write!(f, " se{}", s.squeeze)?;
            }
            match s.skip {
                Skip::Add => {}
                Skip::Concat => f.write_str(" concat")?,
            }
        }
        Ok(())
    }
}

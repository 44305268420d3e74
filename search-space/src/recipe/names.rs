//! The closed sets of names in recipes: precisions, criteria and rules. Each value has one name,
//! which study files and JSON use.

use serde::{Deserialize, Serialize};

use crate::named::named;

/// Arithmetic of the shipped network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point.
    Fp32,
    /// Integer-only: symmetric int8 weights, per-tensor uint8 activations.
    Int8,
}

/// What says which channels matter least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Importance {
    /// The L1 norm of a filter (Li et al. 2017).
    L1,
    /// The L2 norm of a filter.
    L2,
    /// The scale of batch normalisation (Liu et al. 2017).
    Scale,
    /// The first-order effect on the loss over training images (Molchanov et al. 2019).
    Taylor,
    /// The distance to the other filters of the layer (He et al. 2019).
    GeometricMedian,
    /// How often the channel is above zero (Hu et al. 2016).
    Activity,
    /// The weights that read the channel, times how large it is on training images.
    Influence,
    /// Chance: the control.
    Random,
    /// How far the outputs move without a block: the mean square of their change, over training
    /// images. Of blocks only.
    Output,
    /// The square of a weight as a share of those in its layer that are not smaller (Lee et al.
    /// 2021). Of single weights only.
    Lamp,
}

/// What a share of a pruning is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The channels of each layer, with a share for each stage of the network.
    Stage,
    /// The channels of each layer.
    Layer,
    /// The channels of the network.
    Channels,
    /// The multiply-accumulates of the network.
    Macs,
    /// The weights and biases of the network.
    Parameters,
    /// The bytes of the model file that the network would be.
    Bytes,
    /// The time that the network takes in the engine, measured where the pass runs.
    Latency,
}

/// What a pruning removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PruneUnit {
    /// Whole channels; the network gets smaller.
    #[serde(rename = "channels")]
    Channels,
    /// Single weights of convolutions and linear layers, which become 0.
    #[serde(rename = "weights")]
    Weights,
    /// Two of each four weights that follow each other along the inputs of a filter.
    #[serde(rename = "2:4")]
    TwoOfFour,
    /// Whole residual blocks; the network gets shallower.
    #[serde(rename = "blocks")]
    Blocks,
}

/// What trainings within a pruning go back to (Renda et al. 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rewind {
    /// Nothing: they are fine-tunings.
    None,
    /// The learning rates at the end of the first training.
    Rate,
    /// These, and the weights that the network had then.
    Weights,
}

/// What a training makes small along with its loss, so that it can be removed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shrink {
    /// Nothing.
    None,
    /// The scales of batch normalisation, by their magnitudes (Liu et al. 2017).
    Scales,
    /// The filters that may be removed, each as a group by its norm (Wen et al. 2016).
    Filters,
}

/// Which single weights compete with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Among {
    /// Those of each layer.
    Layer,
    /// Those of the whole network.
    Network,
}

/// What is counted over a whole network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counted {
    /// Channels that may be removed.
    Channels,
    /// Multiply-accumulates.
    Macs,
    /// Weights and biases.
    Parameters,
    /// Bytes of the model file.
    Bytes,
    /// Measured time.
    Latency,
}

/// How the range of a value is found on the calibration images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeRule {
    /// The least squared error after quantization.
    Mse,
    /// From the lowest to the highest number.
    MinMax,
    /// All but the largest 0.01 %.
    Percentile,
    /// The least Kullback–Leibler divergence (Migacz 2017).
    Entropy,
}

/// What shares a scale of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// The weights of an output channel.
    Channel,
    /// The weights of a layer.
    Layer,
}

/// How weights become integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To the nearest one.
    Nearest,
    /// Up or down as it is best for the output of the layer (AdaRound, Nagel et al. 2020).
    Adaround,
}

/// What a student copies of its teacher besides the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Features {
    /// Nothing.
    None,
    /// Where it looks: the squared activations at the ends of stages, summed over channels
    /// (Zagoruyko & Komodakis 2017).
    Attention,
    /// How it places the examples of a batch: distances and angles of what the last layer reads
    /// (Park et al. 2019).
    Relations,
    /// What it computes in the middle: a layer that is trained along makes the teacher's values of
    /// the student's (FitNets, Romero et al. 2015).
    Hints,
}

/// In which form a student learns the teacher's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// As probabilities of classes at a temperature (Hinton et al. 2015).
    Classes,
    /// As the values that it computes, before a softmax (Ba & Caruana 2014).
    Values,
}

/// How a number changes over a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Course {
    /// By the same amount in every step.
    Linear,
    /// Along half a cosine: slowly at first and in the end.
    Cosine,
}

named!(Precision, "precision": Fp32 "fp32", Int8 "int8");
named!(
    Importance, "importance":
    L1 "l1", L2 "l2", Scale "scale", Taylor "taylor", GeometricMedian "geometric-median",
    Activity "activity", Influence "influence", Random "random", Output "output", Lamp "lamp"
);
named!(
    Scope, "scope":
    Stage "stage", Layer "layer", Channels "channels", Macs "macs", Parameters "parameters",
    Bytes "bytes", Latency "latency"
);
named!(
    PruneUnit, "granularity":
    Channels "channels", Weights "weights", TwoOfFour "2:4", Blocks "blocks"
);
named!(Rewind, "point to go back to": None "none", Rate "rate", Weights "weights");
named!(Shrink, "thing that shrinks": None "none", Scales "scales", Filters "filters");
named!(
    Counted, "unit":
    Channels "channels", Macs "macs", Parameters "parameters", Bytes "bytes", Latency "latency"
);
named!(
    RangeRule, "calibration":
    Mse "mse", MinMax "min-max", Percentile "percentile", Entropy "entropy"
);
named!(Granularity, "granularity": Channel "channel", Layer "layer");
named!(
    Features, "kind of features":
    None "none", Attention "attention", Relations "relations", Hints "hints"
);
named!(Answers, "form of answers": Classes "classes", Values "values");
named!(Course, "schedule": Linear "linear", Cosine "cosine");
named!(Rounding, "rounding": Nearest "nearest", Adaround "adaround");

impl Counted {
    /// Whether only a measurement tells how much of it a network has.
    pub fn is_measured(self) -> bool {
        matches!(self, Counted::Bytes | Counted::Latency)
    }

    /// What numbers of it are numbers of.
    pub fn unit(self) -> &'static str {
        match self {
            Counted::Latency => "ms",
            Counted::Channels | Counted::Macs | Counted::Parameters | Counted::Bytes => self.name(),
        }
    }
}

impl Precision {
    /// Bytes of one stored weight.
    pub fn weight_bytes(self) -> u64 {
        match self {
            Precision::Fp32 => 4,
            Precision::Int8 => 1,
        }
    }
}

//! Version 3 of the kinds of record that have changed again, frozen, with the upcasts from
//! version 2.
//!
//! What changed: the result of a training has the stages of the network after each pass; a
//! measurement has the energy of a run, and the timing of a user's network as it came, with the
//! layers that are slower than there.

use serde::{Deserialize, Serialize};

use super::v2::{Figure, Hash, Target};
use super::{frozen, v1, v2};

frozen! { 3:
    8 TeacherTrained,
    9 TrialTrained,
    10 Measured,
}

/// Kind 8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherTrained {
    pub study: String,
    pub trained: TrainedTrial,
    pub soft_targets: Hash,
    pub measure: Vec<(u64, Target)>,
}

/// Kind 9.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialTrained {
    pub study: String,
    pub number: u32,
    pub trained: TrainedTrial,
    pub measure: Vec<(u64, Target)>,
}

/// Kind 10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub study: String,
    pub task: u64,
    pub measurement: v1::Measurement,
    pub noise: Option<v2::Noise>,
    pub energy_mj: Option<f64>,
    pub original: Option<OriginalTiming>,
    pub slower_layers: Vec<LayerTimes>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerTimes {
    pub layer: String,
    pub shipped_ms: f64,
    pub original_ms: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OriginalTiming {
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub min_ms: f64,
    pub noisy: bool,
    pub energy_mj: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedTrial {
    pub compressed: Vec<Figure>,
    pub uncompressed: Vec<Figure>,
    pub model: Hash,
    pub weights: Hash,
    pub stages: Vec<Stage>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub pass: String,
    pub distilled: bool,
    pub figures: Vec<Figure>,
    pub classes: Vec<ClassCount>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassCount {
    pub images: u32,
    pub right: u32,
}

impl v2::TeacherTrained {
    pub fn upcast(self) -> TeacherTrained {
        let v2::TeacherTrained { study, trained, soft_targets, measure } = self;
        TeacherTrained { study, trained: trained.upcast(), soft_targets, measure }
    }
}

impl v2::TrialTrained {
    pub fn upcast(self) -> TrialTrained {
        let v2::TrialTrained { study, number, trained, measure } = self;
        TrialTrained { study, number, trained: trained.upcast(), measure }
    }
}

impl v2::Measured {
    /// In version 2, only the model itself was timed, and no energy was counted.
    pub fn upcast(self) -> Measured {
        let v2::Measured { study, task, measurement, noise } = self;
        let (energy_mj, original, slower_layers) = (None, None, Vec::new());
        Measured { study, task, measurement, noise, energy_mj, original, slower_layers }
    }
}

impl v2::TrainedTrial {
    /// In version 2, the network was not evaluated between its passes.
    fn upcast(self) -> TrainedTrial {
        let v2::TrainedTrial { compressed, uncompressed, model, weights } = self;
        TrainedTrial { compressed, uncompressed, model, weights, stages: Vec::new() }
    }
}

//! Version 3 of the kinds of record that have changed again, frozen, with the upcasts from
//! version 2.
//!
//! What changed: the result of a training has the stages of the network after each pass.

use serde::{Deserialize, Serialize};

use super::v2::{Figure, Hash, Target};
use super::{frozen, v2};

frozen! { 3:
    8 TeacherTrained,
    9 TrialTrained,
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

impl v2::TrainedTrial {
    /// In version 2, the network was not evaluated between its passes.
    fn upcast(self) -> TrainedTrial {
        let v2::TrainedTrial { compressed, uncompressed, model, weights } = self;
        TrainedTrial { compressed, uncompressed, model, weights, stages: Vec::new() }
    }
}

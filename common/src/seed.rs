//! Seeds derived from the study's seed and a purpose. No two purposes share a stream, and no stream
//! depends on the order in which others are used.

use serde::{Deserialize, Serialize};

use crate::TrialNumber;

/// The study's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

/// What randomness is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Proposing a trial.
    Proposal(TrialNumber),
    /// Initial weights of a trial.
    Weights(TrialNumber),
    /// Order of training images of a trial.
    Shuffle(TrialNumber),
    /// Order of training images while a trial is fine-tuned for the first time.
    FineTune(TrialNumber),
    /// The same for each further time, counted from 1.
    FineTuneAgain(TrialNumber, u32),
    /// Chance as the importance of a trial's channels.
    Importance(TrialNumber),
    /// Initial weights of the teacher.
    TeacherWeights,
    /// Order of training images of the teacher.
    TeacherShuffle,
    /// Initial weights of a teacher beside the first, counted from 0.
    OtherTeacherWeights(u32),
    /// Order of its training images.
    OtherTeacherShuffle(u32),
    /// Initial weights of an assistant, counted from 0.
    AssistantWeights(u32),
    /// Order of its training images.
    AssistantShuffle(u32),
    /// Which images are validation images.
    Split,
    /// Which training images a network is observed on, the same for all networks of a study.
    Calibration,
    /// Augmented views, the same for all networks of a study.
    Views,
    /// Initial weights of the policy of a reinforcement-learning controller.
    Policy,
}

impl Seed {
    /// 32 bytes for a generator that serves only this `purpose`.
    pub fn derive(self, purpose: Purpose) -> [u8; 32] {
        let (tag, number) = match purpose {
            Purpose::Proposal(n) => ("proposal", n.0),
            Purpose::Weights(n) => ("weights", n.0),
            Purpose::Shuffle(n) => ("shuffle", n.0),
            Purpose::FineTune(n) => ("fine-tune", n.0),
            Purpose::FineTuneAgain(n, _) => ("fine-tune again", n.0),
            Purpose::Importance(n) => ("importance", n.0),
            Purpose::TeacherWeights => ("teacher weights", 0),
            Purpose::TeacherShuffle => ("teacher shuffle", 0),
            Purpose::OtherTeacherWeights(n) => ("other teacher weights", n),
            Purpose::OtherTeacherShuffle(n) => ("other teacher shuffle", n),
            Purpose::AssistantWeights(n) => ("assistant weights", n),
            Purpose::AssistantShuffle(n) => ("assistant shuffle", n),
            Purpose::Split => ("split", 0),
            Purpose::Calibration => ("calibration", 0),
            Purpose::Views => ("views", 0),
            Purpose::Policy => ("policy", 0),
        };
        let mut hasher = blake3::Hasher::new_derive_key("edgesmith 2026 seeds");
        hasher.update(&self.0.to_le_bytes());
        hasher.update(tag.as_bytes());
        hasher.update(&number.to_le_bytes());
        if let Purpose::FineTuneAgain(_, time) = purpose {
            hasher.update(&time.to_le_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

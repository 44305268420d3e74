//! A trial as commands use it: the coordinator's figures together with the candidate that the
//! genotype stands for in the study's space.

use anyhow::Context as _;
use edgesmith_common::{Figures, RungReport, StudySpec, TrainedTrial, TrialState, TrialValues};
use edgesmith_proto::v1;
use edgesmith_search_space::Candidate;

/// One trial, decoded.
#[derive(Debug, Clone)]
pub struct TrialRow {
    /// Its number.
    pub number: u32,
    /// Its state.
    pub state: TrialState,
    /// The network, in words.
    pub architecture: String,
    /// The decoded candidate; `None` if the trial was looked up in a table.
    pub candidate: Option<Candidate>,
    /// The genotype's option indices.
    pub genotype: Vec<u16>,
    /// The option that it picks for each choice, by name.
    pub choices: Vec<(String, String)>,
    /// Trials it was derived from.
    pub parents: Vec<u32>,
    /// The trial whose weights it started from; `None` if it started from fresh weights.
    pub inherits_from: Option<u32>,
    /// The score of its untrained network; `None` if it has none (yet).
    pub score: Option<f64>,
    /// Which part of the portfolio proposed it; empty for a single algorithm.
    pub proposed_by: String,
    /// Attempts of all its tasks: scoring, training and measuring. Lost ones count.
    pub attempts: u32,
    /// Those of its training, or of its look-up.
    pub training_attempts: u32,
    /// What was measured so far; `None` until it is trained.
    pub values: Option<TrialValues>,
    /// Its results at the rungs below the last, ascending.
    pub rungs: Vec<RungReport>,
}

impl TrialRow {
    /// Decodes a trial of `spec`'s study.
    pub fn new(trial: v1::Trial, spec: &StudySpec) -> anyhow::Result<Self> {
        let number = trial.number;
        Self::decode(trial, spec)
            .with_context(|| format!("failed to read trial {number} from the coordinator's answer"))
    }

    fn decode(trial: v1::Trial, spec: &StudySpec) -> anyhow::Result<Self> {
        let known = edgesmith_proto::genotype(&trial.genotype, &spec.space)?;
        let candidate = spec.training().map(|work| work.space.decode(&known));
        let state = edgesmith_proto::trial_state(&trial)?;
        let measurements =
            trial.measurements.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let trained: Option<TrainedTrial> = trial.trained.map(TryInto::try_into).transpose()?;
        let rungs = trial.rungs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let figures: Option<Figures> = trial.figures.map(TryInto::try_into).transpose()?;
        let values = match (trained, figures) {
            (Some(trained), _) => Some(TrialValues::measured(trained, measurements)),
            (None, figures) => figures.map(|figures| TrialValues::Known(figures.into())),
        };
        Ok(Self {
            number: trial.number,
            state,
            architecture: spec.space.describe(&known),
            choices: spec.space.named(&known),
            candidate,
            genotype: known.indices().to_vec(),
            parents: trial.parents,
            inherits_from: trial.inherits_from,
            score: trial.score,
            proposed_by: trial.proposed_by,
            attempts: trial.attempts,
            training_attempts: trial.training_attempts,
            values,
            rungs,
        })
    }

    /// The state in words, with the epoch if it waits or stopped at a rung.
    pub fn state_words(&self) -> String {
        match (&self.state, self.rungs.last()) {
            (TrialState::Pruned | TrialState::Waiting, Some(rung)) if self.values.is_none() => {
                format!("{} at epoch {}", self.state.name(), rung.epochs)
            }
            // A trial that is pruned without a rung was pruned by its score.
            (TrialState::Pruned, None) if self.score.is_some() => {
                format!("{} by its score", self.state.name())
            }
            (TrialState::Failed { reason }, _) if reason == TrialState::CANCELLED => {
                "cancelled".to_owned()
            }
            _ => self.state.name().to_owned(),
        }
    }

    /// How the network is compressed, in words; empty if it was looked up.
    pub fn recipe(&self) -> String {
        self.candidate.as_ref().map(|c| c.recipe.to_string()).unwrap_or_default()
    }
}

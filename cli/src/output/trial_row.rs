//! A trial as the command line sees it: the wire's figures joined with the candidate that its
//! genotype means in the study's space.

use anyhow::Context as _;
use edgesmith_common::{Metric, StudySpec, TrialState, TrialValues};
use edgesmith_proto::v1;
use edgesmith_search_space::Candidate;

/// One trial, decoded.
#[derive(Debug, Clone)]
pub struct TrialRow {
    /// Its number.
    pub number: u32,
    /// Where it stands.
    pub state: TrialState,
    /// What it is.
    pub candidate: Candidate,
    /// The genotype's option indices.
    pub genotype: Vec<u16>,
    /// Trials it was derived from.
    pub parents: Vec<u32>,
    /// Attempts used.
    pub attempts: u32,
    /// What was measured so far; `None` until it is trained.
    pub values: Option<TrialValues>,
}

impl TrialRow {
    /// Decodes a trial of `spec`'s study.
    pub fn new(trial: v1::Trial, spec: &StudySpec) -> anyhow::Result<Self> {
        let number = trial.number;
        Self::decode(trial, spec)
            .with_context(|| format!("failed to read trial {number} from the coordinator's answer"))
    }

    fn decode(trial: v1::Trial, spec: &StudySpec) -> anyhow::Result<Self> {
        let genotype: Vec<u16> =
            trial.genotype.iter().map(|&g| u16::try_from(g)).collect::<Result<_, _>>()?;
        let candidate = spec.space.decode(&spec.space.genotype(genotype.clone())?);
        let state = edgesmith_proto::trial_state(&trial)?;
        let measurements =
            trial.measurements.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let trained = trial.trained.map(TryInto::try_into).transpose()?;
        Ok(Self {
            number: trial.number,
            state,
            candidate,
            genotype,
            parents: trial.parents,
            attempts: trial.attempts,
            values: trained.map(|trained| TrialValues { trained, measurements }),
        })
    }

    /// A metric's value on the first device that has one, for plots.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        let values = self.values.as_ref()?;
        match metric {
            Metric::LatencyMs => values.measurements.first().map(|m| m.p50_ms),
            other => values.value(other, None),
        }
    }
}

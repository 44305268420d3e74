//! The results of finished trials. It selects the trials that models are fitted to, and the
//! incumbents.
//!
//! At most about [`MAX_POINTS`] complete trials are fitted, the best ones and an evenly spaced
//! selection of the others, so that the work does not grow with the study.

use edgesmith_common::{TrialNumber, pareto};
use edgesmith_search_space::Genotype;

use super::kernel::Features;

/// Largest number of trials that a model is fitted to; up to a quarter more before they are reduced
/// again.
const MAX_POINTS: usize = 300;
/// Largest number of incumbents for one objective.
const INCUMBENTS: usize = 10;

/// All trials whose result shows something about their candidate.
#[derive(Debug, Default)]
pub struct Observations {
    /// In the order in which they finished.
    all: Vec<Observation>,
    /// Places in `all` of the complete trials that are fitted: all of them while they are few.
    selected: Vec<usize>,
    /// Places in `all` of the incumbents.
    incumbents: Vec<usize>,
    /// Number of complete trials.
    completed: usize,
    /// The largest violation so far; 0 while nothing broke a constraint.
    worst_violation: f64,
}

/// What is known about one trial.
#[derive(Debug)]
pub struct Observation {
    /// Which trial.
    pub number: TrialNumber,
    /// Its candidate.
    pub genotype: Genotype,
    /// Features of the candidate.
    pub features: Features,
    /// Less is better; `None` if it was never measured.
    pub objectives: Option<Vec<f64>>,
    /// Sum of the violations of its constraints; 0 is feasible.
    pub violation: f64,
}

impl Observations {
    /// Number of all these trials.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Number of trials that were measured.
    pub fn completed(&self) -> usize {
        self.completed
    }

    /// The complete trials that models of the objectives are fitted to, with their measured values.
    pub fn fitted(&self) -> Vec<(&Observation, &[f64])> {
        self.selected.iter().map(|&place| (&self.all[place], self.measured(place))).collect()
    }

    /// Which trials [`Observations::fitted`] are: their places in the order in which they finished.
    pub fn fitted_places(&self) -> &[usize] {
        &self.selected
    }

    /// The trials that a model of the constraints is fitted to: the latest of all kinds. `None`
    /// while no trial was infeasible or broke a constraint.
    pub fn of_constraints(&self) -> Option<&[Observation]> {
        let skip = self.all.len().saturating_sub(MAX_POINTS);
        (self.worst_violation > 0.0).then(|| &self.all[skip..])
    }

    /// The front of the feasible complete trials, or the best ones if there is one objective. If no
    /// trial is feasible, the same for the trials with the least violation.
    pub fn incumbents(&self) -> impl Iterator<Item = &Observation> {
        self.incumbents.iter().map(|&place| &self.all[place])
    }

    /// The largest violation so far, at least 1.
    pub fn worst_violation(&self) -> f64 {
        self.worst_violation.max(1.0)
    }

    /// Adds a trial. A complete one without objectives, or with another number of them than the
    /// others, is ignored.
    pub fn add(&mut self, observation: Observation) {
        if let Some(own) = &observation.objectives {
            let other = self.selected.first().is_some_and(|&i| self.measured(i).len() != own.len());
            if own.is_empty() || other {
                return;
            }
        }
        let place = self.all.len();
        let complete = observation.objectives.is_some();
        self.worst_violation = self.worst_violation.max(observation.violation);
        self.all.push(observation);
        if complete {
            self.completed += 1;
            self.select(place);
            self.update_incumbents(place);
        }
    }

    /// The measured values of the complete trial at `place`.
    fn measured(&self, place: usize) -> &[f64] {
        self.all[place].objectives.as_deref().unwrap_or_default()
    }

    fn select(&mut self, place: usize) {
        self.selected.push(place);
        if self.selected.len() > MAX_POINTS + MAX_POINTS / 4 {
            self.selected = self.thinned();
        }
    }

    fn update_incumbents(&mut self, place: usize) {
        let violation = self.all[place].violation;
        let least = self.incumbents.first().map_or(f64::INFINITY, |&i| self.all[i].violation);
        if violation > least {
            return;
        }
        let mut incumbents = std::mem::take(&mut self.incumbents);
        if violation < least {
            incumbents.clear();
        }
        let mine = self.measured(place);
        if mine.len() == 1 {
            let after = incumbents.partition_point(|&i| self.measured(i)[0] <= mine[0]);
            incumbents.insert(after, place);
            incumbents.truncate(INCUMBENTS);
        } else if !incumbents.iter().any(|&i| pareto::dominates(self.measured(i), mine)) {
            incumbents.retain(|&i| !pareto::dominates(mine, self.measured(i)));
            incumbents.push(place);
        }
        self.incumbents = incumbents;
    }

    /// The best trials by their best rank over the objectives, half of [`MAX_POINTS`], and an
    /// evenly spaced selection of the other selected trials, in order.
    fn thinned(&self) -> Vec<usize> {
        let all = &self.selected;
        let mut rank = vec![usize::MAX; all.len()];
        for axis in 0..self.measured(all[0]).len() {
            let mut order: Vec<usize> = (0..all.len()).collect();
            let value = |i: usize| self.measured(all[i])[axis];
            order.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
            order.iter().enumerate().for_each(|(place, &i)| rank[i] = rank[i].min(place));
        }
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|&i| (rank[i], i));
        let (best, others) = order.split_at(MAX_POINTS / 2);
        let step = others.len() as f64 / (MAX_POINTS - best.len()) as f64;
        let even = (0..MAX_POINTS - best.len()).map(|k| others[(k as f64 * step) as usize]);
        let mut kept: Vec<usize> = best.iter().copied().chain(even).map(|i| all[i]).collect();
        kept.sort_unstable();
        kept
    }
}

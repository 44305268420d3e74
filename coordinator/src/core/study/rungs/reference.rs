//! The rules at rungs in their plainest form: each question goes through all trials that ever
//! reached a rung. Tests compare [`Rungs`](super::Rungs) with it; a study does not use it.

use std::collections::{BTreeSet, HashMap};

use edgesmith_common::spec::{FidelityRule, FidelitySpec};
use edgesmith_common::{Metric, TrialNumber, pareto};

use super::curves;
use super::{MEDIAN_OF, by_fronts};

/// The rungs of a study before the end of training, and the trials that have reached them.
#[derive(Debug)]
pub(super) struct Reference {
    fidelity: FidelitySpec,
    /// The metric by which trials are compared during training.
    metric: Metric,
    rungs: Vec<Rung>,
    /// Number of unfinished trials by how many rungs they have reached. They are training towards
    /// the next rung, or wait to be promoted to it.
    under_way: Vec<u32>,
    /// Trials that trained to the end.
    complete: Vec<Complete>,
}

#[derive(Debug, Default)]
struct Rung {
    /// In order of arrival. Trials stay in this list after they are promoted or finished.
    reached: Vec<Reached>,
    /// Positions in `reached`, best first.
    order: Vec<usize>,
    /// Positions in `reached` of trials that are neither promoted nor finished.
    waiting: BTreeSet<usize>,
}

#[derive(Debug)]
struct Reached {
    number: TrialNumber,
    /// Of the study's training metric.
    value: f64,
    /// What it is ranked by; less is better.
    point: Vec<f64>,
    /// Number of trials that dominate this one; it never falls.
    beaten_by: usize,
}

/// A trial that trained to the end.
#[derive(Debug)]
struct Complete {
    number: TrialNumber,
    /// Of the study's training metric.
    value: f64,
    /// What it is ranked by; less is better.
    point: Vec<f64>,
}

impl Reference {
    /// For a study in which no trial has reached a rung.
    pub(super) fn new(fidelity: FidelitySpec, metric: Metric) -> Self {
        let rungs: Vec<Rung> = fidelity.rungs.iter().map(|_| Rung::default()).collect();
        let under_way = vec![0; rungs.len() + 1];
        Self { fidelity, metric, rungs, under_way, complete: Vec::new() }
    }

    /// A trial begins.
    pub(super) fn begin(&mut self) {
        self.under_way[0] += 1;
    }

    /// A finished trial goes on, after it has reached this many rungs.
    pub(super) fn resume(&mut self, reached: usize) {
        self.under_way[reached] += 1;
    }

    /// A trial has reached its next rung, after `reached` earlier ones, and waits there. `value` is
    /// that of the training metric, and `point` is what it is ranked by.
    ///
    /// # Panics
    /// If there is no such rung, or no such trial is unfinished.
    pub(super) fn reach(
        &mut self,
        number: TrialNumber,
        reached: usize,
        value: f64,
        point: Vec<f64>,
    ) {
        self.under_way[reached] -= 1;
        self.under_way[reached + 1] += 1;
        self.rungs[reached].add(Reached { number, value, point, beaten_by: 0 });
    }

    /// A trial leaves the last rung that it has reached and goes on.
    pub(super) fn promote(&mut self, number: TrialNumber, reached: usize) {
        if let Some(rung) = reached.checked_sub(1).and_then(|at| self.rungs.get_mut(at)) {
            rung.leave(number);
        }
    }

    /// A trial that was finished and goes on waits again at the last rung that it has reached.
    pub(super) fn wait_again(&mut self, number: TrialNumber, reached: usize) {
        if let Some(rung) = reached.checked_sub(1).and_then(|at| self.rungs.get_mut(at)) {
            rung.come_back(number);
        }
    }

    /// A trial is finished, however it ended.
    ///
    /// # Panics
    /// If no such trial is unfinished.
    pub(super) fn end(&mut self, number: TrialNumber, reached: usize) {
        self.under_way[reached] -= 1;
        self.promote(number, reached);
    }

    /// A trial has trained to the end. `value` is its final value of the training metric, and
    /// `point` is what it is ranked by.
    pub(super) fn complete(&mut self, number: TrialNumber, value: f64, point: Vec<f64>) {
        self.complete.push(Complete { number, value, point });
    }

    /// The trial that goes on next when a worker is free: from the highest rung down, the best
    /// first. At most `to_come` more trials will be proposed.
    pub(super) fn next_promotion(&self, to_come: u32) -> Option<TrialNumber> {
        (0..self.rungs.len()).rev().find_map(|at| {
            let rung = &self.rungs[at];
            let goes_on = match self.fidelity.rule {
                FidelityRule::Asha => {
                    let mut best = rung.order.iter().take(self.share(at, to_come));
                    best.find(|position| rung.waiting.contains(position))
                }
                FidelityRule::Median => {
                    rung.waiting.iter().find(|at| !rung.is_worse_than_median(**at, self.metric))
                }
                FidelityRule::Curve { confidence } => {
                    let least = self.least_error_left(rung, confidence);
                    let hopeless = |at: &usize| self.is_hopeless(&rung.reached[*at], least);
                    rung.waiting.iter().find(|position| !hopeless(position))
                }
            };
            goes_on.map(|position| rung.reached[*position].number)
        })
    }

    /// A trial that waits and will never go on; ask again until there is none. At most `to_come`
    /// more trials will be proposed.
    pub(super) fn next_stopped(&self, to_come: u32) -> Option<TrialNumber> {
        self.rungs.iter().enumerate().find_map(|(at, rung)| {
            let stops = match self.fidelity.rule {
                FidelityRule::Asha => {
                    let possible = self.possible(at, to_come);
                    let most = self.part(possible).max(1);
                    // With one objective a trial's rank never improves, so the rank decides. With
                    // several it may improve until no more trials come; only being dominated is
                    // final.
                    let settled = rung.reached.len() == possible || rung.has_one_objective();
                    let behind = rung.order.iter().enumerate().filter(|(rank, position)| {
                        let ahead =
                            if settled { *rank } else { rung.reached[**position].beaten_by };
                        ahead >= most
                    });
                    let mut behind = behind.map(|(_, position)| position);
                    behind.find(|position| rung.waiting.contains(position))
                }
                FidelityRule::Median => {
                    rung.waiting.iter().find(|at| rung.is_worse_than_median(**at, self.metric))
                }
                FidelityRule::Curve { confidence } => {
                    let least = self.least_error_left(rung, confidence);
                    let hopeless = |at: &usize| self.is_hopeless(&rung.reached[*at], least);
                    rung.waiting.iter().find(|position| hopeless(position))
                }
            };
            stops.map(|position| rung.reached[*position].number)
        })
    }

    /// The least share of its error at this rung that a trial keeps until the end, estimated from
    /// the complete trials.
    fn least_error_left(&self, rung: &Rung, confidence: f64) -> Option<f64> {
        // Without waiting trials the answer is not needed, which saves going through the curves.
        rung.waiting.first()?;
        let mut left = curves::ErrorLeft::new(self.metric);
        let at_rung: HashMap<TrialNumber, f64> =
            rung.reached.iter().map(|reached| (reached.number, reached.value)).collect();
        for trial in &self.complete {
            if let Some(value) = at_rung.get(&trial.number) {
                left.add(*value, trial.value);
            }
        }
        left.least(confidence)
    }

    /// Whether a complete trial dominates the best result that this one can reach.
    fn is_hopeless(&self, reached: &Reached, least: Option<f64>) -> bool {
        let Some(least) = least else { return false };
        let mut best = reached.point.clone();
        best[0] = curves::best_value(self.metric, best[0], reached.value, least);
        self.complete.iter().any(|trial| pareto::dominates(&trial.point, &best))
    }

    /// Whether a trial waits at the last rung that it has reached.
    pub(super) fn waits(&self, number: TrialNumber, reached: usize) -> bool {
        let rung = reached.checked_sub(1).and_then(|at| self.rungs.get(at));
        rung.is_some_and(|rung| {
            let mut waiting = rung.waiting.iter();
            waiting.any(|position| rung.reached[*position].number == number)
        })
    }

    /// How many of a rung's best trials may go on as of now.
    fn share(&self, at: usize, to_come: u32) -> usize {
        let reached = self.rungs[at].reached.len();
        let part = self.part(reached);
        if reached == self.possible(at, to_come) { part.max(1) } else { part }
    }

    /// The most trials that can ever reach a rung.
    fn possible(&self, at: usize, to_come: u32) -> usize {
        let below: u32 = self.under_way[..=at].iter().sum();
        self.rungs[at].reached.len() + (below + to_come) as usize
    }

    fn part(&self, of: usize) -> usize {
        of / self.fidelity.reduction as usize
    }
}

impl Rung {
    fn add(&mut self, mut new: Reached) {
        let position = self.reached.len();
        for other in &mut self.reached {
            other.beaten_by += usize::from(pareto::dominates(&new.point, &other.point));
            new.beaten_by += usize::from(pareto::dominates(&other.point, &new.point));
        }
        self.reached.push(new);
        self.waiting.insert(position);
        if self.reached[position].point.len() == 1 {
            let value = |position: usize| self.reached[position].point[0];
            // Insert it behind equal values, so that earlier trials keep their rank.
            let rank = self.order.partition_point(|other| value(*other) <= value(position));
            self.order.insert(rank, position);
        } else {
            let points: Vec<Vec<f64>> = self.reached.iter().map(|r| r.point.clone()).collect();
            self.order = by_fronts(&points);
        }
    }

    fn has_one_objective(&self) -> bool {
        self.reached.iter().all(|reached| reached.point.len() == 1)
    }

    fn come_back(&mut self, number: TrialNumber) {
        let position = self.reached.iter().position(|reached| reached.number == number);
        self.waiting.extend(position);
    }

    fn leave(&mut self, number: TrialNumber) {
        let reached = &self.reached;
        self.waiting.retain(|position| reached[*position].number != number);
    }

    /// Whether a trial is worse than the median of those before it; false if those are fewer than
    /// [`MEDIAN_OF`].
    fn is_worse_than_median(&self, position: usize, metric: Metric) -> bool {
        let oriented = |reached: &Reached| metric.definition().goal.oriented(reached.value);
        let mut earlier: Vec<f64> = self.reached[..position].iter().map(oriented).collect();
        if earlier.len() < MEDIAN_OF {
            return false;
        }
        earlier.sort_by(f64::total_cmp);
        let (low, high) = (earlier[(earlier.len() - 1) / 2], earlier[earlier.len() / 2]);
        oriented(&self.reached[position]) > f64::midpoint(low, high)
    }
}

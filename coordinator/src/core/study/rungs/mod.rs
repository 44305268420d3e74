//! Which trials go on from a rung, and which stop there: asynchronous successive halving (Li et al.
//! 2020, *A System for Massively Parallel Hyperparameter Tuning*), median stopping (Golovin et al.
//! 2017, *Google Vizier*), and stopping by learning curves ([`curves`]). [`Rungs`] keeps
//! track of the trials at each rung and only answers questions: the scheduler asks it which trial
//! to promote when a worker asks for work, and the core asks it which trial to stop.
//!
//! Successive halving promotes the best `1/reduction` of all trials that have reached a rung so
//! far. Because a study is finite, two rules are added to the paper's. A trial stops at once when
//! it cannot belong to the best share, however many trials still come. And of a rung that no more
//! trials will reach, at least the best trial goes on, so that every study ends with a trained
//! network.
//!
//! Arrivals and questions do not go through all trials that ever reached a rung. With one objective
//! and with median stopping they take O(log n) ([`ranking`]). Successive halving with several
//! objectives keeps the fronts up to date ([`levels`], which states the costs). With learning
//! curves a complete trial takes O(log n) and, for each waiting trial, a comparison with the front
//! of the complete ones; a question takes O(log n).

mod curves;
mod dominators;
mod levels;
mod ranking;
#[cfg(test)]
mod reference;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::spec::{FidelityRule, FidelitySpec};
use edgesmith_common::{Metric, TrialNumber, pareto};

use self::levels::Levels;
use self::ranking::Ranking;

/// Number of earlier reports at a rung that median stopping needs.
const MEDIAN_OF: usize = 5;

/// The rungs of a study before the end of training, and the trials that have reached them.
#[derive(Debug)]
pub(super) struct Rungs {
    fidelity: FidelitySpec,
    /// The metric by which trials are compared during training.
    metric: Metric,
    rungs: Vec<Rung>,
    /// Number of unfinished trials by how many rungs they have reached. They are training towards
    /// the next rung, or wait to be promoted to it.
    under_way: Vec<u32>,
    /// What the trials that trained to the end are ranked by, without those that another one
    /// dominates or equals.
    complete: Vec<Vec<f64>>,
}

#[derive(Debug)]
struct Rung {
    epochs: u32,
    /// In order of arrival. Trials stay in this list after they are promoted or finished.
    reached: Vec<Reached>,
    /// The place of each trial in `reached`.
    places: BTreeMap<TrialNumber, usize>,
    /// What the rule keeps of these trials, and which of them wait: they are neither promoted nor
    /// finished.
    standing: Standing,
}

#[derive(Debug)]
struct Reached {
    number: TrialNumber,
    /// Of the study's training metric.
    value: f64,
    /// What it is ranked by, less is better; empty if `standing` has it.
    point: Vec<f64>,
    /// Whether median stopping lets it stop. That is decided when it arrives.
    below_median: bool,
}

/// The trials at a rung as its rule sees them, known by their places in the order of arrival.
#[derive(Debug)]
enum Standing {
    /// Successive halving with one objective: the ranks.
    Ranks(Ranking),
    /// Successive halving with several objectives.
    Levels(Levels),
    /// Median stopping: the oriented values of all trials.
    Median(Ranking, Verdicts),
    /// Stopping by learning curves: how much of their error complete trials had left.
    Curves(curves::ErrorLeft, Verdicts),
}

/// The waiting trials where each goes on or stops whatever its rank.
#[derive(Debug, Default)]
struct Verdicts {
    goes_on: BTreeSet<usize>,
    stops: BTreeSet<usize>,
}

impl Rungs {
    /// For a study in which no trial has reached a rung.
    pub(super) fn new(fidelity: FidelitySpec, metric: Metric) -> Self {
        let standing = || match fidelity.rule {
            FidelityRule::Asha => Standing::Ranks(Ranking::default()),
            FidelityRule::Median => Standing::Median(Ranking::default(), Verdicts::default()),
            FidelityRule::Curve { .. } => {
                Standing::Curves(curves::ErrorLeft::new(metric), Verdicts::default())
            }
        };
        let rung = |epochs: &u32| Rung {
            epochs: *epochs,
            reached: Vec::new(),
            places: BTreeMap::new(),
            standing: standing(),
        };
        let rungs: Vec<Rung> = fidelity.rungs.iter().map(rung).collect();
        let under_way = vec![0; rungs.len() + 1];
        Self { fidelity, metric, rungs, under_way, complete: Vec::new() }
    }

    /// The number of epochs at which a trial that has reached this many rungs stops next; `None` if
    /// it trains to the end.
    pub(super) fn next(&self, reached: usize) -> Option<u32> {
        self.rungs.get(reached).map(|rung| rung.epochs)
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
    /// If there is no such rung, or no such trial is unfinished, or the point has another number of
    /// values than those of earlier trials.
    pub(super) fn reach(
        &mut self,
        number: TrialNumber,
        reached: usize,
        value: f64,
        point: Vec<f64>,
    ) {
        self.under_way[reached] -= 1;
        self.under_way[reached + 1] += 1;
        let rung = &mut self.rungs[reached];
        let place = rung.reached.len();
        let mut new = Reached { number, value, point: Vec::new(), below_median: false };
        match &mut rung.standing {
            Standing::Ranks(_) if place == 0 && point.len() > 1 => {
                let mut levels = Levels::new(point.len());
                levels.insert(&point);
                rung.standing = Standing::Levels(levels);
            }
            Standing::Ranks(ranks) => {
                ranks.insert(point[0], true);
            }
            Standing::Levels(levels) => levels.insert(&point),
            Standing::Median(values, _) => {
                let oriented = self.metric.definition().goal.oriented(value);
                new.below_median = is_worse_than_median(oriented, values);
                values.insert(oriented, false);
            }
            Standing::Curves(..) => new.point = point,
        }
        rung.reached.push(new);
        rung.places.insert(number, place);
        self.wait_again(number, reached + 1);
    }

    /// A trial leaves the last rung that it has reached and goes on.
    pub(super) fn promote(&mut self, number: TrialNumber, reached: usize) {
        let rung = reached.checked_sub(1).and_then(|at| self.rungs.get_mut(at));
        let Some(rung) = rung else { return };
        let Some(&place) = rung.places.get(&number) else { return };
        match &mut rung.standing {
            Standing::Ranks(ranks) => ranks.set_waiting(place, false),
            Standing::Levels(levels) => levels.set_waiting(place, false),
            Standing::Median(_, verdicts) | Standing::Curves(_, verdicts) => {
                verdicts.goes_on.remove(&place);
                verdicts.stops.remove(&place);
            }
        }
    }

    /// A trial that was finished and goes on waits again at the last rung that it has reached.
    pub(super) fn wait_again(&mut self, number: TrialNumber, reached: usize) {
        let Some(at) = reached.checked_sub(1) else { return };
        let Some(rung) = self.rungs.get_mut(at) else { return };
        let Some(&place) = rung.places.get(&number) else { return };
        let least = rung.least_error_left(self.fidelity.rule);
        match &mut rung.standing {
            Standing::Ranks(ranks) => ranks.set_waiting(place, true),
            Standing::Levels(levels) => levels.set_waiting(place, true),
            Standing::Median(_, verdicts) => verdicts.set(place, rung.reached[place].below_median),
            Standing::Curves(_, verdicts) => {
                let reached = &rung.reached[place];
                verdicts.set(place, is_hopeless(&self.complete, self.metric, reached, least));
            }
        }
    }

    /// A trial is finished, however it ended.
    ///
    /// # Panics
    /// If there is no unfinished trial at this rung.
    pub(super) fn end(&mut self, number: TrialNumber, reached: usize) {
        self.under_way[reached] -= 1;
        self.promote(number, reached);
    }

    /// A trial has trained to the end, after it has reached its last rung. `value` is its final
    /// value of the training metric, and `point` is what it is ranked by.
    pub(super) fn complete(&mut self, number: TrialNumber, value: f64, point: Vec<f64>) {
        let FidelityRule::Curve { .. } = self.fidelity.rule else { return };
        let covers = |a: &[f64], b: &[f64]| a == b || pareto::dominates(a, b);
        tally::count(self.complete.len());
        let better = !self.complete.iter().any(|other| covers(other, &point));
        if better {
            self.complete.retain(|other| !covers(&point, other));
            self.complete.push(point);
        }
        for rung in &mut self.rungs {
            let before = rung.least_error_left(self.fidelity.rule);
            let Standing::Curves(left, _) = &mut rung.standing else { continue };
            if let Some(place) = rung.places.get(&number) {
                left.add(rung.reached[*place].value, value);
            }
            let least = rung.least_error_left(self.fidelity.rule);
            let Standing::Curves(_, verdicts) = &mut rung.standing else { continue };
            if better || least != before {
                let hopeless = |place: usize| {
                    is_hopeless(&self.complete, self.metric, &rung.reached[place], least)
                };
                verdicts.decide_again(hopeless);
            }
        }
    }

    /// The trial that goes on next when a worker is free: from the highest rung down, the best
    /// first. At most `to_come` more trials will be proposed.
    pub(super) fn next_promotion(&self, to_come: u32) -> Option<TrialNumber> {
        (0..self.rungs.len()).rev().find_map(|at| {
            let rung = &self.rungs[at];
            let share = || self.share(at, to_come);
            let goes_on = match &rung.standing {
                Standing::Ranks(ranks) => ranks
                    .first_waiting(0)
                    .filter(|(_, rank)| *rank < share())
                    .map(|(place, _)| place),
                Standing::Levels(levels) => levels.first_waiting(0, share()),
                Standing::Median(_, verdicts) | Standing::Curves(_, verdicts) => {
                    verdicts.goes_on.first().copied()
                }
            };
            goes_on.map(|place| rung.reached[place].number)
        })
    }

    /// A trial that waits and will never go on; ask again until there is none. At most `to_come`
    /// more trials will be proposed.
    pub(super) fn next_stopped(&self, to_come: u32) -> Option<TrialNumber> {
        self.rungs.iter().enumerate().find_map(|(at, rung)| {
            let possible = || self.possible(at, to_come);
            let most = || self.part(possible()).max(1);
            let stops = match &rung.standing {
                // With one objective a trial's rank never improves, so the rank decides. With
                // several it may improve until no more trials come; only being dominated is final.
                Standing::Ranks(ranks) => ranks.first_waiting(most()).map(|(place, _)| place),
                Standing::Levels(levels) if levels.len() == possible() => {
                    levels.first_waiting(most(), usize::MAX)
                }
                Standing::Levels(levels) => levels.first_beaten(most()),
                Standing::Median(_, verdicts) | Standing::Curves(_, verdicts) => {
                    verdicts.stops.first().copied()
                }
            };
            stops.map(|place| rung.reached[place].number)
        })
    }

    /// Whether a trial waits at the last rung that it has reached.
    pub(super) fn waits(&self, number: TrialNumber, reached: usize) -> bool {
        let rung = reached.checked_sub(1).and_then(|at| self.rungs.get(at));
        let Some(rung) = rung else { return false };
        let Some(place) = rung.places.get(&number) else { return false };
        match &rung.standing {
            Standing::Ranks(ranks) => ranks.waits(*place),
            Standing::Levels(levels) => levels.waits(*place),
            Standing::Median(_, verdicts) | Standing::Curves(_, verdicts) => {
                verdicts.goes_on.contains(place) || verdicts.stops.contains(place)
            }
        }
    }

    /// Cross-checks the counts. `trials` gives for each trial the number of reached rungs and
    /// whether it is finished.
    pub(super) fn check(
        &self,
        trials: impl Iterator<Item = (usize, bool)> + Clone,
    ) -> Result<(), String> {
        for (at, rung) in self.rungs.iter().enumerate() {
            let here = trials.clone().filter(|(reached, _)| *reached > at).count();
            let ranked = match &rung.standing {
                Standing::Ranks(ranks) => ranks.len(),
                Standing::Levels(levels) => levels.len(),
                Standing::Median(..) | Standing::Curves(..) => here,
            };
            if here != rung.reached.len() || here != ranked {
                let counted = rung.reached.len();
                return Err(format!("{here} trials have reached rung {at}, counted {counted}"));
            }
        }
        for (at, counted) in self.under_way.iter().enumerate() {
            let here = trials.clone().filter(|(reached, over)| *reached == at && !over).count();
            if here != *counted as usize {
                return Err(format!(
                    "{here} unfinished trials have reached {at} rungs, counted {counted}"
                ));
            }
        }
        Ok(())
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
    /// The least share of its error at this rung that a trial keeps until the end, estimated from
    /// the complete trials.
    fn least_error_left(&self, rule: FidelityRule) -> Option<f64> {
        match (&self.standing, rule) {
            (Standing::Curves(left, _), FidelityRule::Curve { confidence }) => {
                left.least(confidence)
            }
            _ => None,
        }
    }
}

impl Verdicts {
    /// A trial waits, and stops or goes on.
    fn set(&mut self, place: usize, stops: bool) {
        if stops {
            self.stops.insert(place)
        } else {
            self.goes_on.insert(place)
        };
    }

    /// Decides again for every waiting trial.
    fn decide_again(&mut self, stops: impl Fn(usize) -> bool) {
        let Verdicts { goes_on, stops: before } = std::mem::take(self);
        goes_on.into_iter().chain(before).for_each(|place| self.set(place, stops(place)));
    }
}

/// Whether an oriented value is worse than the median of `earlier` ones; false if those are fewer
/// than [`MEDIAN_OF`].
fn is_worse_than_median(oriented: f64, earlier: &Ranking) -> bool {
    let n = earlier.len();
    if n < MEDIAN_OF {
        return false;
    }
    let (low, high) = (earlier.get((n - 1) / 2), earlier.get(n / 2));
    low.zip(high).is_some_and(|(low, high)| oriented > f64::midpoint(low, high))
}

/// Whether one of the `complete` points dominates the best result that a trial can reach.
fn is_hopeless(
    complete: &[Vec<f64>],
    metric: Metric,
    reached: &Reached,
    least: Option<f64>,
) -> bool {
    let Some(least) = least else { return false };
    tally::count(complete.len());
    let mut best = reached.point.clone();
    best[0] = curves::best_value(metric, best[0], reached.value, least);
    complete.iter().any(|point| pareto::dominates(point, &best))
}

/// Positions ordered by front, then by crowding distance, then by arrival (Deb et al. 2002). With
/// one objective they are ordered by value, then by arrival.
pub(super) fn by_fronts(points: &[Vec<f64>]) -> Vec<usize> {
    if points.iter().all(|point| point.len() == 1) {
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|a, b| points[*a][0].total_cmp(&points[*b][0]));
        return order;
    }
    let mut order = Vec::with_capacity(points.len());
    for front in pareto::fronts(points) {
        let members: Vec<Vec<f64>> = front.iter().map(|i| points[*i].clone()).collect();
        let mut front: Vec<(usize, f64)> =
            front.into_iter().zip(pareto::crowding(&members)).collect();
        front.sort_by(|(a, far), (b, farther)| farther.total_cmp(far).then(a.cmp(b)));
        order.extend(front.into_iter().map(|(position, _)| position));
    }
    order
}

//! Which trials go on from a rung, and which stop there: asynchronous successive halving (Li et al.
//! 2020, *A System for Massively Parallel Hyperparameter Tuning*), median stopping (Golovin et al.
//! 2017, *Google Vizier*), and stopping by learning curves ([`super::curves`]). [`Rungs`] keeps
//! track of the trials at each rung and only answers questions: the scheduler asks it which trial
//! to promote when a worker asks for work, and the core asks it which trial to stop.
//!
//! Successive halving promotes the best `1/reduction` of all trials that have reached a rung so
//! far. Because a study is finite, two rules are added to the paper's. A trial stops at once when
//! it cannot belong to the best share, however many trials still come. And of a rung that no more
//! trials will reach, at least the best trial goes on, so that every study ends with a trained
//! network.

use std::collections::{BTreeSet, HashMap};

use edgesmith_common::spec::{FidelityRule, FidelitySpec};
use edgesmith_common::{Metric, TrialNumber, pareto};

use super::curves;

/// Number of earlier reports at a rung that median stopping needs.
const MEDIAN_OF: usize = 5;

/// The rungs of a study before the end of training, and the trials that have reached them.
#[derive(Debug, PartialEq)]
pub(super) struct Rungs {
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

#[derive(Debug, PartialEq, Default)]
struct Rung {
    epochs: u32,
    /// In order of arrival. Trials stay in this list after they are promoted or finished.
    reached: Vec<Reached>,
    /// Positions in `reached`, best first.
    order: Vec<usize>,
    /// Positions in `reached` of trials that are neither promoted nor finished.
    waiting: BTreeSet<usize>,
}

#[derive(Debug, PartialEq)]
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
#[derive(Debug, PartialEq)]
struct Complete {
    number: TrialNumber,
    /// Of the study's training metric.
    value: f64,
    /// What it is ranked by; less is better.
    point: Vec<f64>,
}

impl Rungs {
    /// For a study in which no trial has reached a rung.
    pub(super) fn new(fidelity: FidelitySpec, metric: Metric) -> Self {
        let rung = |epochs: &u32| Rung { epochs: *epochs, ..Rung::default() };
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

    /// Cross-checks the counts. `trials` gives for each trial the number of reached rungs and
    /// whether it is finished.
    pub(super) fn check(
        &self,
        trials: impl Iterator<Item = (usize, bool)> + Clone,
    ) -> Result<(), String> {
        for (at, rung) in self.rungs.iter().enumerate() {
            let here = trials.clone().filter(|(reached, _)| *reached > at).count();
            if here != rung.reached.len() || here != rung.order.len() {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rungs(rule: FidelityRule, rungs: &[u32]) -> Rungs {
        let fidelity = FidelitySpec { rule, rungs: rungs.to_vec(), reduction: 3 };
        Rungs::new(fidelity, Metric::ACCURACY)
    }

    /// Trial `number` reaches its first rung with this accuracy.
    fn arrive(rungs: &mut Rungs, number: u32, accuracy: f64) {
        rungs.begin();
        rungs.reach(TrialNumber(number), 0, accuracy, vec![-accuracy]);
    }

    #[test]
    fn the_best_third_goes_on_and_the_earlier_of_equal_trials_comes_first() {
        let mut rungs = rungs(FidelityRule::Asha, &[1]);
        for (number, accuracy) in [(0, 0.5), (1, 0.7)] {
            arrive(&mut rungs, number, accuracy);
            assert_eq!(rungs.next_promotion(9), None);
        }
        arrive(&mut rungs, 2, 0.7);
        assert_eq!(rungs.next_promotion(9), Some(TrialNumber(1)));
        rungs.promote(TrialNumber(1), 1);
        assert_eq!(rungs.next_promotion(9), None);
        for number in 3..6 {
            arrive(&mut rungs, number, 0.6);
        }
        // Two of six may go on: the one that did, and the one with equal accuracy.
        assert_eq!(rungs.next_promotion(9), Some(TrialNumber(2)));
        rungs.promote(TrialNumber(2), 1);
        // A better one that comes later goes on too, although the share is used up.
        arrive(&mut rungs, 6, 0.9);
        assert_eq!(rungs.next_promotion(9), Some(TrialNumber(6)));
    }

    #[test]
    fn the_highest_rung_comes_first() {
        let mut rungs = rungs(FidelityRule::Asha, &[1, 3]);
        for number in 0..12 {
            arrive(&mut rungs, number, f64::from(number) / 100.0);
        }
        for number in [11, 10, 9] {
            assert_eq!(rungs.next_promotion(9), Some(TrialNumber(number)));
            rungs.promote(TrialNumber(number), 1);
            rungs.reach(TrialNumber(number), 1, 0.5, vec![-0.5]);
        }
        // Trial 8 would go on from the first rung, but the best of three is on the second.
        assert_eq!(rungs.next_promotion(9), Some(TrialNumber(11)));
        rungs.promote(TrialNumber(11), 2);
        assert_eq!(rungs.next_promotion(9), Some(TrialNumber(8)));
        assert_eq!([0, 1, 2].map(|reached| rungs.next(reached)), [Some(1), Some(3), None]);
    }

    #[test]
    fn only_a_trial_that_can_never_go_on_stops_at_once() {
        let mut rungs = rungs(FidelityRule::Asha, &[1]);
        for (number, accuracy) in [(0, 0.5), (1, 0.7), (2, 0.6)] {
            arrive(&mut rungs, number, accuracy);
        }
        // Of nine trials three go on.
        assert_eq!(rungs.next_stopped(6), None);
        // Of eight, two.
        assert_eq!(rungs.next_stopped(5), Some(TrialNumber(0)));
        rungs.end(TrialNumber(0), 1);
        assert_eq!(rungs.next_stopped(5), None);
        assert_eq!(rungs.next_promotion(5), Some(TrialNumber(1)));
        rungs.promote(TrialNumber(1), 1);
        assert_eq!(rungs.next_stopped(3), None);
        assert_eq!(rungs.next_stopped(2), Some(TrialNumber(2)));
        // A promoted trial is not stopped, however many overtake it.
        rungs.end(TrialNumber(2), 1);
        for number in 3..5 {
            arrive(&mut rungs, number, 0.9);
        }
        assert_eq!(rungs.next_stopped(0), Some(TrialNumber(4)));
        rungs.end(TrialNumber(4), 1);
        assert_eq!(rungs.next_promotion(0), Some(TrialNumber(3)));
    }

    #[test]
    fn the_best_goes_on_from_a_rung_that_no_more_trials_will_reach() {
        let mut rungs = rungs(FidelityRule::Asha, &[1, 3]);
        for (number, accuracy) in [(0, 0.5), (1, 0.7)] {
            arrive(&mut rungs, number, accuracy);
        }
        assert_eq!(rungs.next_promotion(1), None);
        assert_eq!(rungs.next_promotion(0), Some(TrialNumber(1)));
        rungs.promote(TrialNumber(1), 1);
        assert_eq!(rungs.next_stopped(0), Some(TrialNumber(0)));
        // Trial 0 might still reach the second rung.
        rungs.reach(TrialNumber(1), 1, 0.8, vec![-0.8]);
        assert_eq!(rungs.next_promotion(0), None);
        rungs.end(TrialNumber(0), 1);
        assert_eq!(rungs.next_promotion(0), Some(TrialNumber(1)));
    }

    #[test]
    fn with_several_objectives_trials_rank_by_front_and_dominated_ones_stop() {
        let mut rungs = rungs(FidelityRule::Asha, &[1]);
        let points = [[0.5, 5.0], [0.4, 4.0], [0.3, 9.0], [0.9, 1.0], [0.6, 8.0], [0.7, 8.0]];
        for (number, point) in points.into_iter().enumerate() {
            rungs.begin();
            rungs.reach(TrialNumber(number as u32), 0, 0.5, point.to_vec());
        }
        // The front is 1, 2 and 3. Its ends, 2 and 3, have the largest crowding distance; two of
        // six go on.
        for number in [2, 3] {
            assert_eq!(rungs.next_promotion(3), Some(TrialNumber(number)));
            rungs.promote(TrialNumber(number), 1);
        }
        assert_eq!(rungs.next_promotion(3), None);
        // Of nine three go on: 4 is dominated by two, 5 by three.
        assert_eq!(rungs.next_stopped(3), Some(TrialNumber(5)));
        rungs.end(TrialNumber(5), 1);
        assert_eq!(rungs.next_stopped(3), None);
        // When no more trials come, the ranks decide.
        for _ in 0..3 {
            let stopped = rungs.next_stopped(0).unwrap();
            rungs.end(stopped, 1);
        }
        assert_eq!((rungs.next_stopped(0), rungs.next_promotion(0)), (None, None));
    }

    #[test]
    fn a_trial_below_the_median_of_at_least_five_stops() {
        let mut rungs = rungs(FidelityRule::Median, &[1]);
        for (number, accuracy) in [(0, 0.5), (1, 0.1), (2, 0.6), (3, 0.7), (4, 0.05)] {
            arrive(&mut rungs, number, accuracy);
            assert_eq!(rungs.next_stopped(9), None);
            assert_eq!(rungs.next_promotion(9), Some(TrialNumber(number)));
            rungs.promote(TrialNumber(number), 1);
        }
        // The median of the five is 0.5, and a trial equal to the median goes on.
        arrive(&mut rungs, 5, 0.5);
        assert_eq!(rungs.next_promotion(9), Some(TrialNumber(5)));
        rungs.promote(TrialNumber(5), 1);
        arrive(&mut rungs, 6, 0.4999);
        assert_eq!((rungs.next_promotion(9), rungs.next_stopped(9)), (None, Some(TrialNumber(6))));
    }

    #[test]
    fn a_trial_whose_best_possible_result_is_dominated_stops() {
        let mut rungs = rungs(FidelityRule::Curve { confidence: 0.9 }, &[1]);
        let come = |rungs: &mut Rungs, number: u32, accuracy: f64, cost: f64| {
            rungs.begin();
            rungs.reach(TrialNumber(number), 0, accuracy, vec![-accuracy, cost]);
        };
        // Nine trials about halve their error after the rung.
        for number in 0..9 {
            assert_eq!(rungs.next_stopped(99), None);
            come(&mut rungs, number, 0.8, 5.0 + f64::from(number));
            assert_eq!(rungs.next_promotion(99), Some(TrialNumber(number)));
            rungs.promote(TrialNumber(number), 1);
            let last = 0.9 + f64::from(number) / 1000.0;
            rungs.end(TrialNumber(number), 1);
            rungs.complete(TrialNumber(number), last, vec![-last, 5.0 + f64::from(number)]);
        }
        // At best an error of 0.2 falls to 0.092, so 0.79 would end at 0.9034 and 0.5 at 0.77.
        come(&mut rungs, 9, 0.79, 6.5);
        come(&mut rungs, 10, 0.5, 4.0);
        come(&mut rungs, 11, 0.5, 6.0);
        come(&mut rungs, 12, 0.79, 20.0);
        let mut stopped = Vec::new();
        while let Some(number) = rungs.next_stopped(99) {
            rungs.end(number, 1);
            stopped.push(number.0);
        }
        assert_eq!(stopped, [11, 12], "11 is worse than cheaper trials, 12 costs too much");
        assert_eq!(rungs.next_promotion(99), Some(TrialNumber(9)));
    }

    proptest! {
        /// Trials come in any order, with ties and several objectives. All of them end, none both
        /// stops and goes on, and at least one trains to the end. With one objective, no stopped
        /// trial is in the final best share of its rung.
        #[test]
        fn every_trial_stops_or_goes_on(
            accuracies in prop::collection::vec((0u8..8, 0u8..4), 1..40),
            several: bool,
            late in 0usize..5,
        ) {
            let epochs = [1, 3, 9];
            let mut rungs = rungs(FidelityRule::Asha, &epochs);
            let mut left: Vec<(u32, usize)> = Vec::new();
            let (mut next, mut complete, mut stopped) = (0, Vec::new(), Vec::new());
            let mut reached = vec![0; accuracies.len()];
            let value = |number: u32, rung: usize| {
                let (accuracy, cost) = accuracies[number as usize];
                let accuracy = f64::from((accuracy + rung as u8 * cost) % 11);
                let mut point = vec![-accuracy];
                if several {
                    point.push(f64::from(cost));
                }
                (accuracy, point)
            };
            loop {
                let to_come = accuracies.len() as u32 - next;
                while let Some(number) = rungs.next_stopped(to_come) {
                    prop_assert_ne!(rungs.next_promotion(to_come), Some(number));
                    let at = reached[number.0 as usize];
                    prop_assert!(rungs.waits(number, at));
                    rungs.end(number, at);
                    stopped.push((number, at));
                }
                // Up to `late` workers report late.
                if left.len() > late || (to_come == 0 && rungs.next_promotion(0).is_none()) {
                    if left.is_empty() {
                        break;
                    }
                    let (number, at) = left.remove(0);
                    if at == epochs.len() {
                        rungs.end(TrialNumber(number), at);
                        complete.push(number);
                    } else {
                        let (accuracy, point) = value(number, at);
                        rungs.reach(TrialNumber(number), at, accuracy, point);
                        reached[number as usize] += 1;
                    }
                } else if let Some(number) = rungs.next_promotion(to_come) {
                    let at = reached[number.0 as usize];
                    rungs.promote(number, at);
                    left.push((number.0, at));
                } else {
                    rungs.begin();
                    left.push((next, 0));
                    next += 1;
                }
            }
            prop_assert!(!complete.is_empty());
            prop_assert_eq!(complete.len() + stopped.len(), accuracies.len());
            prop_assert!(rungs.under_way.iter().all(|count| *count == 0));
            for (number, at) in stopped.into_iter().filter(|_| !several) {
                let rung = &rungs.rungs[at - 1];
                let rank = rung.order.iter().position(|p| rung.reached[*p].number == number);
                prop_assert!(rank.unwrap() >= rung.reached.len() / 3);
            }
        }
    }
}

//! How complete trials are compared: constraint-domination, fronts and crowding distance (Deb et
//! al. 2002).

use std::cmp::Ordering;

use edgesmith_common::pareto;

use super::FinishedTrial;

/// The fitness of a complete trial.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fitness {
    /// Less is better; finite.
    objectives: Vec<f64>,
    /// 0 is feasible; finite.
    violation: f64,
}

/// The standing of a trial among others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    /// 0 is the best front.
    pub(super) front: usize,
    /// Crowding distance within the front; infinite at its ends.
    pub(super) crowding: f64,
}

impl Fitness {
    /// `None` if a value is not finite, because nothing can be learned from it.
    pub(super) fn new(objectives: &[f64], violation: f64) -> Option<Self> {
        let finite = violation.is_finite() && objectives.iter().all(|v| v.is_finite());
        finite.then(|| Self { objectives: objectives.to_vec(), violation: violation.max(0.0) })
    }

    /// The fitness of a finished trial; `None` if it did not complete or a value is not finite.
    pub(super) fn of(finished: &FinishedTrial) -> Option<Self> {
        match finished {
            FinishedTrial::Complete { objectives, violation, .. } => {
                Self::new(objectives, *violation)
            }
            FinishedTrial::Pruned { .. }
            | FinishedTrial::Infeasible { .. }
            | FinishedTrial::Failed { .. } => None,
        }
    }

    /// Less is better; finite.
    pub(super) fn objectives(&self) -> &[f64] {
        &self.objectives
    }

    /// 0 is feasible; finite.
    pub(super) fn violation(&self) -> f64 {
        self.violation
    }

    /// Constraint-domination: the smaller violation dominates. Feasible trials are compared by
    /// Pareto dominance. Infeasible trials with equal violations do not dominate each other.
    pub(super) fn dominates(&self, other: &Self) -> bool {
        if self.violation > 0.0 || other.violation > 0.0 {
            return self.violation < other.violation;
        }
        pareto::dominates(&self.objectives, &other.objectives)
    }
}

impl Standing {
    /// `Less` when `self` is better: first by front, then by the larger crowding distance.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.front.cmp(&other.front).then(other.crowding.total_cmp(&self.crowding))
    }
}

/// Standing of each trial among all of them, in their order.
pub(super) fn standings(trials: &[&Fitness]) -> Vec<Standing> {
    let mut standings = vec![Standing { front: 0, crowding: 0.0 }; trials.len()];
    for (front, members) in fronts(trials).iter().enumerate() {
        let points = points(trials, members);
        for (&member, crowding) in members.iter().zip(pareto::crowding(&points)) {
            standings[member] = Standing { front, crowding };
        }
    }
    standings
}

/// Position of the best trial by front, then by crowding distance; the first of several equal ones.
/// `None` if there are no trials.
pub(super) fn best(trials: &[&Fitness]) -> Option<usize> {
    let standings = standings(trials);
    (0..standings.len()).min_by(|&a, &b| standings[a].compare(&standings[b]))
}

/// Fronts of constraint-domination as indices: those of the feasible trials, then one for each
/// degree of violation.
pub(super) fn fronts(trials: &[&Fitness]) -> Vec<Vec<usize>> {
    let (feasible, mut broken): (Vec<usize>, Vec<usize>) =
        (0..trials.len()).partition(|&i| trials[i].violation == 0.0);
    let mut fronts: Vec<Vec<usize>> = pareto::fronts(&points(trials, &feasible))
        .into_iter()
        .map(|front| front.into_iter().map(|i| feasible[i]).collect())
        .collect();
    broken.sort_by(|&a, &b| trials[a].violation.total_cmp(&trials[b].violation));
    let same = |&a: &usize, &b: &usize| trials[a].violation == trials[b].violation;
    fronts.extend(broken.chunk_by(same).map(<[usize]>::to_vec));
    fronts
}

fn points(trials: &[&Fitness], members: &[usize]) -> Vec<Vec<f64>> {
    members.iter().map(|&i| trials[i].objectives.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feasible(objectives: &[f64]) -> Fitness {
        Fitness::new(objectives, 0.0).unwrap()
    }

    #[test]
    fn a_feasible_trial_dominates_every_infeasible_one() {
        let bad = feasible(&[9.0, 9.0]);
        let broken = Fitness::new(&[0.0, 0.0], 0.1).unwrap();
        assert!(bad.dominates(&broken));
        assert!(!broken.dominates(&bad));
    }

    #[test]
    fn less_violation_dominates_regardless_of_the_objectives() {
        let (less, more) = (Fitness::new(&[5.0], 0.1).unwrap(), Fitness::new(&[1.0], 0.2).unwrap());
        assert!(less.dominates(&more));
        assert!(!more.dominates(&less));
        assert!(!less.dominates(&less));
    }

    #[test]
    fn values_that_are_not_finite_have_no_fitness() {
        assert_eq!(Fitness::new(&[f64::NAN], 0.0), None);
        assert_eq!(Fitness::new(&[f64::INFINITY], 0.0), None);
        assert_eq!(Fitness::new(&[1.0], f64::NAN), None);
    }

    #[test]
    fn fronts_come_in_order_and_violations_come_last() {
        let trials = [
            Fitness::new(&[0.0, 0.0], 0.5).unwrap(),
            feasible(&[1.0, 3.0]),
            feasible(&[3.0, 1.0]),
            feasible(&[2.0, 4.0]),
            Fitness::new(&[0.0, 0.0], 0.2).unwrap(),
        ];
        let fronts: Vec<usize> = standings(&trials.each_ref()).iter().map(|s| s.front).collect();
        assert_eq!(fronts, [3, 0, 0, 1, 2]);
    }

    #[test]
    fn fronts_agree_with_pairwise_domination() {
        // No trial dominates one of its own or an earlier front, and each one behind the first is
        // dominated by one of the front before it.
        let trials: Vec<Fitness> = (0..60u32)
            .map(|i| {
                let (x, y) = (f64::from(i * 37 % 11), f64::from(i * 53 % 13));
                Fitness::new(&[x, y], f64::from(i % 3) * 0.5).unwrap()
            })
            .collect();
        let standings = standings(&trials.iter().collect::<Vec<_>>());
        for (a, sa) in trials.iter().zip(&standings) {
            for (b, sb) in trials.iter().zip(&standings) {
                assert!(!a.dominates(b) || sa.front < sb.front);
            }
            let before =
                |(b, sb): (&Fitness, &Standing)| sb.front + 1 == sa.front && b.dominates(a);
            assert!(sa.front == 0 || trials.iter().zip(&standings).any(before));
        }
    }

    #[test]
    fn crowding_prefers_the_ends_and_those_far_from_others() {
        let trials =
            [[0.0, 10.0], [1.0, 9.0], [2.0, 8.0], [7.0, 3.0], [10.0, 0.0]].map(|p| feasible(&p));
        let standings = standings(&trials.each_ref());
        assert_eq!(standings[0].crowding, f64::INFINITY);
        assert_eq!(standings[4].crowding, f64::INFINITY);
        assert!(standings[3].crowding > standings[2].crowding);
        assert!(standings[2].crowding > standings[1].crowding);
        assert!(standings[3].compare(&standings[1]).is_lt());
    }
}

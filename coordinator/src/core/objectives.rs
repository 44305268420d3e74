//! Values of trials as points, their front, and how much of the space of values it covers.
//!
//! Points are turned so that less is better.

use edgesmith_common::{Constraint, Goal, Metric, Objective, TrialValues};

use super::propose::relative_violation;
use super::study::{Stage, Study};

impl Study {
    /// Complete trials, by number.
    pub(super) fn complete(&self) -> impl Iterator<Item = (usize, &TrialValues)> {
        let values = |stage| match stage {
            &Stage::Complete(ref values) => Some(values),
            _ => None,
        };
        let trials = self.trials.iter().enumerate();
        trials.filter_map(move |(number, trial)| Some((number, values(&trial.stage)?)))
    }

    /// By how much a trial breaks the study's constraints: the sum over them, each as a share of its
    /// limit so that units do not matter; 0 where all hold.
    pub(super) fn violation(&self, values: &TrialValues) -> f64 {
        let broken = self.spec.constraints.iter().map(|constraint| {
            let value = values.value(constraint.metric, constraint.device.as_ref());
            value.map_or(0.0, |value| relative_violation(constraint.bound, value))
        });
        broken.sum()
    }

    /// Numbers of the complete trials that meet the study's constraints and `filters`, and that no
    /// other such trial dominates, by the first objective, best first.
    pub(super) fn front(&self, objectives: &[&Objective], filters: &[Constraint]) -> Vec<usize> {
        let meets = |values: &TrialValues, c: &Constraint| {
            let value = values.value(c.metric, c.device.as_ref());
            value.is_some_and(|value| c.bound.violation(value) <= 0.0)
        };
        let eligible = self.complete().filter(|(_, values)| {
            self.spec.constraints.iter().chain(filters).all(|constraint| meets(values, constraint))
        });
        let points =
            eligible.filter_map(|(number, values)| Some((number, oriented(values, objectives)?)));
        let (numbers, points): (Vec<usize>, Vec<Vec<f64>>) = points.unzip();
        let mut front = pareto::front(&points);
        let order = |a: &usize, b: &usize| {
            let mut pairs = points[*a].iter().zip(&points[*b]).map(|(x, y)| x.total_cmp(y));
            pairs.find(|order| order.is_ne()).unwrap_or_else(|| a.cmp(b))
        };
        front.sort_by(order);
        front.into_iter().map(|i| numbers[i]).collect()
    }
}

impl Study {
    /// See [`StudyView::hypervolume`](super::StudyView::hypervolume).
    pub(super) fn hypervolume(&self, front: &[usize]) -> Option<f64> {
        let objectives: Vec<&Objective> = self.spec.objectives.iter().collect();
        let all = self.complete().filter_map(|(_, values)| raw(values, &objectives));
        let mut worst: Vec<f64> = vec![0.0; objectives.len()];
        let mut any = false;
        for values in all {
            any = true;
            worst.iter_mut().zip(values).for_each(|(w, value)| *w = w.max(value));
        }
        let scaled = |number: &usize| -> Option<Vec<f64>> {
            let values = raw(self.trials[*number].stage.values()?, &objectives)?;
            let share = |((value, worst), objective): ((f64, &f64), &&Objective)| {
                let scale = match objective.metric {
                    Metric::ValidationAccuracy => 1.0,
                    _ if *worst > 0.0 => *worst,
                    _ => 1.0,
                };
                match objective.goal {
                    Goal::Minimize => value / scale,
                    Goal::Maximize => 1.0 - value / scale,
                }
            };
            Some(values.into_iter().zip(&worst).zip(&objectives).map(share).collect())
        };
        let points: Vec<Vec<f64>> = front.iter().filter_map(scaled).collect();
        any.then(|| pareto::hypervolume(&points, &vec![1.0; objectives.len()]))
    }

    /// The trial as its controller sees it; `None` where a value is missing.
    pub(super) fn oriented(&self, values: &TrialValues) -> Option<Vec<f64>> {
        oriented(values, &self.spec.objectives.iter().collect::<Vec<_>>())
    }
}

/// Values of the objectives as they are.
fn raw(values: &TrialValues, objectives: &[&Objective]) -> Option<Vec<f64>> {
    objectives.iter().map(|o| values.value(o.metric, o.device.as_ref())).collect()
}

/// Values of the objectives, turned so that less is better.
fn oriented(values: &TrialValues, objectives: &[&Objective]) -> Option<Vec<f64>> {
    let turn = |(value, objective): (f64, &&Objective)| match objective.goal {
        Goal::Minimize => value,
        Goal::Maximize => -value,
    };
    Some(raw(values, objectives)?.into_iter().zip(objectives).map(turn).collect())
}

/// Plain algebra of fronts; less is better.
mod pareto {
    /// Indices of the points that no other point dominates.
    pub(super) fn front(points: &[Vec<f64>]) -> Vec<usize> {
        let dominates = |a: &[f64], b: &[f64]| a != b && a.iter().zip(b).all(|(x, y)| x <= y);
        let free = |i: &usize| !points.iter().any(|other| dominates(other, &points[*i]));
        (0..points.len()).filter(free).collect()
    }

    /// Volume between the points and `reference`, by slicing along the last coordinate.
    pub(super) fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
        let Some((&end, rest)) = reference.split_last() else { return 1.0 };
        let mut inside: Vec<&Vec<f64>> =
            points.iter().filter(|p| p.iter().zip(reference).all(|(x, r)| x < r)).collect();
        inside.sort_by(|a, b| a[rest.len()].total_cmp(&b[rest.len()]));
        let depth = |i: usize| inside.get(i).map_or(end, |p| p[rest.len()]);
        let slice = |i: usize| {
            let floor: Vec<Vec<f64>> =
                inside[..=i].iter().map(|p| p[..rest.len()].to_vec()).collect();
            hypervolume(&floor, rest) * (depth(i + 1) - depth(i))
        };
        (0..inside.len()).map(slice).sum()
    }
}

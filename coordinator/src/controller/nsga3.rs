//! NSGA-III: Deb & Jain, "An Evolutionary Many-Objective Optimization Algorithm Using
//! Reference-Point-Based Nondominated Sorting Approach, Part I", IEEE Transactions on Evolutionary
//! Computation 18(4), 2014; constraints as in Part II (Jain & Deb, the same issue).
//!
//! NSGA-II spreads a front by crowding distance, which is of little use with many objectives.
//! NSGA-III spreads it over reference lines instead. They go from the ideal point through evenly
//! spaced reference points (Das & Dennis 1998) in the space of normalised objectives. The original
//! chooses half of a generation. Here, as in [`Nsga2`](super::Nsga2), each trial enters when it
//! completes, and one member leaves: of the last front, and of the reference line with the most
//! members, the member farthest from that line. This does by removal what the paper's niching does
//! by selection.

use edgesmith_common::TrialNumber;
use edgesmith_search_space::Space;
use rand::Rng;

use super::breeding::{Breeding, Parent};
use super::fitness::{Fitness, fronts};
use super::population::Population;
use super::{Controller, FinishedTrial, Proposal};
use crate::linear_algebra::solve;

/// Weight of the other objectives in the search for extreme points (the paper's achievement
/// scalarizing function).
const OFF_AXIS: f64 = 1e-6;

/// NSGA-III, running on one study.
#[derive(Debug)]
pub struct Nsga3 {
    population: Population,
    breeding: Breeding,
    /// Least value of each objective among feasible trials so far; empty before the first.
    ideal: Vec<f64>,
}

impl Nsga3 {
    /// A controller of `space`; the settings are those of [`Nsga2::new`](super::Nsga2::new).
    pub fn new(space: Space, population: usize, crossover: f64, mutations: usize) -> Self {
        Self {
            breeding: Breeding::new(crossover, mutations),
            population: Population::new(space, population.max(2)),
            ideal: Vec::new(),
        }
    }

    /// The better of two random members: the one that breaks constraints less (Part II).
    fn parent(&self, rng: &mut dyn Rng) -> Parent<'_> {
        let violation = |i: usize| self.population.members()[i].fitness.violation();
        self.population.tournament(rng, |a, b| violation(a) < violation(b)).parent()
    }

    /// Position of the member that leaves. There must be more than one member.
    fn leaver(&self) -> usize {
        let fitness = self.population.fitness();
        let fronts = fronts(&fitness);
        let last = fronts.last().expect("members have fronts");
        if last.len() == 1 || fitness[last[0]].violation() > 0.0 {
            // All break constraints equally: the oldest leaves.
            return last[0];
        }
        let points: Vec<&[f64]> =
            fronts.iter().flatten().map(|&i| fitness[i].objectives()).collect();
        let scale = scale(&self.ideal, &fronts[0], &fitness);
        let lines = reference_points(self.ideal.len(), self.population.capacity());
        let niches: Vec<(usize, f64)> =
            points.iter().map(|point| niche(point, &self.ideal, &scale, &lines)).collect();
        let mut crowd = vec![0; lines.len()];
        for (line, _) in &niches {
            crowd[*line] += 1;
        }
        // The last front's members come last.
        let behind = niches[points.len() - last.len()..].iter().zip(last);
        let worst = behind.max_by(|((a, far_a), i), ((b, far_b), j)| {
            crowd[*a].cmp(&crowd[*b]).then(far_a.total_cmp(far_b)).then(j.cmp(i))
        });
        *worst.expect("the last front has members").1
    }
}

/// Lengths by which objectives are divided: the intercepts of the plane through the extreme points
/// of the first front, or the extent of that front if there is no such plane.
fn scale(ideal: &[f64], first: &[usize], fitness: &[&Fitness]) -> Vec<f64> {
    let count = ideal.len();
    let above = |i: usize| fitness[i].objectives().iter().zip(ideal).map(|(v, low)| v - low);
    let extremes: Vec<f64> = (0..count)
        .flat_map(|axis| {
            let off = |i: usize| {
                let weighted = above(i).enumerate();
                let weighted = weighted.map(|(o, v)| if o == axis { v } else { v / OFF_AXIS });
                weighted.fold(0.0, f64::max)
            };
            let best = first.iter().copied().min_by(|&a, &b| off(a).total_cmp(&off(b)));
            above(best.expect("a front has members")).collect::<Vec<_>>()
        })
        .collect();
    let extent = |axis: usize| first.iter().filter_map(|&i| above(i).nth(axis)).fold(0.0, f64::max);
    let usable = |length: &f64| length.is_finite() && *length > 1e-12;
    let plane = solve(extremes, vec![1.0; count]);
    (0..count)
        .map(|axis| {
            let intercept = plane.as_ref().map(|plane| 1.0 / plane[axis]).filter(usable);
            intercept.or(Some(extent(axis)).filter(usable)).unwrap_or(1.0)
        })
        .collect()
}

/// The reference line nearest to a point, and its distance from it.
fn niche(point: &[f64], ideal: &[f64], scale: &[f64], lines: &[Vec<f64>]) -> (usize, f64) {
    let normalised: Vec<f64> = point
        .iter()
        .zip(ideal)
        .zip(scale)
        .map(|((value, low), length)| (value - low) / length)
        .collect();
    let square = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>();
    let distance = |line: &Vec<f64>| {
        let along: f64 =
            normalised.iter().zip(line).map(|(x, l)| x * l).sum::<f64>() / square(line);
        normalised.iter().zip(line).map(|(x, l)| (x - along * l).powi(2)).sum::<f64>().sqrt()
    };
    let distances = lines.iter().map(distance).enumerate();
    distances.min_by(|(_, a), (_, b)| a.total_cmp(b)).expect("a reference point at least")
}

/// Evenly spaced points with non-negative coordinates of sum 1 (Das & Dennis 1998). The division is
/// the finest with at most `most` points, but there is at least one point for each axis.
fn reference_points(objectives: usize, most: usize) -> Vec<Vec<f64>> {
    if objectives < 2 {
        return vec![vec![1.0; objectives]];
    }
    let count = |divisions: usize| {
        // Binomial coefficient of divisions + objectives - 1 over objectives - 1.
        (1..objectives).fold(1usize, |all, i| all.saturating_mul(divisions + i) / i)
    };
    let divisions = (1..).take_while(|&d| count(d) <= most).last().unwrap_or(1);
    let mut points = vec![Vec::new()];
    for axis in 0..objectives {
        let longer = |head: Vec<usize>| {
            let left = divisions - head.iter().sum::<usize>();
            let parts = if axis + 1 == objectives { left..=left } else { 0..=left };
            parts.map(move |part| [&head[..], &[part]].concat())
        };
        points = points.into_iter().flat_map(longer).collect();
    }
    let share =
        |parts: Vec<usize>| parts.into_iter().map(|p| p as f64 / divisions as f64).collect();
    points.into_iter().map(share).collect()
}

impl Controller for Nsga3 {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        let space = self.population.space();
        self.population.suggest(rng, |rng| self.breeding.child(space, |rng| self.parent(rng), rng))
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.population.propose(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        let Some(member) = self.population.finish(finished) else { return };
        if member.fitness.violation() == 0.0 {
            let objectives = member.fitness.objectives();
            self.ideal.resize(objectives.len(), f64::INFINITY);
            for (ideal, value) in self.ideal.iter_mut().zip(objectives) {
                *ideal = ideal.min(*value);
            }
        }
        if self.population.is_over_capacity() {
            self.population.remove(self.leaver());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{medium_space, proposal};
    use super::*;

    fn fed(population: usize, results: &[(&[f64], f64)]) -> Nsga3 {
        let mut nsga3 = Nsga3::new(medium_space(), population, 1.0, 1);
        for (n, (objectives, violation)) in (0..).zip(results) {
            let number = TrialNumber(n);
            let next = proposal(&nsga3, n);
            nsga3.proposed(number, &next);
            let (objectives, violation) = (objectives.to_vec(), *violation);
            nsga3.update(&FinishedTrial::Complete { number, objectives, violation });
        }
        nsga3
    }

    fn members(nsga3: &Nsga3) -> Vec<u32> {
        nsga3.population.members().iter().map(|m| m.number.0).collect()
    }

    #[test]
    fn the_number_of_reference_points_agrees_with_das_and_dennis() {
        // The paper's table: 3 objectives with 12 divisions have 91 points, 5 with 6 have 210.
        for (objectives, most, count) in [(3, 91, 91), (3, 104, 91), (5, 210, 210), (2, 20, 20)] {
            let points = reference_points(objectives, most);
            assert_eq!(points.len(), count, "{objectives} objectives");
            for point in &points {
                assert!((point.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                assert_eq!(point.len(), objectives);
            }
        }
        assert_eq!(reference_points(1, 20), [[1.0]]);
        assert_eq!(reference_points(4, 2).len(), 4, "one for each axis at least");
    }

    #[test]
    fn the_scale_is_the_intercepts_of_the_plane_through_the_extreme_points() {
        let fitness = |points: &[[f64; 3]]| -> Vec<Fitness> {
            points.iter().map(|point| Fitness::new(point, 0.0).unwrap()).collect()
        };
        // x/2 + y/4 + z/8 = 1.
        let front = fitness(&[[1.8, 0.2, 0.4], [0.2, 3.2, 0.8], [0.1, 0.4, 6.8]]);
        let lengths = scale(&[0.0; 3], &[0, 1, 2], &front.iter().collect::<Vec<_>>());
        for (length, intercept) in lengths.iter().zip([2.0, 4.0, 8.0]) {
            assert!((length - intercept).abs() < 1e-9, "{lengths:?}");
        }
        // One point does not define a plane, so its extent replaces the intercepts.
        let point = fitness(&[[1.0, 2.0, 3.0]]);
        assert_eq!(scale(&[0.0; 3], &[0], &[&point[0]]), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn the_most_crowded_line_loses_its_farthest_member_in_any_units() {
        for units in [[1.0, 1.0, 1.0], [1e6, 1e-3, 1.0]] {
            // Three corners and three near the middle. The last one is farthest from its line.
            let points = [
                [1.0, 0.0, 0.0],
                [0.0, 1.0, 0.0],
                [0.0, 0.0, 1.0],
                [0.34, 0.33, 0.33],
                [0.33, 0.34, 0.33],
                [0.40, 0.34, 0.26],
            ];
            let points = points.map(|p| [p[0] * units[0], p[1] * units[1], p[2] * units[2]]);
            let results: Vec<(&[f64], f64)> = points.iter().map(|p| (&p[..], 0.0)).collect();
            // With up to ten members there are ten reference points (three divisions), one of them
            // in the middle.
            let mut nsga3 = fed(10, &results);
            assert_eq!(nsga3.population.members().len(), 6);
            assert_eq!(nsga3.leaver(), 5, "{units:?}");
            nsga3.population.remove(5);
            assert!([3, 4].contains(&nsga3.leaver()), "the middle is still the most crowded");
        }
    }

    #[test]
    fn the_dominated_and_the_violators_leave_first() {
        let results: [(&[f64], f64); 5] = [
            (&[0.0, 4.0], 0.0),
            (&[4.0, 0.0], 0.0),
            (&[5.0, 5.0], 0.0),
            (&[1.0, 1.0], 0.0),
            (&[0.0, 0.0], 3.0),
        ];
        assert_eq!(members(&fed(3, &results)), [0, 1, 3]);
        let violators: [(&[f64], f64); 3] = [(&[0.0], 2.0), (&[0.0], 1.0), (&[9.0], 0.0)];
        assert_eq!(members(&fed(2, &violators)), [1, 2]);
    }

    #[test]
    fn one_objective_keeps_the_best() {
        let results: [(&[f64], f64); 5] =
            [(&[5.0], 0.0), (&[1.0], 0.0), (&[3.0], 0.0), (&[2.0], 0.0), (&[4.0], 0.0)];
        assert_eq!(members(&fed(2, &results)), [1, 3]);
    }
}

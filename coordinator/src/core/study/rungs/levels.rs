//! The ranks of a rung's trials by several objectives: by non-dominated front, then by crowding
//! distance, then by arrival (Deb et al. 2002). The fronts are kept up to date as trials arrive.
//!
//! An arrival is placed by binary search over the fronts, and only trials that it pushes back are
//! moved (Li, Deb, Zhang, Suganthan & Chen 2017, *Efficient Nondomination Level Update Method for
//! Steady-State Evolutionary Multiobjective Optimization*). Let there be `k` fronts of `f` trials,
//! and let an arrival push back `m` trials in all. With two objectives it takes
//! O(log k·log f + m·log f) comparisons, and with more objectives O((log k + m)·f). A front that is
//! pushed back as a whole costs nothing more. Crowding is computed when a question depends on the
//! order within one front, O(f·log f), and kept until that front changes. A question goes through
//! the sizes of the fronts, O(k).
//!
//! How many trials dominate a waiting one is counted only when they may be enough to stop it.
//! After a count of `c`, at least `most - c` more trials must arrive before it reaches `most`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use edgesmith_common::pareto;

use super::dominators::Dominators;
use super::tally;

/// The trials of one rung, known by their place in the order of arrival.
pub(super) struct Levels {
    objectives: usize,
    /// One after the other, in order of arrival.
    points: Vec<f64>,
    /// The place of each trial's front in `fronts`.
    front_of: Vec<u32>,
    waits: Vec<bool>,
    fronts: Vec<Front>,
    /// Places in `fronts`, best first.
    order: Vec<u32>,
    dominators: Dominators,
    /// When the waiting trials have to be counted again. It depends only on the other fields and
    /// on earlier questions, and no answer depends on it.
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Front {
    /// By the first objective.
    members: Vec<u32>,
    /// Number of members that wait.
    waiting: usize,
    /// The members by crowding distance, then by arrival; computed when first needed.
    ranked: OnceLock<Vec<u32>>,
}

/// Upper bounds of how many trials dominate the waiting ones. A bound that was right when `n`
/// trials had arrived grows by 1 with each further arrival, so it is kept less that `n`.
#[derive(Debug, Default)]
struct Counts {
    /// One for each trial that has waited. It counts while the trial waits.
    bounds: Vec<Bound>,
    /// The bounds of the waiting trials.
    queue: BTreeSet<(i64, u32)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bound {
    less_arrived: i64,
    /// How many trials had arrived when the bound was exact.
    exact_at: Option<usize>,
}

/// Shows what depends on the trials alone, and nothing that depends on earlier questions. So a
/// study that was restored looks as it did before.
impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fronts = self.order.iter().map(|front| &self.fronts[*front as usize].members);
        f.debug_struct("Levels")
            .field("points", &self.points)
            .field("waits", &self.waits)
            .field("fronts", &fronts.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Levels {
    /// Without trials yet, for points with this number of values.
    pub(super) fn new(objectives: usize) -> Self {
        Self {
            objectives,
            points: Vec::new(),
            front_of: Vec::new(),
            waits: Vec::new(),
            fronts: Vec::new(),
            order: Vec::new(),
            dominators: Dominators::new(objectives),
            counts: Mutex::default(),
        }
    }

    /// Number of trials.
    pub(super) fn len(&self) -> usize {
        self.waits.len()
    }

    /// Adds a trial that waits, with what it is ranked by; less is better.
    ///
    /// # Panics
    /// If the point has another number of values than the others.
    pub(super) fn insert(&mut self, point: &[f64]) {
        assert_eq!(point.len(), self.objectives, "a point of another number of objectives");
        let place = self.len() as u32;
        self.points.extend_from_slice(point);
        self.waits.push(false);
        self.front_of.push(0);
        self.dominators.add(point);
        let mut level = self.order.partition_point(|front| self.is_behind(*front, place));
        let mut moved = vec![place];
        while !moved.is_empty() {
            let Some(&front) = self.order.get(level) else {
                self.open(level, &moved);
                break;
            };
            let behind = self.dominated(front, &moved);
            if behind.len() == self.fronts[front as usize].members.len() {
                // All of it is pushed back, and so are the fronts behind it, as they are.
                self.open(level, &moved);
                break;
            }
            self.remove(front, &behind);
            self.put(front, &moved);
            moved = behind;
            level += 1;
        }
        self.counts().bounds.push(Bound::default());
        self.set_waiting(place as usize, true);
    }

    /// Whether the trial at this place waits.
    pub(super) fn waits(&self, place: usize) -> bool {
        self.waits[place]
    }

    /// Marks whether the trial at this place waits.
    pub(super) fn set_waiting(&mut self, place: usize, waits: bool) {
        if self.waits[place] == waits {
            return;
        }
        self.waits[place] = waits;
        let front = self.front_of[place];
        let waiting = &mut self.fronts[front as usize].waiting;
        *waiting = if waits { *waiting + 1 } else { *waiting - 1 };
        let mut counts = self.counts();
        if waits {
            // Only trials of better fronts can dominate it.
            let better = self.order.iter().take_while(|other| **other != front);
            let better: usize =
                better.map(|other| self.fronts[*other as usize].members.len()).sum();
            let less_arrived = better as i64 - self.len() as i64;
            counts.bounds[place] = Bound { less_arrived, exact_at: None };
            counts.queue.insert((less_arrived, place as u32));
        } else {
            let Bound { less_arrived, .. } = counts.bounds[place];
            counts.queue.remove(&(less_arrived, place as u32));
        }
    }

    /// The first waiting trial among those with a rank of `from` and above, if its rank is below
    /// `to`.
    pub(super) fn first_waiting(&self, from: usize, to: usize) -> Option<usize> {
        let mut start = 0;
        for front in &self.order {
            let front = &self.fronts[*front as usize];
            tally::count(1);
            let end = start + front.members.len();
            if start >= to {
                return None;
            }
            if end > from && front.waiting > 0 {
                let ranked = self.ranked(front);
                let within = from.saturating_sub(start)..to.min(end) - start;
                let first = ranked[within].iter().find(|member| self.waits[**member as usize]);
                if let Some(first) = first {
                    return Some(*first as usize);
                }
            }
            start = end;
        }
        None
    }

    /// The first waiting trial that at least `most` others dominate.
    pub(super) fn first_beaten(&self, most: usize) -> Option<usize> {
        let beaten = self.beaten(most);
        if beaten.len() < 2 {
            return beaten.first().map(|place| *place as usize);
        }
        let fronts: BTreeSet<u32> =
            beaten.iter().map(|place| self.front_of[*place as usize]).collect();
        let front = self.order.iter().find(|front| fronts.contains(front))?;
        let mut ranked = self.ranked(&self.fronts[*front as usize]).iter();
        ranked.find(|member| beaten.contains(member)).map(|place| *place as usize)
    }

    /// The waiting trials that at least `most` others dominate, ascending.
    fn beaten(&self, most: usize) -> BTreeSet<u32> {
        let mut counts = self.counts();
        let Counts { bounds, queue } = &mut *counts;
        let arrived = self.len();
        let enough = most as i64 - arrived as i64;
        let due: Vec<u32> = queue.range((enough, 0)..).map(|(_, place)| *place).collect();
        tally::count(due.len());
        let mut beaten = BTreeSet::new();
        for place in due {
            let bound = &mut bounds[place as usize];
            if bound.exact_at != Some(arrived) {
                queue.remove(&(bound.less_arrived, place));
                let count = self.dominators.count(self.point(place));
                *bound =
                    Bound { less_arrived: count as i64 - arrived as i64, exact_at: Some(arrived) };
                queue.insert((bound.less_arrived, place));
            }
            if bound.less_arrived >= enough {
                beaten.insert(place);
            }
        }
        beaten
    }

    /// Whether a trial belongs behind a front, because one of its members dominates it.
    fn is_behind(&self, front: u32, place: u32) -> bool {
        let members = &self.fronts[front as usize].members;
        let before = members.partition_point(|member| self.first(*member) <= self.first(place));
        // With two objectives the second one falls along the front, so the last member decides.
        let from = if self.objectives == 2 { before.saturating_sub(1) } else { 0 };
        members[from..before].iter().any(|member| self.dominates(*member, place))
    }

    /// The members of a front that one of the `new` trials dominates, in their order.
    fn dominated(&self, front: u32, new: &[u32]) -> Vec<u32> {
        let members = &self.fronts[front as usize].members;
        let mut beaten = BTreeSet::new();
        for place in new {
            let from = members.partition_point(|member| self.first(*member) < self.first(*place));
            for (at, member) in members.iter().enumerate().skip(from) {
                if self.dominates(*place, *member) {
                    beaten.insert(at);
                } else if self.objectives == 2 && self.point(*member)[1] < self.point(*place)[1] {
                    // The second objective falls along the front.
                    break;
                }
            }
        }
        beaten.into_iter().map(|at| members[at]).collect()
    }

    /// Makes a new front of these trials, before the one at `level` of the order.
    fn open(&mut self, level: usize, members: &[u32]) {
        let front = self.fronts.len() as u32;
        self.fronts.push(Front::default());
        self.order.insert(level, front);
        self.put(front, members);
    }

    fn remove(&mut self, front: u32, members: &[u32]) {
        if members.is_empty() {
            return;
        }
        let waiting = members.iter().filter(|member| self.waits[**member as usize]).count();
        let front = &mut self.fronts[front as usize];
        // Both are in the same order.
        let mut next = members.iter().peekable();
        front.members.retain(|member| next.next_if_eq(&member).is_none());
        front.waiting -= waiting;
        front.ranked = OnceLock::new();
    }

    fn put(&mut self, front: u32, members: &[u32]) {
        for member in members {
            let list = &self.fronts[front as usize].members;
            let at = list.partition_point(|other| self.first(*other) <= self.first(*member));
            let waits = usize::from(self.waits[*member as usize]);
            self.front_of[*member as usize] = front;
            let front = &mut self.fronts[front as usize];
            front.members.insert(at, *member);
            front.waiting += waits;
            front.ranked = OnceLock::new();
        }
    }

    fn first(&self, place: u32) -> f64 {
        self.points[place as usize * self.objectives]
    }

    fn ranked<'a>(&self, front: &'a Front) -> &'a [u32] {
        front.ranked.get_or_init(|| {
            let mut members = front.members.clone();
            members.sort_unstable();
            tally::count(members.len() * self.objectives);
            let points: Vec<Vec<f64>> =
                members.iter().map(|member| self.point(*member).to_vec()).collect();
            let mut ranked: Vec<(u32, f64)> =
                members.into_iter().zip(pareto::crowding(&points)).collect();
            ranked.sort_by(|(a, far), (b, farther)| farther.total_cmp(far).then(a.cmp(b)));
            ranked.into_iter().map(|(member, _)| member).collect()
        })
    }

    fn point(&self, place: u32) -> &[f64] {
        &self.points[place as usize * self.objectives..][..self.objectives]
    }

    fn dominates(&self, a: u32, b: u32) -> bool {
        tally::count(1);
        pareto::dominates(self.point(a), self.point(b))
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

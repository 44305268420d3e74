//! The calls that a controller gets, live and in replay.

use std::cell::RefCell;

use edgesmith_common::{Fault, StudySpec, TrialNumber};
use rand::Rng;

use super::super::*;
use super::builders::*;
use crate::controller::{Controller, FinishedTrial, Proposal, Random};

thread_local! {
    /// Calls to the controllers of this test's thread, in order.
    static HEARD: RefCell<Vec<Heard>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug, Clone, PartialEq)]
enum Heard {
    Proposed(TrialNumber),
    Finished(FinishedTrial),
}

/// Proposes as [`Random`] does, and logs its calls.
struct Listener(Random);

impl Controller for Listener {
    fn suggest(&self, number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        let proposal = self.0.suggest(number, rng)?;
        Some(Proposal { parents: vec![TrialNumber(number.0 / 2)], ..proposal })
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.0.proposed(number, proposal);
        HEARD.with_borrow_mut(|heard| heard.push(Heard::Proposed(number)));
    }

    fn update(&mut self, finished: &FinishedTrial) {
        HEARD.with_borrow_mut(|heard| heard.push(Heard::Finished(finished.clone())));
    }
}

fn listener(spec: &StudySpec) -> Box<dyn Controller> {
    Box::new(Listener(Random::new(spec.space.clone())))
}

#[test]
fn controllers_are_told_of_every_trial_live_and_in_replay() {
    let mut bench = Bench::new();
    bench.core = Core::with_controllers(CONFIG, listener);
    let builder = StudyBuilder::new("s").trials(3).attempts(1).device("local");
    let study = bench.submit(builder.constraint("latency_ms", "max = 2"));
    let worker = bench.join(WorkerBuilder::both());
    for ms in [1.0, 3.0] {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
        let lease = bench.lease(worker);
        let outcome = Outcome::Measured(measurement(&class("local"), ms));
        assert!(bench.report(worker, &lease, outcome));
    }
    for fault in [Fault::Candidate, Fault::Attempt] {
        let lease = bench.lease(worker);
        bench.fail(worker, &lease, fault);
    }
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
    assert_eq!(bench.trial(&study, 3).parents, vec![TrialNumber(1)]);

    let [a, b, c, d] = [0, 1, 2, 3].map(TrialNumber);
    let complete = |number, objectives, violation| {
        Heard::Finished(FinishedTrial::Complete { number, objectives, violation })
    };
    let expected = vec![
        Heard::Proposed(a),
        complete(a, vec![-0.5, 1.0], 0.0),
        Heard::Proposed(b),
        complete(b, vec![-0.51, 3.0], 0.5),
        Heard::Proposed(c),
        Heard::Finished(FinishedTrial::Infeasible { number: c }),
        Heard::Proposed(d),
        Heard::Finished(FinishedTrial::Failed { number: d }),
    ];
    assert_eq!(HEARD.take(), expected);
    let mut restored = Core::with_controllers(CONFIG, listener);
    restored.replay(bench.records.clone(), bench.now).unwrap();
    assert_eq!(HEARD.take(), expected);
    assert_eq!(lasting(&restored), lasting(&bench.core));
}

#[test]
fn controllers_are_told_of_trials_that_stop_at_a_rung() {
    let mut bench = Bench::new();
    bench.core = Core::with_controllers(CONFIG, listener);
    let study = bench.submit(StudyBuilder::new("s").trials(2).fidelity("asha"));
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..4 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    let counts = bench.status(&study).counts;
    assert_eq!((counts.complete, counts.pruned), (1, 1));
    let heard = HEARD.take();
    let (a, b) = (TrialNumber(0), TrialNumber(1));
    assert_eq!(heard[..2], [Heard::Proposed(a), Heard::Proposed(b)]);
    assert_eq!(heard[2], Heard::Finished(FinishedTrial::Pruned { number: a }));
    assert!(
        matches!(heard[3], Heard::Finished(FinishedTrial::Complete { number, .. }) if number == b)
    );
    let mut restored = Core::with_controllers(CONFIG, listener);
    restored.replay(bench.records.clone(), bench.now).unwrap();
    assert_eq!(HEARD.take(), heard);
    assert_eq!(lasting(&restored), lasting(&bench.core));
}

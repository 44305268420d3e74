//! The calls that a controller gets, live and in replay.

use std::cell::RefCell;

use edgesmith_common::{Fault, StudySpec, TrialNumber};
use rand::Rng;

use super::super::study::Told;
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

/// What a study's notes tell its controller.
fn told(core: &Core, study: &StudyName) -> Vec<Heard> {
    let heard = |told| match told {
        Told::Proposed(number, _) => Heard::Proposed(number),
        Told::Finished(finished) => Heard::Finished(finished),
    };
    core.known(study).all_told().into_iter().map(heard).collect()
}

/// A controller hears what the notes say, each of them once, and a restart keeps the notes.
fn check(bench: &Bench, study: &StudyName, expected: &[Heard]) {
    assert_eq!(told(&bench.core, study), expected);
    let heard = HEARD.take();
    assert!(!heard.is_empty() && expected.starts_with(&heard), "{heard:?}");
    let mut restored = Core::with_controllers(CONFIG, listener);
    restored.replay(bench.records.clone(), bench.now).unwrap();
    assert_eq!(told(&restored, study), expected);
    assert_eq!(lasting(&restored), lasting(&bench.core));
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
    check(&bench, &study, &expected);
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
    let heard = told(&bench.core, &study);
    let (a, b) = (TrialNumber(0), TrialNumber(1));
    assert_eq!(heard[..2], [Heard::Proposed(a), Heard::Proposed(b)]);
    assert_eq!(heard[2], Heard::Finished(FinishedTrial::Pruned { number: a }));
    assert!(
        matches!(heard[3], Heard::Finished(FinishedTrial::Complete { number, .. }) if number == b)
    );
    check(&bench, &study, &heard);
}

#[test]
fn a_restart_brings_a_controller_to_the_same_proposal() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(30).evolution());
    let worker = bench.join(WorkerBuilder::trainer());
    let run = |bench: &mut Bench, worker, trials| {
        for _ in 0..trials {
            let lease = bench.lease(worker);
            bench.finish(worker, &lease);
        }
    };
    run(&mut bench, worker, 20);
    // Some algorithms look at the budget.
    bench.extend(&study, Some(60), None).unwrap();
    let mut other = Bench::new();
    other.records = bench.records.clone();
    other.core = Core::restore(CONFIG, bench.records.clone(), other.now).unwrap();
    let again = other.join(WorkerBuilder::trainer());
    run(&mut bench, worker, 10);
    run(&mut other, again, 10);
    let genotypes = |bench: &Bench| -> Vec<_> {
        bench.core.trials(&study).unwrap().into_iter().map(|t| (t.genotype, t.parents)).collect()
    };
    assert_eq!(genotypes(&bench), genotypes(&other));
}

#[test]
fn while_a_proposal_is_computed_everybody_else_is_answered() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(4));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    bench.holds_proposals = true;
    let (first, second) = (bench.wait(worker), bench.wait(worker));
    assert_eq!((bench.take(first), bench.take(second)), (None, None));
    assert_eq!(bench.heartbeat(worker, &[]), []);
    assert!(bench.answer_proposal());
    let lease = bench.leased(first);
    // The next one is asked for only now, because it must know the first.
    assert_eq!(bench.take(second), None);
    bench.finish(worker, &lease);
    assert!(bench.answer_proposal());
    let lease = bench.leased(second);
    bench.finish(worker, &lease);
    assert!(!bench.answer_proposal());
    assert_eq!(bench.status(&study).counts.complete, 2);
}

#[test]
fn a_proposal_that_is_not_wanted_any_more_is_dropped() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(4));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    bench.holds_proposals = true;
    let asked = bench.wait(worker);
    bench.steer(&study, Action::Pause).unwrap();
    assert!(bench.answer_proposal());
    assert_eq!(bench.take(asked), None);
    assert_eq!(bench.trial_states(&study), []);
    bench.steer(&study, Action::Resume).unwrap();
    assert!(bench.answer_proposal());
    bench.leased(asked);
    // The study is deleted meanwhile, and another one has its name.
    let asked = bench.wait(worker);
    bench.steer(&study, Action::Delete).unwrap();
    bench.submit(StudyBuilder::new("s").trials(4));
    assert!(bench.answer_proposal());
    assert_eq!((bench.take(asked), bench.trial_states(&study)), (None, vec![]));
    assert!(bench.answer_proposal());
    bench.leased(asked);
    assert!(!bench.answer_proposal());
}

#[test]
fn a_number_that_an_import_took_is_proposed_again() {
    let mut bench = Bench::new();
    let study = bench.submit_table("s", "trials = 5");
    let worker = bench.join(WorkerBuilder::reader());
    bench.holds_proposals = true;
    let asked = bench.wait(worker);
    let space = bench.core.space(&study).unwrap();
    let genotype = space.genotype(vec![0; space.choices().len()]).unwrap();
    let trials = vec![KnownTrial { genotype, figures: figures(TrialNumber(7)) }];
    let imported = bench.ask(|to| Event::Import { to, study: study.clone(), trials });
    assert_eq!(imported, Ok(Answer::Imported { imported: 1, known: 0 }));
    assert!(bench.answer_proposal());
    assert_eq!(bench.take(asked), None);
    assert!(bench.answer_proposal());
    let lease = bench.leased(asked);
    assert!(matches!(lease.work, Work::LookUpTrial { number: TrialNumber(1), .. }));
}

//! Trials that start from the weights of a finished relative.

use edgesmith_common::{ArtifactHash, Fault, TrialNumber};
use edgesmith_search_space::heritable_share;

use super::super::*;
use super::builders::*;

/// Runs a study to its end and returns each trial's donor. With `restart`, the coordinator restarts
/// after each lease.
fn donors(study: StudyBuilder, restart: bool) -> (Bench, Vec<Option<TrialNumber>>) {
    let mut bench = Bench::new();
    let name = bench.submit(study);
    let mut worker = bench.join(WorkerBuilder::trainer());
    let (mut donors, mut weights) = (Vec::new(), Vec::new());
    loop {
        let to = bench.wait(worker);
        let Some(Ok(Answer::Leased(lease))) = bench.take(to) else { break };
        let Work::TrainTrial { number, donor, .. } = &lease.work else { panic!("{lease:?}") };
        let from = bench.trial(&name, number.0).inherits_from;
        assert_eq!(from.is_some(), donor.is_some());
        if let (Some(from), Some(donor)) = (from, donor) {
            assert!(from < *number);
            assert_eq!(donor.genotype, bench.trial(&name, from.0).genotype);
            assert_eq!(donor.weights, weights[from.0 as usize]);
        }
        donors.push(from);
        weights.push(ArtifactHash::of(format!("weights {}", lease.attempt).as_bytes()));
        bench.finish(worker, &lease);
        if restart {
            bench.restart();
            worker = bench.join(WorkerBuilder::trainer());
        }
    }
    (bench, donors)
}

#[test]
fn a_child_starts_from_a_parent_and_a_restart_keeps_its_donor() {
    let study = || StudyBuilder::new("s").evolution().trials(12).inherit_epochs(2);
    let (bench, told) = donors(study(), true);
    assert_eq!(told[0], None, "the first trial has no donor");
    let inherits = told.iter().flatten().count();
    assert!(inherits >= 6, "{inherits} of 12 inherit");
    for (number, donor) in told.iter().enumerate() {
        let parents = bench.trial(&"s".parse().unwrap(), number as u32).parents;
        // A child with one changed choice can take over most of the weights.
        if let (Some(donor), [_, ..]) = (donor, &parents[..]) {
            assert!(parents.contains(donor), "{number}");
        }
    }
    assert_eq!(donors(study(), false).1, told, "a restart changes nothing");
}

#[test]
fn without_parents_the_nearest_trial_with_enough_weights_is_the_donor() {
    let (bench, told) = donors(StudyBuilder::new("s").trials(12).inherit_epochs(2), false);
    assert!(told.iter().flatten().count() > 0);
    let study = "s".parse().unwrap();
    let genotype = |number: usize| bench.trial(&study, number as u32).genotype;
    let space = StudyBuilder::new("s").build();
    let space = &space.training().unwrap().space;
    let share = |number: usize, donor: usize| {
        let own = space.decode(&genotype(number)).graph(space.data()).unwrap();
        let donor = space.decode(&genotype(donor)).pruned_graph(space.data()).unwrap();
        heritable_share(&own, &donor)
    };
    for (number, donor) in told.iter().enumerate() {
        let most = (0..number).map(|other| share(number, other)).fold(0.0, f64::max);
        match donor {
            Some(donor) => assert_eq!(share(number, donor.0 as usize), most),
            None => assert!(most < 0.5, "trial {number} could have had {most}"),
        }
    }
}

#[test]
fn without_inherit_epochs_there_are_no_donors() {
    let (_, told) = donors(StudyBuilder::new("s").evolution().trials(6), false);
    assert_eq!(told, vec![None; 6]);
}

#[test]
fn no_trial_starts_from_a_failed_one() {
    let mut bench = Bench::new();
    let study = StudyBuilder::new("s").attempts(1).trials(4).inherit_epochs(2);
    let name = bench.submit(study);
    let worker = bench.join(WorkerBuilder::trainer());
    for number in 0..4 {
        let lease = bench.lease(worker);
        let Work::TrainTrial { donor, .. } = &lease.work else { panic!("{lease:?}") };
        assert_eq!(*donor, None);
        bench.fail(worker, &lease, Fault::Attempt);
        assert_eq!(bench.trial(&name, number).inherits_from, None::<TrialNumber>);
    }
}

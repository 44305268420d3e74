//! Candidates on their whole way through this worker.

use edgesmith_common::DeviceClass;

use super::*;

const STUDY: &str = r#"
study = { name = "rungs", seed = 3 }
data = { source = "digits", train_limit = 200, test_limit = 50 }
budget.trials = 1
objectives = [{ metric = "validation_accuracy" }]
training = { epochs = 4, fine_tune_epochs = 1, augmentation = { shift = 1, views = 3 } }
fidelity = { rule = "asha", reduction = 2 }
recipe = { prune = 0.25, precision = "int8" }
[space]
resolution = 8
stem_width = 8
[[space.stages]]
width = 8
operation = "inverted-residual"
expansion = 2
"#;

/// A worker of its own: nothing is shared with others but what the coordinator hands on.
fn worker() -> Pipeline {
    let info = DeviceInfo {
        class: DeviceClass::local(),
        name: "test".to_owned(),
        cpu: String::new(),
        cpu_flags: Vec::new(),
        cores: 1,
    };
    Pipeline::new(Some(TrainDevice::Flex), info, PathBuf::from("."))
}

fn task(rung: Option<u32>, checkpoint: Option<ArtifactHash>) -> TaskWork {
    let spec = Arc::new(StudySpec::parse(STUDY).unwrap());
    let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
    let number = TrialNumber(7);
    let kind = TaskKind::TrainTrial { number, genotype, soft_targets: None, rung, checkpoint };
    TaskWork { study: spec.name.clone(), spec, kind }
}

#[test]
fn from_rung_to_rung_on_other_workers_a_trial_ends_with_the_bits_of_one_go() {
    let through = match worker().execute(task(None, None), &AttemptContext::offline(Vec::new())) {
        Ok(Outcome::TrialTrained(trained)) => trained,
        other => panic!("{other:?}"),
    };
    let mut checkpoint = None;
    let mut brought = Vec::new();
    let mut before = 0.0;
    for rung in [1, 2] {
        let context = AttemptContext::offline(brought);
        let report = match worker().execute(task(Some(rung), checkpoint), &context) {
            Ok(Outcome::RungReached(report)) => report,
            other => panic!("{other:?}"),
        };
        // Of 200 images a fifth validates.
        assert_eq!((report.epochs, report.images_seen), (rung, u64::from(rung) * 160));
        assert!((0.0..=1.0).contains(&report.validation_accuracy));
        assert!(report.seconds > before);
        before = report.seconds;
        brought = vec![context.fetch(report.checkpoint).unwrap().to_vec()];
        checkpoint = Some(report.checkpoint);
    }
    let context = AttemptContext::offline(brought);
    let trained = match worker().execute(task(None, checkpoint), &context) {
        Ok(Outcome::TrialTrained(trained)) => trained,
        other => panic!("{other:?}"),
    };
    assert!(trained.seconds > before);
    assert_eq!(TrainedTrial { seconds: 0.0, ..trained }, TrainedTrial { seconds: 0.0, ..through });
}

#[test]
fn a_checkpoint_of_another_worker_s_making_is_left_to_it() {
    let other = b"something else".to_vec();
    let hash = ArtifactHash::of(&other);
    let context = AttemptContext::offline(vec![other]);
    let error = worker().execute(task(Some(2), Some(hash)), &context).unwrap_err();
    assert!(error.retryable, "{error}");
    // One that is past the rung already.
    let late = Checkpoint { epochs: 3, ..Checkpoint::default() }.to_bytes();
    let hash = ArtifactHash::of(&late);
    let context = AttemptContext::offline(vec![late]);
    let error = worker().execute(task(Some(2), Some(hash)), &context).unwrap_err();
    assert!(error.retryable && error.reason.contains("3 of 4 epochs"), "{error}");
}

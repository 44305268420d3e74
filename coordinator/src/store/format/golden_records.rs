//! The records whose bytes `golden.rs` tests: one of every kind, and every variant of every frozen
//! type, in version 1.

use super::*;

/// The study file used in these records.
pub(super) const STUDY: &str = "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 1\n\
                     objectives = [{ metric = \"macs\" }]\n\
                     space = { resolution = 8, stem_width = [4, 8], stages = [{ width = 8 }] }\n";

/// A genotype of this study.
pub(super) const GENOTYPE: [u16; 13] = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub(super) fn hash_text() -> String {
    "01".repeat(32)
}

pub(super) fn network() -> v1::NetworkReport {
    v1::NetworkReport {
        validation_accuracy: 0.5,
        test_accuracy: 0.25,
        model_bytes: 300,
        macs: 5,
        parameters: 6,
        peak_memory_bytes: 7,
    }
}

pub(super) fn trained() -> v1::TrainedTrial {
    v1::TrainedTrial {
        compressed: network(),
        uncompressed: network(),
        model: hash_text(),
        weights: hash_text(),
        images_seen: 8,
        seconds: 1.5,
    }
}

pub(super) fn known() -> v1::Figures {
    v1::Figures {
        validation_accuracy: 0.5,
        test_accuracies: vec![("own".to_owned(), 0.25), ("other".to_owned(), 0.75)],
        model_bytes: Some(300),
        macs: None,
        parameters: Some(6),
        peak_memory_bytes: None,
        latencies: vec![("pi".to_owned(), 2.0)],
        seconds: 1.5,
    }
}

/// One record of every kind, in version 1.
pub(super) fn version_1() -> Vec<v1::Record> {
    let study = || "s".to_owned();
    let why = || "why".to_owned();
    let measure = || vec![(9, "pi".to_owned())];
    let genotype = || GENOTYPE.to_vec();
    vec![
        v1::Record::StudyCreated(v1::StudyCreated {
            study: study(),
            spec_toml: STUDY.to_owned(),
            teacher_weights: Some(hash_text()),
            teacher_task: Some(1),
            at_ms: 1_700_000_000_000,
        }),
        v1::Record::StudyStateChanged(v1::StudyStateChanged {
            study: study(),
            state: v1::StudyState::Complete { reason: Some(why()) },
            elapsed_ms: 5,
        }),
        v1::Record::StudyDeleted(v1::StudyDeleted { study: study() }),
        v1::Record::ProposalsEnded(v1::ProposalsEnded { study: study(), reason: why() }),
        v1::Record::TrialProposed(v1::TrialProposed {
            study: study(),
            number: 3,
            task: 4,
            genotype: genotype(),
            parents: vec![1, 2],
        }),
        v1::Record::TrialInfeasible(v1::TrialInfeasible {
            study: study(),
            number: 3,
            genotype: genotype(),
            parents: vec![],
            reason: why(),
        }),
        v1::Record::AttemptStarted(v1::AttemptStarted {
            study: study(),
            task: 4,
            attempt: 5,
            worker: 6,
            elapsed_ms: 7,
        }),
        v1::Record::AttemptEnded(v1::AttemptEnded {
            study: study(),
            task: 4,
            attempt: 5,
            ending: v1::AttemptEnding::Failed { reason: why() },
            elapsed_ms: 7,
        }),
        v1::Record::TeacherTrained(v1::TeacherTrained {
            study: study(),
            trained: trained(),
            soft_targets: hash_text(),
            measure: measure(),
        }),
        v1::Record::TrialTrained(v1::TrialTrained {
            study: study(),
            number: 3,
            trained: trained(),
            measure: measure(),
        }),
        v1::Record::Measured(v1::Measured {
            study: study(),
            task: 9,
            measurement: v1::Measurement {
                device: v1::DeviceInfo {
                    class: "pi".to_owned(),
                    name: "board".to_owned(),
                    cpu: "some cpu".to_owned(),
                    cpu_flags: vec!["fma".to_owned()],
                    cores: 4,
                },
                engine: "edge-runtime".to_owned(),
                engine_version: "0.1.0".to_owned(),
                threads: 1,
                batch: 1,
                warmup_runs: 5,
                samples: 50,
                p50_ms: 2.0,
                p95_ms: 2.5,
                min_ms: 1.5,
            },
        }),
        v1::Record::TrialFinished(v1::TrialFinished {
            study: study(),
            number: 3,
            ending: v1::TrialEnding::ScreenedOut,
        }),
        v1::Record::TaskGivenUp(v1::TaskGivenUp { study: study(), task: 9, reason: why() }),
        v1::Record::WorkerIdsReserved(v1::WorkerIdsReserved { below: 257 }),
        v1::Record::TrialLookedUp(v1::TrialLookedUp {
            study: study(),
            number: 3,
            figures: known(),
        }),
        v1::Record::RungReached(v1::RungReached {
            study: study(),
            number: 3,
            report: v1::RungReport {
                epochs: 4,
                validation_accuracy: 0.5,
                checkpoint: "00".repeat(32),
                images_seen: 0,
                seconds: 1.5,
            },
        }),
        v1::Record::TrialPromoted(v1::TrialPromoted { study: study(), number: 3, task: 4 }),
        v1::Record::TrialImported(v1::TrialImported {
            study: study(),
            number: 3,
            genotype: genotype(),
            figures: known(),
        }),
        v1::Record::TrialInherits(v1::TrialInherits { study: study(), number: 3, donor: 2 }),
        v1::Record::TrialTooSlow(v1::TrialTooSlow {
            study: study(),
            number: 3,
            genotype: genotype(),
            parents: vec![1],
            device: "pi".to_owned(),
            reason: why(),
        }),
        v1::Record::TrialScored(v1::TrialScored { study: study(), number: 3, score: -0.5 }),
        v1::Record::DataCheckWanted(v1::DataCheckWanted { study: study(), task: 4 }),
        v1::Record::DataChecked(v1::DataChecked {
            study: study(),
            train: 3,
            validation: 2,
            test: 1,
        }),
        v1::Record::DataDamaged(v1::DataDamaged { study: study(), reason: why() }),
        v1::Record::DataTrusted(v1::DataTrusted { study: study() }),
        v1::Record::TeacherRetried(v1::TeacherRetried { study: study(), task: 4 }),
        v1::Record::TrialRetried(v1::TrialRetried {
            study: study(),
            number: 3,
            task: Some(4),
            measure: vec![],
        }),
        v1::Record::BudgetExtended(v1::BudgetExtended {
            study: study(),
            trials: 7,
            simulated_seconds: None,
            max_attempts: 3,
            hours: None,
            source: None,
        }),
        v1::Record::StudyRenamed(v1::StudyRenamed { study: study(), name: "t".to_owned() }),
        v1::Record::TeacherMeasuredAgain(v1::TeacherMeasuredAgain {
            study: study(),
            measure: vec![(9, "pi".to_owned(), "edge-runtime".to_owned(), 1)],
        }),
        v1::Record::IdsReserved(v1::IdsReserved { tasks_below: 300, attempts_below: 70_000 }),
    ]
}

/// One study file that looks networks up in a table.
pub(super) const TABLE: &str = "study.name = \"s\"\nbudget.trials = 1\n\
                     objectives = [{ metric = \"validation_accuracy\" }]\n\
                     [table]\npath = \"p\"\n";

/// The names of the kinds.
pub(super) const KINDS: [&str; 31] = [
    "study-created",
    "study-state-changed",
    "study-deleted",
    "proposals-ended",
    "trial-proposed",
    "trial-infeasible",
    "attempt-started",
    "attempt-ended",
    "teacher-trained",
    "trial-trained",
    "measured",
    "trial-finished",
    "task-given-up",
    "worker-ids-reserved",
    "trial-looked-up",
    "rung-reached",
    "trial-promoted",
    "trial-imported",
    "trial-inherits",
    "trial-too-slow",
    "trial-scored",
    "data-check-wanted",
    "data-checked",
    "data-damaged",
    "data-trusted",
    "teacher-retried",
    "trial-retried",
    "budget-extended",
    "study-renamed",
    "teacher-measured-again",
    "ids-reserved",
];

/// The records of [`version_1`], and every variant of the types in them that is not there, by name.
pub(super) fn every_variant() -> Vec<(String, v1::Record)> {
    let kinds = KINDS.iter().map(|name| (*name).to_owned());
    let mut all: Vec<(String, v1::Record)> = kinds.zip(version_1()).collect();
    let study = || "s".to_owned();
    let why = || "why".to_owned();
    let mut add =
        |of: &str, record| all.push((format!("{}:{of}", KINDS[kind_of(&record)]), record));
    let created = |spec_toml: &str, teacher_weights, teacher_task| {
        let spec_toml = spec_toml.to_owned();
        let at_ms = 1_700_000_000_000;
        let study = study();
        v1::StudyCreated { study, spec_toml, teacher_weights, teacher_task, at_ms }
    };
    add("no-teacher", v1::Record::StudyCreated(created(STUDY, None, None)));
    add("teacher-of-file", v1::Record::StudyCreated(created(STUDY, Some(hash_text()), None)));
    add("table", v1::Record::StudyCreated(created(TABLE, None, None)));
    for (of, state) in [
        ("running", v1::StudyState::Running),
        ("paused", v1::StudyState::Paused),
        ("complete", v1::StudyState::Complete { reason: None }),
        ("complete-with-reason", v1::StudyState::Complete { reason: Some(why()) }),
        ("cancelled", v1::StudyState::Cancelled),
        ("failed", v1::StudyState::Failed { reason: why() }),
    ] {
        let changed = v1::StudyStateChanged { study: study(), state, elapsed_ms: 300 };
        add(of, v1::Record::StudyStateChanged(changed));
    }
    for (of, ending) in [
        ("succeeded", v1::AttemptEnding::Succeeded),
        ("failed", v1::AttemptEnding::Failed { reason: why() }),
        ("lost", v1::AttemptEnding::Lost),
        ("left", v1::AttemptEnding::Left),
    ] {
        let (task, attempt, elapsed_ms) = (4, 5, 7);
        let ended = v1::AttemptEnded { study: study(), task, attempt, ending, elapsed_ms };
        add(of, v1::Record::AttemptEnded(ended));
    }
    for (of, ending) in [
        ("complete", v1::TrialEnding::Complete),
        ("infeasible", v1::TrialEnding::Infeasible { reason: why() }),
        ("failed", v1::TrialEnding::Failed { reason: why() }),
        ("pruned", v1::TrialEnding::Pruned),
        ("screened-out", v1::TrialEnding::ScreenedOut),
    ] {
        let finished = v1::TrialFinished { study: study(), number: 3, ending };
        add(of, v1::Record::TrialFinished(finished));
    }
    let report = v1::RungReport {
        epochs: 4,
        validation_accuracy: 0.5,
        checkpoint: hash_text(),
        images_seen: 8,
        seconds: 1.5,
    };
    let reached = v1::RungReached { study: study(), number: 3, report };
    add("with-checkpoint", v1::Record::RungReached(reached));
    let measure = vec![(9, "pi".to_owned(), "edge-runtime".to_owned(), 1)];
    let retried = v1::TrialRetried { study: study(), number: 3, task: None, measure };
    add("trained", v1::Record::TrialRetried(retried));
    let extended = v1::BudgetExtended {
        study: study(),
        trials: 7,
        simulated_seconds: Some(2.5),
        max_attempts: 3,
        hours: Some(1.5),
        source: Some(STUDY.to_owned()),
    };
    add("of-file", v1::Record::BudgetExtended(extended));
    all
}

/// Records with variants that version 1 could not hold, by name. A new variant of a frozen type of
/// version 2 is added here.
pub(super) fn newer_variants() -> Vec<(String, Frame)> {
    let why = || "why".to_owned();
    let mut all = Vec::new();
    for (of, ending) in [
        ("fault-of-worker", v2::AttemptEnding::FaultOfWorker { reason: why() }),
        ("fault-of-data", v2::AttemptEnding::FaultOfData { reason: why() }),
    ] {
        let (study, task, attempt, elapsed_ms) = ("s".to_owned(), 4, 5, 7);
        let ended = v2::AttemptEnded { study, task, attempt, ending, elapsed_ms };
        all.push((format!("attempt-ended:{of}"), Frame::of(&ended).unwrap()));
    }
    all
}

/// The kind's number, to index [`KINDS`]. A new variant of a frozen type does not compile here
/// until it is named; then it also needs a record in [`every_variant`].
pub(super) fn kind_of(record: &v1::Record) -> usize {
    match record {
        v1::Record::StudyStateChanged(changed) => match changed.state {
            v1::StudyState::Running
            | v1::StudyState::Paused
            | v1::StudyState::Complete { reason: _ }
            | v1::StudyState::Cancelled
            | v1::StudyState::Failed { reason: _ } => {}
        },
        v1::Record::AttemptEnded(ended) => match ended.ending {
            v1::AttemptEnding::Succeeded
            | v1::AttemptEnding::Failed { reason: _ }
            | v1::AttemptEnding::Lost
            | v1::AttemptEnding::Left => {}
        },
        v1::Record::TrialFinished(finished) => match finished.ending {
            v1::TrialEnding::Complete
            | v1::TrialEnding::Infeasible { reason: _ }
            | v1::TrialEnding::Failed { reason: _ }
            | v1::TrialEnding::Pruned
            | v1::TrialEnding::ScreenedOut => {}
        },
        _ => {}
    }
    record.kind() as usize
}

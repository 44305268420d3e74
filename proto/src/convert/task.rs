//! Workers, tasks and their outcomes.

use edgesmith_common::{
    AttemptError, DataReport, Donor, Fault, Outcome, Role, TrialNumber, Work, WorkerInfo, one_line,
};
use edgesmith_search_space::{Genotype, Space};
use v1::report_request::Outcome as WireOutcome;
use v1::task::Work as WireWork;

use super::{
    ConvertError, MAX_LIST, MAX_NAME, MAX_REASON, MAX_SLOTS, MAX_WORDS, at_most, hash, missing,
    optional_hash, optional_hash_bytes, wrong,
};
use crate::v1;

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Train => v1::Role::Train,
            Role::Measure => v1::Role::Measure,
            Role::Table => v1::Role::Table,
        }
    }
}

impl TryFrom<v1::Role> for Role {
    type Error = ConvertError;

    fn try_from(role: v1::Role) -> Result<Self, Self::Error> {
        match role {
            v1::Role::Train => Ok(Role::Train),
            v1::Role::Measure => Ok(Role::Measure),
            v1::Role::Table => Ok(Role::Table),
            v1::Role::Unspecified => {
                Err(wrong("roles", "the worker has a role that this program does not know"))
            }
        }
    }
}

impl From<&DataReport> for v1::DataReport {
    fn from(report: &DataReport) -> Self {
        let DataReport { train, validation, test, hash } = *report;
        Self { train, validation, test, hash: optional_hash_bytes(hash) }
    }
}

impl TryFrom<v1::DataReport> for DataReport {
    type Error = ConvertError;

    fn try_from(report: v1::DataReport) -> Result<Self, Self::Error> {
        let v1::DataReport { train, validation, test, hash } = report;
        Ok(Self { train, validation, test, hash: optional_hash(&hash, "hash")? })
    }
}

/// What a joining worker says about itself.
///
/// # Errors
/// If a name or a role is invalid, or there are too many slots, roles, engines or held attempts.
pub fn worker_info(request: v1::JoinRequest) -> Result<WorkerInfo, ConvertError> {
    at_most(MAX_SLOTS, request.slots as usize, "slots")?;
    at_most(MAX_SLOTS, request.held.len(), "held")?;
    at_most(MAX_LIST, request.roles.len(), "roles")?;
    at_most(MAX_LIST, request.engines.len(), "engines")?;
    let engine = |name: &String| name.parse().map_err(|e| wrong("engines", e));
    let roles = request.roles().map(Role::try_from).collect::<Result<_, _>>()?;
    Ok(WorkerInfo {
        class: request.device_class.parse().map_err(|e| wrong("device_class", e))?,
        roles,
        engines: request.engines.iter().map(engine).collect::<Result<_, _>>()?,
        name: one_line(&request.name, MAX_WORDS),
        slots: request.slots,
        backend: one_line(&request.backend, MAX_NAME),
    })
}

/// The attempts that a worker runs: for each one its id, the share done within `0..=1`, and the
/// step in words.
///
/// # Errors
/// If there are more than a worker may have.
pub fn running(progress: &[v1::AttemptProgress]) -> Result<Vec<(u64, f64, String)>, ConvertError> {
    at_most(MAX_SLOTS, progress.len(), "running")?;
    let of = |p: &v1::AttemptProgress| {
        let fraction = if p.fraction.is_nan() { 0.0 } else { p.fraction.clamp(0.0, 1.0) };
        (p.attempt_id, fraction, one_line(&p.stage, MAX_WORDS))
    };
    Ok(progress.iter().map(of).collect())
}

/// A genotype of `space` from its option indices.
///
/// # Errors
/// If the space has no such genotype.
pub fn genotype(indices: &[u32], space: &Space) -> Result<Genotype, ConvertError> {
    let indices = indices.iter().map(|&index| u16::try_from(index)).collect::<Result<_, _>>();
    let indices = indices.map_err(|_| wrong("genotype", "an option index is above 65535"))?;
    space.genotype(indices).map_err(|e| wrong("genotype", e))
}

fn indices(genotype: &Genotype) -> Vec<u32> {
    genotype.indices().iter().map(|&index| u32::from(index)).collect()
}

/// A task's work as a message.
pub fn work_message(work: &Work) -> WireWork {
    match work {
        Work::CheckData => WireWork::CheckData(v1::CheckData {}),
        Work::TrainTeacher { weights } => {
            WireWork::TrainTeacher(v1::TrainTeacher { weights: optional_hash_bytes(*weights) })
        }
        Work::ScoreTrial { number, genotype } => {
            WireWork::ScoreTrial(v1::ScoreTrial { number: number.0, genotype: indices(genotype) })
        }
        Work::TrainTrial { number, genotype, soft_targets, rung, checkpoint, donor } => {
            WireWork::TrainTrial(v1::TrainTrial {
                number: number.0,
                genotype: indices(genotype),
                soft_targets: optional_hash_bytes(*soft_targets),
                rung: rung.unwrap_or_default(),
                checkpoint: optional_hash_bytes(*checkpoint),
                donor: donor.as_ref().map(|donor| v1::Donor {
                    genotype: indices(&donor.genotype),
                    weights: donor.weights.as_bytes().to_vec(),
                }),
            })
        }
        Work::LookUpTrial { number, genotype, rung } => WireWork::LookUpTrial(v1::LookUpTrial {
            number: number.0,
            genotype: indices(genotype),
            rung: rung.unwrap_or_default(),
        }),
        Work::MeasureModel { model, number, target } => WireWork::MeasureModel(v1::MeasureModel {
            model: model.as_bytes().to_vec(),
            number: number.map(|n| n.0),
            target: Some(target.into()),
        }),
    }
}

/// The work of a task in a study over `space`.
///
/// # Errors
/// If a part is missing or does not fit the space.
pub fn work(message: &WireWork, space: &Space) -> Result<Work, ConvertError> {
    Ok(match message {
        WireWork::CheckData(v1::CheckData {}) => Work::CheckData,
        WireWork::TrainTeacher(v1::TrainTeacher { weights }) => {
            Work::TrainTeacher { weights: optional_hash(weights, "weights")? }
        }
        WireWork::ScoreTrial(trial) => Work::ScoreTrial {
            number: TrialNumber(trial.number),
            genotype: genotype(&trial.genotype, space)?,
        },
        WireWork::TrainTrial(trial) => Work::TrainTrial {
            number: TrialNumber(trial.number),
            genotype: genotype(&trial.genotype, space)?,
            soft_targets: optional_hash(&trial.soft_targets, "soft_targets")?,
            rung: (trial.rung > 0).then_some(trial.rung),
            checkpoint: optional_hash(&trial.checkpoint, "checkpoint")?,
            donor: match &trial.donor {
                Some(donor) => Some(Donor {
                    genotype: genotype(&donor.genotype, space)?,
                    weights: hash(&donor.weights, "weights")?,
                }),
                None => None,
            },
        },
        WireWork::LookUpTrial(trial) => Work::LookUpTrial {
            number: TrialNumber(trial.number),
            genotype: genotype(&trial.genotype, space)?,
            rung: (trial.rung > 0).then_some(trial.rung),
        },
        WireWork::MeasureModel(v1::MeasureModel { model, number, target }) => Work::MeasureModel {
            model: hash(model, "model")?,
            number: number.map(TrialNumber),
            target: target.clone().ok_or_else(|| missing("target"))?.try_into()?,
        },
    })
}

/// How an attempt ended, as a message.
pub fn outcome_message(ended: &Result<Outcome, AttemptError>) -> WireOutcome {
    match ended {
        Ok(Outcome::DataChecked(report)) => WireOutcome::DataChecked(report.into()),
        Ok(Outcome::TeacherTrained { trained, soft_targets }) => {
            WireOutcome::TeacherTrained(v1::TeacherTrained {
                trained: Some(trained.into()),
                soft_targets: soft_targets.as_bytes().to_vec(),
            })
        }
        Ok(Outcome::Scored(score)) => WireOutcome::Scored(v1::TrialScored { score: *score }),
        Ok(Outcome::RungReached(report)) => WireOutcome::RungReached(report.into()),
        Ok(Outcome::TrialTrained(trained)) => WireOutcome::TrialTrained(trained.into()),
        Ok(Outcome::LookedUp(figures)) => WireOutcome::LookedUp(figures.into()),
        Ok(Outcome::Measured(measurement)) => WireOutcome::Measured(measurement.into()),
        Err(AttemptError { reason, fault }) => WireOutcome::Failed(v1::AttemptFailed {
            reason: reason.clone(),
            fault: v1::Fault::from(*fault).into(),
        }),
    }
}

/// How an attempt ended.
///
/// # Errors
/// If a part is missing, or a name is not known.
pub fn outcome(message: WireOutcome) -> Result<Result<Outcome, AttemptError>, ConvertError> {
    Ok(Ok(match message {
        WireOutcome::DataChecked(report) => Outcome::DataChecked(report.try_into()?),
        WireOutcome::TeacherTrained(v1::TeacherTrained { trained, soft_targets }) => {
            Outcome::TeacherTrained {
                trained: trained.ok_or_else(|| missing("trained"))?.try_into()?,
                soft_targets: hash(&soft_targets, "soft_targets")?,
            }
        }
        WireOutcome::TrialTrained(trained) => Outcome::TrialTrained(trained.try_into()?),
        WireOutcome::Scored(v1::TrialScored { score }) if score.is_finite() => {
            Outcome::Scored(score)
        }
        WireOutcome::Scored(v1::TrialScored { score }) => {
            return Err(wrong("score", format!("{score} is not a finite number")));
        }
        WireOutcome::RungReached(report) => Outcome::RungReached(report.try_into()?),
        WireOutcome::LookedUp(figures) => Outcome::LookedUp(figures.try_into()?),
        WireOutcome::Measured(measurement) => Outcome::Measured(measurement.try_into()?),
        WireOutcome::Failed(failed) => {
            let fault = fault(failed.fault())?;
            let reason = one_line(&failed.reason, MAX_REASON);
            return Ok(Err(AttemptError { reason, fault }));
        }
    }))
}

impl From<Fault> for v1::Fault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Candidate => v1::Fault::Candidate,
            Fault::Attempt => v1::Fault::Attempt,
            Fault::Worker => v1::Fault::Worker,
            Fault::Data => v1::Fault::Data,
            Fault::Memory => v1::Fault::Memory,
        }
    }
}

fn fault(message: v1::Fault) -> Result<Fault, ConvertError> {
    match message {
        v1::Fault::Unspecified => Err(missing("fault")),
        v1::Fault::Candidate => Ok(Fault::Candidate),
        v1::Fault::Attempt => Ok(Fault::Attempt),
        v1::Fault::Worker => Ok(Fault::Worker),
        v1::Fault::Data => Ok(Fault::Data),
        v1::Fault::Memory => Ok(Fault::Memory),
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::{ArtifactHash, Target};
    use edgesmith_search_space::{CellIdentity, CellSpace};
    use proptest::prelude::*;

    use super::super::figures::tests::figures;
    use super::super::trial::tests::{rung, trained};
    use super::*;

    const REPORT: DataReport = DataReport { train: 3, validation: 2, test: 1, hash: None };

    fn space() -> Space {
        Space::Cell(CellSpace::nas_bench_201(CellIdentity::Network))
    }

    proptest! {
        #[test]
        fn outcomes_convert_back(
            trained in trained(), rung in rung(), figures in figures(), soft_targets: [u8; 32],
            score in -1e9..1e9, fault in prop::sample::select(&Fault::ALL[..]),
        ) {
            let soft_targets = ArtifactHash::from_bytes(soft_targets);
            let all = [
                Ok(Outcome::TeacherTrained { trained: trained.clone(), soft_targets }),
                Ok(Outcome::TrialTrained(trained)),
                Ok(Outcome::RungReached(rung)),
                Ok(Outcome::LookedUp(figures)),
                Ok(Outcome::Scored(score)),
                Ok(Outcome::DataChecked(DataReport { hash: Some(soft_targets), ..REPORT })),
                Ok(Outcome::DataChecked(REPORT)),
                Err(AttemptError { reason: "why".to_owned(), fault }),
            ];
            for ended in all {
                prop_assert_eq!(outcome(outcome_message(&ended)).unwrap(), ended);
            }
        }
    }

    #[test]
    fn work_converts_back() {
        let space = space();
        let genotype = space.genotype(vec![0, 1, 2, 3, 4, 0]).unwrap();
        let (number, hash) = (TrialNumber(7), ArtifactHash::of(b"x"));
        let donor = Some(Donor { genotype: genotype.clone(), weights: hash });
        let all = [
            Work::CheckData,
            Work::TrainTeacher { weights: None },
            Work::TrainTeacher { weights: Some(hash) },
            Work::ScoreTrial { number, genotype: genotype.clone() },
            Work::TrainTrial {
                number,
                genotype: genotype.clone(),
                soft_targets: Some(hash),
                rung: Some(3),
                checkpoint: None,
                donor,
            },
            Work::LookUpTrial { number, genotype, rung: None },
            Work::MeasureModel {
                model: hash,
                number: Some(number),
                target: Target::on("board".parse().unwrap()),
            },
        ];
        for of in all {
            assert_eq!(work(&work_message(&of), &space).unwrap(), of);
        }
    }

    #[test]
    fn texts_of_workers_become_one_line_and_lists_are_bounded() {
        let class = || "board".to_owned();
        let join = v1::JoinRequest {
            name: "\x1b]0;x\x07evil\nname".repeat(100),
            device_class: class(),
            backend: "\u{202e}flex".to_owned(),
            ..Default::default()
        };
        let info = worker_info(join.clone()).unwrap();
        assert!(info.name.starts_with("�]0;x�evil name�"), "{}", info.name);
        assert_eq!(info.name.chars().count(), MAX_WORDS);
        assert_eq!(info.backend, "�flex");
        let failed = v1::AttemptFailed {
            reason: "bad\r\n\x1b[2J".to_owned(),
            fault: v1::Fault::Data.into(),
        };
        let ended = outcome(WireOutcome::Failed(failed)).unwrap().unwrap_err();
        assert_eq!(ended.reason, "bad  �[2J");

        let field = |join: v1::JoinRequest| worker_info(join).unwrap_err().field;
        let many = MAX_SLOTS + 1;
        assert_eq!(field(v1::JoinRequest { slots: many as u32, ..join.clone() }), "slots");
        assert_eq!(
            field(v1::JoinRequest { held: vec![v1::HeldAttempt::default(); many], ..join.clone() }),
            "held"
        );
        assert_eq!(field(v1::JoinRequest { roles: vec![1; many], ..join.clone() }), "roles");
        assert_eq!(field(v1::JoinRequest { engines: vec![class(); many], ..join }), "engines");
        let progress = v1::AttemptProgress {
            attempt_id: 7,
            fraction: f64::NAN,
            stage: "a\tb".to_owned(),
            secret: Vec::new(),
        };
        assert_eq!(running(std::slice::from_ref(&progress)).unwrap(), [(7, 0.0, "a b".to_owned())]);
        assert_eq!(running(&vec![progress; many]).unwrap_err().field, "running");
    }

    #[test]
    fn errors_name_the_field_that_does_not_fit() {
        let field = |message: WireWork| work(&message, &space()).unwrap_err().field;
        let trial = v1::ScoreTrial { number: 0, genotype: vec![9; 6] };
        assert_eq!(field(WireWork::ScoreTrial(trial)), "genotype");
        let trial = v1::ScoreTrial { number: 0, genotype: vec![70_000; 6] };
        assert_eq!(field(WireWork::ScoreTrial(trial)), "genotype");
        let model = v1::MeasureModel { model: vec![0; 32], number: None, target: None };
        assert_eq!(field(WireWork::MeasureModel(model)), "target");
        let report = v1::DataReport { hash: vec![1], ..(&REPORT).into() };
        assert_eq!(outcome(WireOutcome::DataChecked(report)).unwrap_err().field, "hash");
        let score = v1::TrialScored { score: f64::NAN };
        assert_eq!(outcome(WireOutcome::Scored(score)).unwrap_err().field, "score");
        let roles = vec![v1::Role::Unspecified.into()];
        let join = v1::JoinRequest { device_class: "b".to_owned(), roles, ..Default::default() };
        assert_eq!(worker_info(join).unwrap_err().field, "roles");
    }
}

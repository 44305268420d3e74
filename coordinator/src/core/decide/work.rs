//! Describes a task as a worker gets it.

use edgesmith_common::{TaskId, TrialNumber, Work};

use super::inheritance::donor_of;
use crate::core::study::{Study, Task, TaskKind};

/// The full description of a task that waits in `study`.
pub fn described(study: &Study, task: TaskId) -> Work {
    let kind = study.tasks().get(task).map(Task::kind);
    let genotype = |number: &TrialNumber| study.trials()[*number].genotype().clone();
    let teacher = study.teacher().trained();
    let work = match kind {
        Some(TaskKind::Data) => Some(Work::CheckData),
        Some(TaskKind::Teacher) => Some(Work::TrainTeacher { weights: study.teacher_weights() }),
        Some(TaskKind::Score(number)) => {
            Some(Work::ScoreTrial { number: *number, genotype: genotype(number) })
        }
        Some(TaskKind::Train(number)) => Some(Work::TrainTrial {
            number: *number,
            genotype: genotype(number),
            soft_targets: teacher.map(|(_, soft_targets)| soft_targets).or(study.given_logits()),
            rung: study.next_rung(*number),
            checkpoint: study.trials()[*number].rungs().last().and_then(|r| r.checkpoint),
            donor: donor_of(study, *number),
        }),
        Some(TaskKind::LookUp(number)) => Some(Work::LookUpTrial {
            number: *number,
            genotype: genotype(number),
            rung: study.next_rung(*number),
        }),
        Some(TaskKind::Measure(number, target)) => {
            let model = match number {
                None => teacher.and_then(|(values, _)| Some(values.trained()?.model)),
                Some(number) => {
                    let artifacts = study.trials()[*number].stage().artifacts();
                    artifacts.map(|[model, _]| model)
                }
            };
            let (number, target) = (*number, target.clone());
            model.map(|model| Work::MeasureModel { model, number, target })
        }
        None => None,
    };
    work.unwrap_or_else(|| {
        let name = &study.spec().name;
        unreachable!("task {task} of study {name} has no model to work on")
    })
}

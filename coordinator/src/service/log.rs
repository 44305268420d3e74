//! What the coordinator logs of its work: who joined and left, what was leased, lost and refused,
//! and how studies begin and end. The core decides and logs nothing; this reads its events and
//! commands.

use std::time::Duration;

use edgesmith_common::{WorkerId, WorkerInfo};
use tracing::{debug, info, warn};

use crate::core::{
    Answer, AttemptEnding, Command, Event, Record, Refusal, StudyState, TrialEnding,
};

/// A write that takes longer than this is logged as a warning. Nobody is answered meanwhile.
const SLOW_WRITE: Duration = Duration::from_secs(1);
/// Target of what makes a study wait. `search` leaves it out, because it ends with the same text.
const BLOCKED: &str = "edgesmith_coordinator::blocked";

/// What is known of an event once the core has taken it.
#[derive(Debug)]
pub enum Subject {
    /// A worker that wants to join.
    Joins(Box<WorkerInfo>),
    /// A worker that leaves.
    Leaves(WorkerId),
    /// Time that has passed.
    Ticks,
    /// Another request, by the words for it.
    Asks(&'static str),
}

impl Subject {
    /// Of this event.
    pub fn of(event: &Event) -> Self {
        match event {
            Event::Join { worker, .. } => Self::Joins(Box::new(worker.clone())),
            Event::Leave { worker, .. } => Self::Leaves(*worker),
            Event::Submit { .. } => Self::Asks("a study"),
            Event::Import { .. } => Self::Asks("an import"),
            Event::Steer { .. } => Self::Asks("a change of a study's state"),
            Event::Extend { .. } => Self::Asks("a larger budget"),
            Event::Rename { .. } => Self::Asks("another name"),
            Event::Retry { .. } => Self::Asks("another try"),
            Event::Lease { .. } => Self::Asks("a lease"),
            Event::Heartbeat { .. } => Self::Asks("a heartbeat"),
            Event::Report { .. } => Self::Asks("a report"),
            Event::Abandoned { .. } => Self::Asks("a call that was given up"),
            Event::Proposed { .. } => Self::Asks("a proposal"),
            Event::Renew => Self::Asks("new terms"),
            Event::Tick => Self::Ticks,
        }
    }
}

/// Logs what the core decided on an event.
pub fn decided(subject: &Subject, commands: &[Command]) {
    for command in commands {
        match command {
            Command::Persist(record) => recorded(record),
            Command::Reply { answer: Ok(answer), .. } => answered(subject, answer),
            Command::Reply { answer: Err(refusal), .. } => refused(subject, refusal),
            Command::Propose(_) => {}
        }
    }
}

/// Logs that a worker asked for more leases than it may wait for.
pub fn refused_lease(worker: WorkerId) {
    info!("refused a lease: worker {worker} waits for more tasks than it has slots");
}

/// Logs that a worker was silent for too long.
pub fn lost_worker(worker: WorkerId) {
    info!("worker {worker} was lost: it has been silent for too long");
}

/// Logs a durable write of some records that took `time`.
pub fn wrote(records: usize, time: Duration) {
    let ms = time.as_millis() as u64;
    if time > SLOW_WRITE {
        warn!(records, ms, "writing to the disk was slow");
    } else {
        debug!(records, ms, "wrote to the disk");
    }
}

fn answered(subject: &Subject, answer: &Answer) {
    match (subject, answer) {
        (Subject::Joins(info), Answer::Joined { worker, .. }) => {
            let WorkerInfo { name, class, slots, .. } = &**info;
            info!("worker {worker} joined: {name} of class {class} with {slots} slot(s)");
        }
        (Subject::Leaves(worker), Answer::Left) => info!("worker {worker} left"),
        (_, Answer::Imported { imported, known }) => {
            info!("imported {imported} trials; {known} were known");
        }
        (_, Answer::Reported { accepted: false }) => {
            info!("a report came too late, or from another worker; it changed nothing");
        }
        _ => {}
    }
}

fn refused(subject: &Subject, refusal: &Refusal) {
    match subject {
        Subject::Joins(info) => {
            info!("refused worker {} of class {}: {refusal}", info.name, info.class);
        }
        Subject::Leaves(worker) => info!("refused that worker {worker} leaves: {refusal}"),
        Subject::Asks(what) => info!("refused {what}: {refusal}"),
        // Time asks for nothing.
        Subject::Ticks => {}
    }
}

fn recorded(record: &Record) {
    match record {
        Record::StudyCreated { spec, .. } => info!("study {} was submitted", spec.name),
        Record::StudyStateChanged { study, state, .. } => state_changed(study.as_str(), state),
        Record::StudyDeleted { study } => info!("study {study} was deleted"),
        Record::ProposalsEnded { study, .. } => info!("study {study} proposes no more trials"),
        Record::AttemptStarted { study, task, attempt, worker, .. } => {
            info!("study {study}: worker {worker} leased task {task} as attempt {attempt}");
        }
        Record::AttemptEnded { study, task, attempt, ending, .. } => match ending {
            AttemptEnding::Succeeded => {
                debug!("study {study}: attempt {attempt} at task {task} succeeded");
            }
            AttemptEnding::Failed { reason, .. } => {
                info!("study {study}: attempt {attempt} at task {task} failed: {reason}");
            }
            AttemptEnding::TooLarge { reason } => {
                info!("study {study}: attempt {attempt} at task {task} did not fit: {reason}");
            }
            AttemptEnding::FaultOfWorker { reason } => {
                warn!(
                    target: BLOCKED,
                    "study {study}: the worker of attempt {attempt} cannot do it: {reason}"
                );
            }
            AttemptEnding::FaultOfData { reason } => {
                info!("study {study}: attempt {attempt} found damaged data: {reason}");
            }
            AttemptEnding::Lost => {
                info!("study {study}: attempt {attempt} at task {task} was lost");
            }
            AttemptEnding::Left => {
                info!("study {study}: attempt {attempt} at task {task} was given back");
            }
        },
        Record::TrialFinished { study, number, ending } => match ending {
            TrialEnding::Failed { reason } => {
                warn!("study {study}: trial {number} failed: {reason}");
            }
            TrialEnding::Infeasible { reason } => {
                info!("study {study}: trial {number} is infeasible: {reason}");
            }
            TrialEnding::Complete => info!("study {study}: trial {number} is complete"),
            TrialEnding::Pruned | TrialEnding::ScreenedOut => {
                debug!("study {study}: trial {number} goes no further");
            }
        },
        Record::TaskGivenUp { study, task, reason } => {
            warn!("study {study}: task {task} is given up: {reason}");
        }
        Record::DataDamaged { study, reason } => {
            warn!(target: BLOCKED, "study {study} waits until its data are mended: {reason}");
        }
        Record::BudgetExtended { study, budget, .. } => {
            info!("study {study} has a larger budget: {} trials", budget.trials);
        }
        Record::StudyRenamed { study, name } => info!("study {study} is now named {name}"),
        Record::TeacherRetried { study, .. } => info!("study {study}: the teacher is tried again"),
        Record::TeacherMeasuredAgain { study, .. } => {
            info!("study {study}: the teacher is measured again");
        }
        Record::TrialRetried { study, number, .. } => {
            info!("study {study}: trial {number} is tried again");
        }
        Record::DataChecked { study, .. } => info!("study {study}: the data can be read"),
        Record::TeacherTrained { study, .. } => info!("study {study}: the teacher is trained"),
        Record::DataCheckWanted { study, .. }
        | Record::DataTrusted { study }
        | Record::TrialProposed { study, .. }
        | Record::TrialInfeasible { study, .. }
        | Record::TrialTooSlow { study, .. }
        | Record::TrialTrained { study, .. }
        | Record::TrialLookedUp { study, .. }
        | Record::TrialImported { study, .. }
        | Record::TrialInherits { study, .. }
        | Record::TrialPromoted { study, .. }
        | Record::TrialScored { study, .. }
        | Record::RungReached { study, .. }
        | Record::Measured { study, .. } => debug!("study {study}: {}", name(record)),
        Record::WorkerIdsReserved { .. } | Record::IdsReserved { .. } => {}
    }
}

fn state_changed(study: &str, state: &StudyState) {
    let name = state.name();
    match state.reason() {
        "" => info!("study {study} is {name}"),
        reason => info!("study {study} is {name}: {reason}"),
    }
}

/// The name of a record's kind.
fn name(record: &Record) -> String {
    let text = format!("{record:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use edgesmith_common::{AttemptId, TaskId};

    use super::*;
    use crate::core::{RequestId, StudyState};

    /// Keeps what is logged.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines at level info and above that `log` writes, each with its level.
    pub fn logged(log: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn an_operator_sees_who_joined_what_was_lost_and_why_something_was_refused() {
        let study: edgesmith_common::StudyName = "s".parse().unwrap();
        let info = WorkerInfo {
            name: "box".to_owned(),
            class: "board".parse().unwrap(),
            roles: Default::default(),
            engines: Default::default(),
            slots: 2,
            backend: String::new(),
        };
        let reply = |answer| Command::Reply { to: RequestId(1), answer };
        let persist = |record| Command::Persist(Box::new(record));
        let joined = Answer::Joined {
            worker: WorkerId(7),
            heartbeat: Duration::from_secs(1),
            stop: Vec::new(),
        };
        let (task, attempt, elapsed_ms) = (TaskId(3), AttemptId(4), 0);
        let leased = Record::AttemptStarted {
            study: study.clone(),
            task,
            attempt,
            worker: WorkerId(7),
            elapsed_ms,
        };
        let ending = AttemptEnding::Lost;
        let lost = Record::AttemptEnded { study: study.clone(), task, attempt, ending, elapsed_ms };
        let state = StudyState::Failed { reason: "no data".to_owned() };
        let failed = Record::StudyStateChanged { study: study.clone(), state, elapsed_ms };
        let lines = logged(|| {
            decided(&Subject::Joins(info.clone().into()), &[reply(Ok(joined))]);
            let refusal = Err(Refusal::TooManyWorkers(9));
            decided(&Subject::Joins(info.into()), &[reply(refusal)]);
            decided(&Subject::Asks("a lease"), &[persist(leased), reply(Ok(Answer::NoTask))]);
            decided(&Subject::Ticks, &[persist(lost), persist(failed)]);
            decided(&Subject::Leaves(WorkerId(7)), &[reply(Ok(Answer::Left))]);
            lost_worker(WorkerId(8));
            wrote(3, Duration::from_millis(5));
            wrote(3, Duration::from_millis(1500));
        });
        let expected = [
            "INFO worker 7 joined: box of class board with 2 slot(s)",
            "INFO refused worker box of class board: 9 workers are already connected, the most that \
             this coordinator takes; stop one first",
            "INFO study s: worker 7 leased task 3 as attempt 4",
            "INFO study s: attempt 4 at task 3 was lost",
            "INFO study s is failed: no data",
            "INFO worker 7 left",
            "INFO worker 8 was lost: it has been silent for too long",
            "WARN writing to the disk was slow records=3 ms=1500",
        ];
        assert_eq!(lines, expected);
    }
}

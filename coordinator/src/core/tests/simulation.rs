//! A simulation of everything together, in virtual time. Workers join, leave, die, are slow and
//! repeat reports; users pause and delete studies; and the coordinator is killed at any moment,
//! before or after its last write. After each event the invariants hold, and at the end nothing
//! that was acknowledged is missing.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::{
    ArtifactHash, AttemptId, DataReport, StudyName, TaskId, TrialNumber, TrialState, WorkerId,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::*;
use super::builders::*;

#[test]
fn nothing_acknowledged_is_lost() {
    for seed in 0..300 {
        World::new(seed).run();
    }
}

/// A worker process.
struct SimWorker {
    info: WorkerBuilder,
    on: &'static str,
    /// The id that it got when it joined.
    id: Option<WorkerId>,
    held: Vec<Lease>,
    waits: Option<RequestId>,
    /// Hash of the files that it has for studies whose data are in files.
    files: Option<ArtifactHash>,
}

impl SimWorker {
    /// What it reports for a lease if nothing else goes wrong.
    fn result(&self, lease: &Lease) -> Result<Outcome, AttemptError> {
        if lease.data.is_some() && lease.data != self.files {
            return Err(AttemptError::of_worker("other files"));
        }
        Ok(match success(lease, &class(self.on)) {
            Outcome::DataChecked(report) => {
                Outcome::DataChecked(DataReport { hash: self.files, ..report })
            }
            other => other,
        })
    }
}

/// A request that has not been answered yet.
struct Report {
    worker: usize,
    lease: Lease,
    outcome: Result<Outcome, AttemptError>,
}

enum Pending {
    Join(usize),
    Lease(usize),
    Heartbeat(usize),
    Report(Box<Report>),
    Steer,
    Submit,
}

struct World {
    rng: ChaCha8Rng,
    core: Core,
    now: Time,
    /// The records on disk.
    disk: Vec<Record>,
    /// The commands that the runtime has not written yet.
    batch: Vec<Command>,
    /// Proposals that are being computed.
    proposals: Vec<ProposalRequest>,
    pending: BTreeMap<RequestId, Pending>,
    next_request: u64,
    workers: Vec<SimWorker>,
    /// Reports that were sent once and may be sent again.
    old_reports: Vec<(WorkerId, Report)>,
    outcomes: BTreeMap<AttemptId, Result<Outcome, AttemptError>>,
    answers: BTreeMap<AttemptId, (StudyName, bool)>,
    /// Artifacts of results whose acceptance a worker was told.
    acknowledged: BTreeMap<AttemptId, (StudyName, Work, Outcome)>,
    attempts: BTreeSet<AttemptId>,
    tasks: BTreeMap<TaskId, (StudyName, Work)>,
    worker_ids: BTreeSet<WorkerId>,
    finished: BTreeMap<(StudyName, TrialNumber), TrialView>,
    /// The files that study `files` was trained on.
    trained_on: BTreeSet<ArtifactHash>,
}

fn studies() -> [StudyBuilder; 8] {
    [
        StudyBuilder::new("plain").trials(5).attempts(2).constraint("macs", "max = 90000"),
        StudyBuilder::new("taught").trials(4).attempts(3).teacher().device("local").evolution(),
        StudyBuilder::new("devices").trials(3).device("board").device("local").nsga2(),
        StudyBuilder::new("halving").trials(9).attempts(3).device("local").fidelity("asha"),
        StudyBuilder::new("screened").trials(8).attempts(3).device("local").screening("batch = 3"),
        StudyBuilder::new("both").trials(7).attempts(2).fidelity("asha").screening("keep = 0.3"),
        StudyBuilder::new("files").trials(4).attempts(3).files().teacher().device("local"),
        StudyBuilder::new("median").trials(7).attempts(3).fidelity("median").evolution(),
    ]
}

impl World {
    fn new(seed: u64) -> Self {
        let files = REPORT.hash;
        let worker = |info, on| SimWorker { info, on, id: None, held: vec![], waits: None, files };
        // In some worlds, two workers have different files of the same names.
        let other = if seed.is_multiple_of(3) { Some(ArtifactHash::of(b"other")) } else { files };
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            core: Core::new(CONFIG),
            now: Time(Duration::from_secs(1)),
            disk: Vec::new(),
            batch: Vec::new(),
            proposals: Vec::new(),
            pending: BTreeMap::new(),
            next_request: 0,
            workers: vec![
                SimWorker { files: other, ..worker(WorkerBuilder::both(), "local") },
                worker(WorkerBuilder::trainer().slots(3), "local"),
                worker(WorkerBuilder::measurer("board"), "board"),
            ],
            old_reports: Vec::new(),
            outcomes: BTreeMap::new(),
            answers: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            attempts: BTreeSet::new(),
            tasks: BTreeMap::new(),
            worker_ids: BTreeSet::new(),
            finished: BTreeMap::new(),
            trained_on: BTreeSet::new(),
        }
    }

    fn run(&mut self) {
        for study in studies() {
            self.submit(&study);
        }
        self.commit();
        let steps = self.rng.random_range(50..400);
        for _ in 0..steps {
            self.step();
            self.look();
        }
        self.calm();
        self.judge();
    }

    fn step(&mut self) {
        let worker = self.rng.random_range(0..self.workers.len());
        // Some proposals take long.
        if self.rng.random_bool(0.7) {
            self.propose();
        }
        match self.rng.random_range(0..100) {
            0..35 => self.work(worker),
            35..60 => self.report_something(worker),
            60..72 => self.heartbeat(worker),
            72..82 => {
                self.now = self.now.after(Duration::from_millis(self.rng.random_range(0..12_000)));
                if self.rng.random_bool(0.7) {
                    self.handle(Event::Tick);
                }
            }
            82..87 => self.repeat_a_report(),
            87..90 => self.kill(worker),
            90..91 => self.leave(worker),
            91..94 => self.restart(),
            94..97 => self.steer(),
            97..98 => self.retry(),
            98..99 => self.extend(),
            _ => {
                let study = studies()[self.rng.random_range(0..5)].clone();
                self.submit(&study);
            }
        }
        if self.rng.random_bool(0.6) {
            self.commit();
        }
    }

    fn send(&mut self, pending: Pending, event: impl FnOnce(RequestId) -> Event) {
        let to = RequestId(self.next_request);
        self.next_request += 1;
        self.pending.insert(to, pending);
        self.handle(event(to));
    }

    fn handle(&mut self, event: Event) {
        for command in self.core.handle(self.now, event) {
            match command {
                Command::Propose(request) => self.proposals.push(*request),
                other => self.batch.push(other),
            }
        }
        self.core.check_invariants().unwrap();
    }

    /// One of the proposals comes back.
    fn propose(&mut self) {
        if !self.proposals.is_empty() {
            let which = self.rng.random_range(0..self.proposals.len());
            let event = self.proposals.swap_remove(which).answer().into();
            self.handle(event);
        }
    }

    /// The runtime writes the batch and sends its replies.
    fn commit(&mut self) {
        let mut replies = Vec::new();
        for command in std::mem::take(&mut self.batch) {
            match command {
                Command::Persist(record) => self.disk.push(*record),
                Command::Reply { to, answer } => replies.push((to, answer)),
                Command::Propose(_) => unreachable!("it was taken out"),
            }
        }
        for (to, answer) in replies {
            if let Some(pending) = self.pending.remove(&to) {
                self.hear(to, pending, answer);
            }
        }
    }

    fn hear(&mut self, to: RequestId, pending: Pending, answer: Result<Answer, Refusal>) {
        match (pending, answer) {
            (Pending::Join(w), Ok(Answer::Joined { worker, stop, .. })) => {
                assert!(self.worker_ids.insert(worker), "worker {worker} came twice");
                self.workers[w].id = Some(worker);
                self.workers[w].held.retain(|lease| !stop.contains(&lease.attempt));
            }
            (Pending::Lease(w), answer) => {
                let worker = &mut self.workers[w];
                if worker.waits == Some(to) {
                    worker.waits = None;
                    match answer {
                        Ok(Answer::Leased(lease)) => {
                            worker.held.push((*lease).clone());
                            self.note(*lease);
                        }
                        Ok(Answer::NoTask) => {}
                        Err(Refusal::UnknownWorker(_)) => worker.id = None,
                        other => panic!("{other:?}"),
                    }
                } else if let Ok(Answer::Leased(lease)) = answer {
                    // The process that asked is dead, but the task is leased all the same.
                    self.note(*lease);
                }
            }
            (Pending::Heartbeat(w), Ok(Answer::Alive { stop })) => {
                self.workers[w].held.retain(|lease| !stop.contains(&lease.attempt));
            }
            (Pending::Report(report), Ok(Answer::Reported { accepted })) => {
                let attempt = report.lease.attempt;
                let answer = (report.lease.study.clone(), accepted);
                let before = self.answers.insert(attempt, answer);
                // An accepted report stays accepted. A refused one may be accepted later, from
                // another connection.
                assert!(before.is_none_or(|(_, before)| accepted || !before));
                self.workers[report.worker].held.retain(|lease| lease.attempt != attempt);
                if accepted && report.outcome.is_ok() {
                    let Report { lease, outcome, worker } = *report;
                    let reads = matches!(
                        lease.work,
                        Work::TrainTeacher { .. }
                            | Work::ScoreTrial { .. }
                            | Work::TrainTrial { .. }
                    );
                    if reads && lease.study == name("files") {
                        self.trained_on.extend(self.workers[worker].files);
                    }
                    let kept = self.acknowledged.entry(attempt);
                    kept.or_insert((lease.study, lease.work, outcome.unwrap()));
                }
            }
            (Pending::Heartbeat(w), Err(Refusal::UnknownWorker(_))) => self.workers[w].id = None,
            (Pending::Report(report), Err(Refusal::UnknownWorker(id))) => {
                let worker = &mut self.workers[report.worker];
                if worker.id == Some(id) {
                    worker.id = None;
                }
            }
            (Pending::Steer | Pending::Submit, _) => {}
            (_, other) => panic!("{other:?}"),
        }
    }

    /// A task was leased: its attempt is new, and its task is new or the same as before.
    fn note(&mut self, lease: Lease) {
        assert!(self.attempts.insert(lease.attempt), "attempt {} came twice", lease.attempt);
        let same =
            self.tasks.entry(lease.task).or_insert((lease.study.clone(), lease.work.clone()));
        assert_eq!(*same, (lease.study, lease.work));
    }

    fn work(&mut self, w: usize) {
        let worker = &self.workers[w];
        match worker.id {
            None => {
                let waits = |p: &Pending| matches!(p, Pending::Join(other) if *other == w);
                if self.pending.values().any(waits) {
                    return;
                }
                let info = worker.info.build();
                let held = worker.held.iter().map(|lease| lease.attempt).collect();
                self.send(Pending::Join(w), |to| Event::Join { to, worker: info, held });
            }
            Some(id) if worker.waits.is_none() => {
                let wait = Duration::from_millis(self.rng.random_range(0..20_000));
                let deadline = self.now.after(wait);
                self.workers[w].waits = Some(RequestId(self.next_request));
                self.send(Pending::Lease(w), |to| Event::Lease { to, worker: id, deadline });
            }
            Some(_) => {}
        }
    }

    fn report_something(&mut self, w: usize) {
        let worker = &self.workers[w];
        let Some(id) = worker.id else { return };
        if worker.held.is_empty() {
            return;
        }
        let lease = worker.held[self.rng.random_range(0..worker.held.len())].clone();
        // An attempt has one outcome, however often it is reported.
        let outcome = match self.outcomes.get(&lease.attempt) {
            Some(outcome) => outcome.clone(),
            None => match self.rng.random_range(0..10) {
                0 => Err(match self.rng.random_range(0..6) {
                    0..3 => AttemptError::retryable("no luck"),
                    3..5 => AttemptError::of_worker("no disk"),
                    _ => AttemptError::of_data("no image"),
                }),
                1 if self.rng.random_bool(0.3) => Err(AttemptError::hopeless("no way")),
                _ => worker.result(&lease),
            },
        };
        self.outcomes.insert(lease.attempt, outcome.clone());
        let report = |outcome| Report { worker: w, lease: lease.clone(), outcome };
        self.old_reports.push((id, report(outcome.clone())));
        let (task, attempt) = (lease.task, lease.attempt);
        let event_outcome = Box::new(outcome.clone());
        self.send(Pending::Report(Box::new(report(outcome))), |to| Event::Report {
            to,
            worker: id,
            task,
            attempt,
            outcome: event_outcome,
        });
    }

    /// An old report comes again: delayed in the network, or from the process's new connection.
    fn repeat_a_report(&mut self) {
        if self.old_reports.is_empty() {
            return;
        }
        let (old_id, report) = &self.old_reports[self.rng.random_range(0..self.old_reports.len())];
        let Report { worker: w, lease, outcome } = report;
        let id = match self.workers[*w].id {
            Some(id) if self.rng.random_bool(0.5) => id,
            _ => *old_id,
        };
        let report = Report { worker: *w, lease: lease.clone(), outcome: outcome.clone() };
        let (task, attempt, outcome) = (lease.task, lease.attempt, Box::new(outcome.clone()));
        self.send(Pending::Report(Box::new(report)), |to| Event::Report {
            to,
            worker: id,
            task,
            attempt,
            outcome,
        });
    }

    fn heartbeat(&mut self, w: usize) {
        let Some(id) = self.workers[w].id else { return };
        let running = self.workers[w].held.iter().map(|lease| AttemptProgress {
            attempt: lease.attempt,
            fraction: 0.1,
            stage: String::new(),
        });
        let running = running.collect();
        self.send(Pending::Heartbeat(w), |to| Event::Heartbeat { to, worker: id, running });
    }

    /// The process loses all its state, and another starts in its place.
    fn kill(&mut self, w: usize) {
        let asked = self.workers[w].waits;
        let worker = &mut self.workers[w];
        (worker.id, worker.waits) = (None, None);
        worker.held.clear();
        let mine = |p: &Pending| matches!(p, Pending::Join(o) | Pending::Heartbeat(o) if *o == w);
        self.pending.retain(|_, pending| !mine(pending));
        if let Some(to) = asked
            && self.rng.random_bool(0.5)
        {
            self.handle(Event::Abandoned { to });
        }
    }

    fn leave(&mut self, w: usize) {
        let Some(worker) = self.workers[w].id else { return };
        self.kill(w);
        self.send(Pending::Steer, |to| Event::Leave { to, worker });
    }

    /// The coordinator is killed: commands that were not written and replies on their way are lost.
    fn restart(&mut self) {
        let live = if self.rng.random_bool(0.5) {
            // Killed after the write, before the replies.
            for command in std::mem::take(&mut self.batch) {
                if let Command::Persist(record) = command {
                    self.disk.push(*record);
                }
            }
            Some(lasting(&self.core))
        } else {
            let unwritten = |command: &Command| matches!(command, Command::Persist(_));
            let all = !self.batch.iter().any(unwritten);
            all.then(|| lasting(&self.core))
        };
        self.batch.clear();
        self.proposals.clear();
        self.pending.clear();
        for worker in &mut self.workers {
            worker.waits = None;
        }
        self.now = Time(Duration::from_secs(self.rng.random_range(0..1000)));
        self.core = Core::restore(CONFIG, self.disk.clone(), self.now).unwrap();
        self.core.check_invariants().unwrap();
        if let Some(live) = live {
            assert_eq!(lasting(&self.core), live);
        }
    }

    fn submit(&mut self, study: &StudyBuilder) {
        let spec = study.build();
        self.send(Pending::Submit, |to| submission(to, spec, None));
    }

    /// A user gives a study one more trial, up to a limit.
    fn extend(&mut self) {
        let all = studies();
        let study = all[self.rng.random_range(0..all.len())].build().name;
        let Ok(status) = self.core.study_status(&study, self.now) else { return };
        let trials = Some((status.budget_trials + 1).min(12));
        self.send(Pending::Steer, |to| Event::Extend { to, study, trials, hours: None });
    }

    /// A user tries again what failed in a study.
    fn retry(&mut self) {
        let all = studies();
        let study = all[self.rng.random_range(0..all.len())].build().name;
        self.retry_study(study);
    }

    fn retry_study(&mut self, study: StudyName) {
        // Failed trials are the only finished ones that may change.
        let failed = |trial: &TrialView| matches!(trial.state, TrialState::Failed { .. });
        self.finished.retain(|(of, _), trial| *of != study || !failed(trial));
        self.send(Pending::Steer, |to| Event::Retry { to, study, trial: None, teacher: false });
    }

    fn steer(&mut self) {
        let study =
            ["plain", "taught", "devices", "halving", "median"][self.rng.random_range(0..5)];
        let action = match self.rng.random_range(0..20) {
            0..8 => Action::Pause,
            8..18 => Action::Resume,
            18 => Action::Cancel,
            _ => Action::Delete,
        };
        if action == Action::Delete {
            // Its results were acknowledged, but a user deletes them.
            self.commit();
            let gone = name(study);
            self.finished.retain(|(study, _), _| *study != gone);
            self.acknowledged.retain(|_, (study, _, _)| *study != gone);
            self.answers.retain(|_, (study, _)| *study != gone);
        }
        let study = name(study);
        self.send(Pending::Steer, |to| Event::Steer { to, study, action });
        if action == Action::Delete {
            self.commit();
        }
    }

    /// A finished trial that is on disk never changes.
    fn look(&mut self) {
        if !self.batch.is_empty() {
            return;
        }
        for study in self.core.studies() {
            for trial in self.core.trials(&study).unwrap() {
                if trial.state.is_finished() {
                    let key = (study.clone(), trial.number);
                    let before = self.finished.entry(key).or_insert_with(|| trial.clone());
                    assert_eq!(*before, trial);
                }
            }
            self.core.study_status(&study, self.now).unwrap();
        }
    }

    /// From here on everything works, until no work is left.
    fn calm(&mut self) {
        self.commit();
        for study in self.core.studies() {
            let name = study.clone();
            self.send(Pending::Steer, |to| Event::Steer {
                to,
                study: name,
                action: Action::Resume,
            });
            // Damaged data are mended, and excluded workers are asked again.
            self.retry_study(study);
        }
        self.commit();
        for _ in 0..2000 {
            let ended = |study: &StudyName| {
                self.core.study_status(study, self.now).unwrap().state.is_ended()
            };
            if self.core.studies().iter().all(ended) {
                return;
            }
            // An outcome from before may still be reported, so something may have to be mended.
            for study in self.core.studies() {
                if self.core.study_status(&study, self.now).unwrap().blocked {
                    self.retry_study(study);
                }
            }
            for w in 0..self.workers.len() {
                self.work(w);
                while !self.proposals.is_empty() {
                    self.propose();
                }
                self.commit();
                self.heartbeat(w);
                self.commit();
                let worker = &self.workers[w];
                if let (Some(id), Some(lease)) = (worker.id, worker.held.first().cloned()) {
                    let known = self.outcomes.get(&lease.attempt).cloned();
                    let outcome = known.unwrap_or_else(|| worker.result(&lease));
                    let (task, attempt) = (lease.task, lease.attempt);
                    let report = Report { worker: w, lease, outcome: outcome.clone() };
                    let outcome = Box::new(outcome);
                    let event = |to| Event::Report { to, worker: id, task, attempt, outcome };
                    self.send(Pending::Report(Box::new(report)), event);
                    self.commit();
                }
            }
            self.now = self.now.after(Duration::from_secs(1));
            self.handle(Event::Tick);
            self.commit();
            self.look();
        }
        panic!("the studies do not end: {:?}", self.core.studies());
    }

    /// Whether the data of a study were ever found damaged.
    fn damaged(&self, study: &StudyName) -> bool {
        let of = |record: &Record| matches!(record, Record::DataDamaged { study: of, .. } if of == study);
        self.disk.iter().any(of)
    }

    fn judge(&mut self) {
        self.look();
        assert!(self.trained_on.len() <= 1, "one study was trained on {:?}", self.trained_on);
        for (attempt, (study, work, outcome)) in &self.acknowledged {
            let status = self.core.study_status(study, self.now).unwrap();
            let values = |number: TrialNumber| {
                let trial = self.core.trial(study, number).unwrap();
                (trial.trained().map(as_reported), trial.measurements().to_vec())
            };
            let teacher = status
                .teacher
                .map(|teacher| (teacher.trained.as_ref().map(as_reported), teacher.measurements));
            let kept = match (work, outcome) {
                // Data that were found damaged later may not have been read again.
                (Work::CheckData, Outcome::DataChecked(report)) => {
                    status.data == Some(*report) || self.damaged(study)
                }
                (Work::TrainTeacher { .. }, Outcome::TeacherTrained { trained, .. }) => {
                    teacher.unwrap().0.as_ref() == Some(trained)
                }
                (Work::ScoreTrial { number, .. }, Outcome::Scored(score)) => {
                    self.core.trial(study, *number).unwrap().score == Some(*score)
                }
                (Work::TrainTrial { number, .. }, Outcome::RungReached(report)) => {
                    self.core.trial(study, *number).unwrap().rungs.contains(report)
                }
                (Work::TrainTrial { number, .. }, Outcome::TrialTrained(trained)) => {
                    has_kept(&self.core.trial(study, *number).unwrap(), trained)
                }
                (Work::MeasureModel { number, .. }, Outcome::Measured(measurement)) => {
                    let (_, measurements) = number.map_or_else(|| teacher.unwrap(), values);
                    measurements.contains(measurement)
                }
                _ => false,
            };
            assert!(kept, "attempt {attempt} of study {study} was acknowledged and is gone");
        }
        for builder in studies() {
            let spec = builder.build();
            let Ok(status) = self.core.study_status(&spec.name, self.now) else { continue };
            let counts = status.counts;
            assert_eq!((counts.waiting, counts.running), (0, 0));
            let all = self.core.trials(&spec.name).unwrap();
            let untrained = |t: &&TrialView| t.state == TrialState::Pruned && t.rungs.is_empty();
            let screened_out = all.iter().filter(untrained).count() as u32;
            let used = counts.complete + counts.pruned + counts.failed - screened_out;
            match status.state {
                StudyState::Complete { reason: None } => assert_eq!(used, status.budget_trials),
                _ => assert!(used <= status.budget_trials),
            }
            let distinct: BTreeSet<_> = all.iter().map(|trial| trial.genotype.clone()).collect();
            assert_eq!(distinct.len(), all.len(), "a candidate was proposed twice");
        }
        let again = Core::restore(CONFIG, self.disk.clone(), self.now).unwrap();
        assert_eq!(lasting(&again), lasting(&self.core));
    }
}

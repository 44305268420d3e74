//! Builders for workers and their results, and a bench that drives a core and checks every command.

use std::collections::{BTreeMap, VecDeque};
pub(super) use std::time::Duration;

use edgesmith_common::{
    ArtifactHash, ClassCount, DataReport, DeviceClass, DeviceInfo, EngineName, Fault, Figures,
    Role, RungReport, ScopedMetric, Split, StageReport, TrainedTrial, TrialNumber, TrialState,
    WorkerInfo,
};
pub(super) use edgesmith_common::{
    AttemptError, AttemptId, Measurement, Metric, Outcome, StudyName, StudySpec, Target, TaskId,
    Work, WorkerId,
};
use edgesmith_search_space::Cost;

use super::super::*;
pub(super) use super::studies::*;

pub(super) const LEASE: Duration = CONFIG.lease;

pub(super) const CONFIG: CoreConfig = CoreConfig {
    lease: Duration::from_secs(30),
    heartbeat: Duration::from_secs(5),
    max_lost: 4,
    max_infeasible: 20,
    max_hopeless: 3,
    max_failing: 3,
    max_workers: 16,
};

pub(super) fn name(name: &str) -> StudyName {
    name.parse().unwrap()
}

pub(super) fn class(class: &str) -> DeviceClass {
    class.parse().unwrap()
}

/// The target of this device class, with edge-runtime on one thread.
pub(super) fn target(on: &str) -> Target {
    Target::on(class(on))
}

/// A worker on device class `local` with one slot.
#[derive(Debug, Clone)]
pub(super) struct WorkerBuilder(WorkerInfo);

impl WorkerBuilder {
    fn new(roles: &[Role]) -> Self {
        let roles = roles.iter().copied().collect();
        let (name, class, backend) =
            ("machine".to_owned(), DeviceClass::local(), "flex".to_owned());
        let engines = [EngineName::edge_runtime()].into();
        Self(WorkerInfo { name, class, roles, engines, slots: 1, backend })
    }

    pub(super) fn trainer() -> Self {
        Self::new(&[Role::Train])
    }

    pub(super) fn reader() -> Self {
        Self::new(&[Role::Table])
    }

    pub(super) fn measurer(on: &str) -> Self {
        let mut worker = Self::new(&[Role::Measure]);
        worker.0.class = class(on);
        worker
    }

    pub(super) fn both() -> Self {
        Self::new(&[Role::Train, Role::Measure])
    }

    pub(super) fn slots(mut self, slots: u32) -> Self {
        self.0.slots = slots;
        self
    }

    pub(super) fn build(&self) -> WorkerInfo {
        self.0.clone()
    }
}

/// A core, its store, and the replies that the test has not looked at.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) now: Time,
    pub(super) records: Vec<Record>,
    replies: BTreeMap<RequestId, Result<Answer, Refusal>>,
    next_request: u64,
    /// Whether proposals wait until the test [answers](Self::answer_proposal) them. Otherwise they
    /// are answered at once.
    pub(super) holds_proposals: bool,
    held: Vec<ProposalRequest>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            core: Core::new(CONFIG),
            now: Time(Duration::from_secs(1000)),
            records: Vec::new(),
            replies: BTreeMap::new(),
            next_request: 0,
            holds_proposals: false,
            held: Vec::new(),
        }
    }

    /// Handles an event that carries the request id given to `event`.
    pub(super) fn send(&mut self, event: impl FnOnce(RequestId) -> Event) -> RequestId {
        let to = RequestId(self.next_request);
        self.next_request += 1;
        self.handle(event(to));
        to
    }

    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for command in self.core.handle(self.now, event) {
                match command {
                    Command::Persist(record) => self.records.push(*record),
                    Command::Reply { to, answer } => {
                        assert!(self.replies.insert(to, answer).is_none(), "two answers to {to:?}");
                    }
                    Command::Propose(request) if self.holds_proposals => self.held.push(*request),
                    Command::Propose(request) => events.push_back(request.answer().into()),
                }
            }
            self.core.check_invariants().unwrap();
        }
    }

    /// Answers the oldest request for a proposal. Returns false if there is none.
    pub(super) fn answer_proposal(&mut self) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let event = self.held.remove(0).answer().into();
        self.handle(event);
        true
    }

    /// Takes the answer to a request.
    pub(super) fn take(&mut self, to: RequestId) -> Option<Result<Answer, Refusal>> {
        self.replies.remove(&to)
    }

    /// Sends a request that is answered at once.
    pub(super) fn ask(
        &mut self,
        event: impl FnOnce(RequestId) -> Event,
    ) -> Result<Answer, Refusal> {
        let to = self.send(event);
        self.take(to).expect("an answer at once")
    }

    /// Checks that there is no reply that the test has not looked at.
    pub(super) fn assert_silent(&self) {
        assert!(self.replies.is_empty(), "{:?}", self.replies);
    }

    pub(super) fn tick(&mut self, after: Duration) {
        self.now = self.now.after(after);
        self.handle(Event::Tick);
    }

    pub(super) fn abandon(&mut self, to: RequestId) {
        self.handle(Event::Abandoned { to });
    }

    /// Kills the coordinator and starts it again from its store, with another clock.
    pub(super) fn restart(&mut self) {
        let before = lasting(&self.core);
        self.replies.clear();
        self.held.clear();
        self.now = Time(Duration::from_secs(5));
        self.core = Core::restore(CONFIG, self.records.clone(), self.now).unwrap();
        self.core.check_invariants().unwrap();
        assert_eq!(lasting(&self.core), before);
    }

    /// Submits a study over a table whose trials stop at 3 and 9 epochs, with this rule.
    pub(super) fn submit_table_with_rungs(
        &mut self,
        name: &str,
        budget: &str,
        rule: &str,
        algorithm: &str,
    ) -> StudyName {
        let text = format!(
            "study.name = \"{name}\"\nbudget = {{ {budget} }}\n\
             objectives = [{{ metric = \"validation_accuracy\" }}]\n\
             [algorithm]\n{algorithm}\n[fidelity]\nrule = \"{rule}\"\n\
             [table]\npath = \"t.csv\"\nepochs = 90\n\
             [[table.rungs]]\nepochs = 3\nvalidation_accuracy = \"v3\"\n\
             [[table.rungs]]\nepochs = 9\nvalidation_accuracy = \"v9\"\n"
        );
        self.submit_spec(StudySpec::parse(&text).unwrap())
    }

    /// Submits a study over a table with a latency objective on `pixel3`.
    pub(super) fn submit_table(&mut self, name: &str, budget: &str) -> StudyName {
        let text = format!(
            "study.name = \"{name}\"\nbudget = {{ {budget} }}\n\
             table = {{ path = \"t.csv\", latencies = \"l.csv\" }}\n\
             algorithm.name = \"random\"\n\
             [[objectives]]\nmetric = \"validation_accuracy\"\n\
             [[objectives]]\nmetric = \"latency_ms\"\ndevice = \"pixel3\"\n"
        );
        self.submit_spec(StudySpec::parse(&text).unwrap())
    }

    pub(super) fn submit(&mut self, study: StudyBuilder) -> StudyName {
        self.submit_spec(study.build())
    }

    fn submit_spec(&mut self, spec: StudySpec) -> StudyName {
        let study = spec.name.clone();
        let answer = self.ask(|to| submission(to, spec, None));
        let submitted = matches!(&answer, Ok(Answer::Submitted { study: of, created: true, .. }) if *of == study);
        assert!(submitted, "{answer:?}");
        study
    }

    pub(super) fn join(&mut self, worker: WorkerBuilder) -> WorkerId {
        let (worker, stop) = self.rejoin(worker, vec![]);
        assert_eq!(stop, vec![]);
        worker
    }

    pub(super) fn rejoin(
        &mut self,
        worker: WorkerBuilder,
        held: Vec<AttemptId>,
    ) -> (WorkerId, Vec<AttemptId>) {
        let answer = self.ask(|to| Event::Join { to, worker: worker.build(), held });
        match answer {
            Ok(Answer::Joined { worker, heartbeat, stop }) => {
                assert_eq!(heartbeat, CONFIG.heartbeat);
                (worker, stop)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Requests work with a deadline in one minute.
    pub(super) fn wait(&mut self, worker: WorkerId) -> RequestId {
        let deadline = self.now.after(Duration::from_secs(60));
        self.send(|to| Event::Lease { to, worker, deadline })
    }

    /// Requests work and expects to get it at once.
    pub(super) fn lease(&mut self, worker: WorkerId) -> Lease {
        let to = self.wait(worker);
        self.leased(to)
    }

    /// The lease in the answer to a request.
    pub(super) fn leased(&mut self, to: RequestId) -> Lease {
        match self.take(to) {
            Some(Ok(Answer::Leased(lease))) => *lease,
            other => panic!("{other:?}"),
        }
    }

    /// Requests work, expects to get none, and abandons the request.
    pub(super) fn assert_no_work(&mut self, worker: WorkerId) {
        let to = self.wait(worker);
        assert_eq!(self.take(to), None);
        self.abandon(to);
    }

    pub(super) fn report(&mut self, worker: WorkerId, lease: &Lease, outcome: Outcome) -> bool {
        let (task, attempt) = (lease.task, lease.attempt);
        self.report_on(worker, task, attempt, Ok(outcome))
    }

    pub(super) fn report_failure(
        &mut self,
        worker: WorkerId,
        lease: &Lease,
        error: AttemptError,
    ) -> bool {
        self.report_on(worker, lease.task, lease.attempt, Err(error))
    }

    pub(super) fn report_on(
        &mut self,
        worker: WorkerId,
        task: TaskId,
        attempt: AttemptId,
        outcome: Result<Outcome, AttemptError>,
    ) -> bool {
        let outcome = Box::new(outcome);
        match self.ask(|to| Event::Report { to, worker, task, attempt, outcome }) {
            Ok(Answer::Reported { accepted }) => accepted,
            other => panic!("{other:?}"),
        }
    }

    /// Reports success.
    pub(super) fn finish(&mut self, worker: WorkerId, lease: &Lease) {
        let on = self.core.connected().get(worker).unwrap().info().class.clone();
        assert!(self.report(worker, lease, success(lease, &on)));
    }

    pub(super) fn fail(&mut self, worker: WorkerId, lease: &Lease, fault: Fault) {
        let error = AttemptError { reason: "it broke".to_owned(), fault };
        assert!(self.report_failure(worker, lease, error));
    }

    pub(super) fn heartbeat(&mut self, worker: WorkerId, held: &[AttemptId]) -> Vec<AttemptId> {
        let progress = |attempt: &AttemptId| AttemptProgress {
            attempt: *attempt,
            fraction: 0.5,
            stage: "epoch 1/2".to_owned(),
        };
        let running = held.iter().map(progress).collect();
        match self.ask(|to| Event::Heartbeat { to, worker, running }) {
            Ok(Answer::Alive { stop }) => stop,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn steer(&mut self, study: &StudyName, action: Action) -> Result<Answer, Refusal> {
        self.ask(|to| Event::Steer { to, study: study.clone(), action })
    }

    pub(super) fn extend(
        &mut self,
        study: &StudyName,
        trials: Option<u32>,
        hours: Option<f64>,
    ) -> Result<Answer, Refusal> {
        self.ask(|to| Event::Extend { to, study: study.clone(), trials, hours })
    }

    pub(super) fn retry(
        &mut self,
        study: &StudyName,
        trial: Option<TrialNumber>,
    ) -> Result<Answer, Refusal> {
        self.ask(|to| Event::Retry { to, study: study.clone(), trial, teacher: false })
    }

    pub(super) fn retry_teacher(&mut self, study: &StudyName) -> Result<Answer, Refusal> {
        self.ask(|to| Event::Retry { to, study: study.clone(), trial: None, teacher: true })
    }

    pub(super) fn status(&self, study: &StudyName) -> StudyView {
        self.core.study_status(study, self.now).unwrap()
    }

    pub(super) fn trial_states(&self, study: &StudyName) -> Vec<TrialState> {
        self.core.trials(study).unwrap().into_iter().map(|trial| trial.state).collect()
    }

    pub(super) fn trial(&self, study: &StudyName, number: u32) -> TrialView {
        self.core.trial(study, TrialNumber(number)).unwrap()
    }
}

pub(super) fn submission(
    to: RequestId,
    spec: StudySpec,
    teacher_weights: Option<ArtifactHash>,
) -> Event {
    Event::Submit { to, spec: Box::new(spec), teacher_weights, at_ms: 1_700_000_000_000 }
}

/// The answer to the same study, submitted again.
pub(super) fn submitted_again(study: &StudyName) -> Answer {
    Answer::Submitted {
        study: study.clone(),
        created: false,
        extended: false,
        replaced: Vec::new(),
        reread: false,
        start: Start::default(),
    }
}

/// The figures of a trial in a table; accuracy and latency rise with its number.
pub(super) fn figures(number: TrialNumber) -> Figures {
    let n = f64::from(number.0);
    Figures::new()
        .with(ScopedMetric::VALIDATION_ACCURACY, 1.0 - 1.0 / (n + 2.0))
        .with(ScopedMetric::TEST_ACCURACY, 0.9)
        .with(Metric::ACCURACY.on(Split::HeldOut("c10_test_200".into())), 0.9)
        .with(Metric::MACS.whole(), 1000.0)
        .with(Metric::PARAMETERS.whole(), 100.0)
        .with(Metric::LATENCY_MS.at(Target::on(class("pixel3"))), 1.0 + n)
        .with(Metric::TRAINING_SECONDS.whole(), 100.0)
}

/// What a worker finds in a study's files.
pub(super) const REPORT: DataReport = DataReport {
    train: 30,
    validation: 20,
    test: 10,
    hash: Some(ArtifactHash::from_bytes([3; 32])),
};

/// What a worker without faults reports for a lease. Its artifacts depend on the attempt.
pub(super) fn success(lease: &Lease, on: &DeviceClass) -> Outcome {
    match &lease.work {
        Work::CheckData => Outcome::DataChecked(REPORT),
        Work::TrainTeacher { .. } => Outcome::TeacherTrained {
            trained: trained(lease.attempt, 0.99),
            soft_targets: ArtifactHash::of(format!("targets {}", lease.attempt).as_bytes()),
        },
        Work::ScoreTrial { number, .. } => Outcome::Scored(f64::from(number.0 * 7 % 10)),
        Work::TrainTrial { number, rung: Some(epochs), .. } => {
            let accuracy = 0.3 + f64::from((number.0 * 7 + epochs) % 10) / 20.0;
            Outcome::RungReached(rung(lease.attempt, *epochs, accuracy))
        }
        Work::TrainTrial { number, .. } => {
            let accuracy = 0.5 + f64::from(number.0 % 40) / 100.0;
            Outcome::TrialTrained(trained(lease.attempt, accuracy))
        }
        Work::LookUpTrial { number, rung: Some(epochs), .. } => {
            let accuracy = 0.3 + f64::from((number.0 * 7 + epochs) % 10) / 20.0;
            Outcome::RungReached(looked_up_rung(*epochs, accuracy))
        }
        Work::LookUpTrial { number, .. } => Outcome::LookedUp(figures(*number)),
        Work::MeasureModel { .. } => {
            Outcome::Measured(measurement(on, 0.1 + lease.attempt.0 as f64 / 7.0))
        }
    }
}

pub(super) fn rung(attempt: AttemptId, epochs: u32, validation_accuracy: f64) -> RungReport {
    let checkpoint = ArtifactHash::of(format!("checkpoint {attempt}").as_bytes());
    let figures = Figures::new()
        .with(ScopedMetric::VALIDATION_ACCURACY, validation_accuracy)
        .with(Metric::IMAGES_SEEN.whole(), 5.0)
        .with(Metric::TRAINING_SECONDS.whole(), 0.1);
    RungReport { epochs, figures, checkpoint: Some(checkpoint) }
}

/// The figures of a rung in a table: one second for each epoch.
pub(super) fn looked_up_rung(epochs: u32, validation_accuracy: f64) -> RungReport {
    let figures = Figures::new()
        .with(ScopedMetric::VALIDATION_ACCURACY, validation_accuracy)
        .with(Metric::TRAINING_SECONDS.whole(), f64::from(epochs));
    RungReport { epochs, figures, checkpoint: None }
}

/// A network of this accuracy after a pass.
fn stage(pass: &str, accuracy: f64) -> StageReport {
    let figures = Figures::new().with(ScopedMetric::VALIDATION_ACCURACY, accuracy);
    let classes = vec![ClassCount { images: 4, right: 3 }];
    StageReport { pass: pass.to_owned(), distilled: false, figures, classes }
}

pub(super) fn trained(attempt: AttemptId, accuracy: f64) -> TrainedTrial {
    let report = |model_bytes: u64| {
        Figures::of_cost(&Cost { macs: 1000, parameters: 100, peak_memory_bytes: 10 })
            .with(ScopedMetric::VALIDATION_ACCURACY, accuracy)
            .with(ScopedMetric::TEST_ACCURACY, accuracy - 0.01)
            .with(Metric::MODEL_BYTES.whole(), model_bytes as f64)
    };
    TrainedTrial {
        compressed: report(1000 + attempt.0)
            .with(Metric::IMAGES_SEEN.whole(), 17.0)
            .with(Metric::TRAINING_SECONDS.whole(), 0.1),
        uncompressed: report(4000),
        model: ArtifactHash::of(format!("model {attempt}").as_bytes()),
        weights: ArtifactHash::of(format!("weights {attempt}").as_bytes()),
        stages: vec![stage(StageReport::TRAINED, accuracy), stage("prune", accuracy)],
    }
}

/// Whether the core has all that a worker reported of a trial, and the key of the stages.
pub(super) fn has_kept(trial: &TrialView, report: &TrainedTrial) -> bool {
    let without_stages = TrainedTrial { stages: Vec::new(), ..report.clone() };
    trial.trained().map(as_reported) == Some(without_stages)
        && trial.stages == StagesKey::of(&report.stages)
}

/// The values as the worker reported them, without the latencies that were measured later.
pub(super) fn as_reported(trained: &TrainedTrial) -> TrainedTrial {
    let reported = |(of, _): &(&ScopedMetric, f64)| of.metric != Metric::LATENCY_MS;
    let figures = trained.compressed.iter().filter(reported);
    let compressed = figures.map(|(of, value)| (of.clone(), value)).collect();
    TrainedTrial { compressed, ..trained.clone() }
}

pub(super) fn measurement(on: &DeviceClass, p50_ms: f64) -> Measurement {
    Measurement {
        device: DeviceInfo {
            class: on.clone(),
            name: "machine".to_owned(),
            cpu: "some cpu".to_owned(),
            cpu_flags: vec!["fma".to_owned()],
            cores: 4,
        },
        engine: EngineName::edge_runtime(),
        engine_version: "0.1.0".to_owned(),
        threads: 1,
        batch: 1,
        warmup_runs: 5,
        samples: 50,
        p50_ms,
        p95_ms: p50_ms * 1.2,
        min_ms: p50_ms * 0.9,
        noise: None,
        energy_mj: Some(0.5),
        original: None,
        slower_layers: Vec::new(),
        unquantized: None,
        slower_in_integers: Vec::new(),
    }
}

/// All state of a core that a restart has to restore, as text.
pub(super) fn lasting(core: &Core) -> String {
    core.lasting()
}

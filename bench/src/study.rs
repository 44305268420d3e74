//! Runs one study over a table in a coordinator's core, from its first proposal to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use edgesmith_common::spec::Workload;
use edgesmith_common::{
    DeviceClass, Figures, Outcome, Role, StudySpec, TrialNumber, Work, WorkerInfo,
};
use edgesmith_console::invalid;
use edgesmith_coordinator::core::{
    Answer, Command, Core, CoreConfig, Event, Refusal, RequestId, Time,
};
use edgesmith_search_space::Space;
use edgesmith_worker::table::CellTable;

use crate::algorithm::Algorithm;

/// One trial that was looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct LookUp {
    /// When it ended, in simulated seconds since the study began.
    pub at: f64,
    /// Whether it ended within the budget.
    pub counts: bool,
    /// The figures in the table.
    pub figures: Figures,
}

/// The result of one study.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The complete trials, in order.
    pub look_ups: Vec<LookUp>,
    /// Total epochs of all trainings that were looked up; 0 if the study does not name its epochs.
    pub epochs: u64,
}

/// What all studies of a benchmark share.
#[derive(Debug, Clone)]
pub struct Template {
    /// The lines of `[table]`.
    pub table: String,
    /// The lines of `[fidelity]` with their heading; empty if no trial stops early.
    pub fidelity: String,
    /// The device of the second objective, if there is one.
    pub device: Option<String>,
    /// The budget of every run.
    pub budget: Budget,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// After this many trials.
    Trials(u32),
    /// After this many simulated seconds.
    Seconds(f64),
}

impl Template {
    /// The simulated seconds of the budget; `None` if it counts trials.
    pub fn seconds(&self) -> Option<f64> {
        match self.budget {
            Budget::Seconds(seconds) => Some(seconds),
            Budget::Trials(_) => None,
        }
    }

    /// A label of what is running, for people.
    pub fn label(&self, algorithm: &Algorithm) -> String {
        match &self.device {
            Some(device) => format!("{algorithm} on {device}"),
            None => algorithm.to_string(),
        }
    }

    /// The study of one run.
    ///
    /// # Errors
    /// When the options do not give a valid study.
    pub fn spec(&self, algorithm: &Algorithm, seed: u64) -> anyhow::Result<StudySpec> {
        let mut text = format!(
            "[study]\nname = \"bench\"\nseed = {seed}\n[table]\n{}{}[algorithm]\n{}[budget]\n",
            self.table,
            self.fidelity,
            algorithm.toml()
        );
        text.push_str(&match self.budget {
            Budget::Trials(trials) => format!("trials = {trials}\n"),
            Budget::Seconds(seconds) => format!("simulated_seconds = {seconds:?}\n"),
        });
        text.push_str("[[objectives]]\nmetric = \"validation_accuracy\"\n");
        if let Some(device) = &self.device {
            text.push_str(&format!(
                "[[objectives]]\nmetric = \"latency_ms\"\ndevice = {}\n",
                toml_text(device)
            ));
        }
        StudySpec::parse(&text).map_err(|errors| {
            let texts: Vec<String> =
                errors.listed.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
            invalid(format!("the options do not give a valid study: {}", texts.join("; ")))
        })
    }
}

/// Runs a study to its end with one worker. Its look-ups take the training time in the table, as
/// simulated time.
///
/// # Errors
/// When the table does not have what the study needs.
pub fn run(spec: &StudySpec, table: &CellTable) -> anyhow::Result<Run> {
    let (Workload::Table(columns), Space::Cell(space)) = (&spec.work, &spec.space) else {
        return Err(invalid("the study names no table"));
    };
    let targets = spec.targets();
    let mut driver = Driver::new();
    let mut at = 0.0;
    let submitted = Box::new(spec.clone());
    driver.ask(at, |to| Event::Submit { to, spec: submitted, teacher_weights: None, at_ms: 0 })?;
    let info = WorkerInfo {
        name: "bench".to_owned(),
        class: DeviceClass::local(),
        engines: Default::default(),
        roles: [Role::Table].into(),
        slots: 1,
        backend: String::new(),
    };
    let joined = driver.ask(at, |to| Event::Join { to, worker: info, held: Vec::new() })?;
    let Some(Answer::Joined { worker, .. }) = joined else {
        anyhow::bail!("the core did not let the worker join")
    };
    let mut done = Run { look_ups: Vec::new(), epochs: 0 };
    // Seconds that each trial has used up to the rung that it has reached.
    let mut spent: BTreeMap<TrialNumber, f64> = BTreeMap::new();
    loop {
        let deadline = time(at);
        let leased = driver.ask(at, |to| Event::Lease { to, worker, deadline })?;
        // No answer means that the study has ended and there will be no more tasks.
        let Some(Answer::Leased(lease)) = leased else { return Ok(done) };
        let Work::LookUpTrial { number, genotype, rung } = &lease.work else {
            anyhow::bail!("a study over a table handed out a task other than a look-up");
        };
        let cell = space.decode(genotype);
        let before = spent.get(number).copied().unwrap_or(0.0);
        done.epochs += u64::from(rung.or(columns.epochs).unwrap_or(0));
        let outcome = match rung {
            Some(epochs) => {
                let report = table.look_up_rung(columns, &cell, *epochs)?;
                let seconds = report.figures.training_seconds();
                at += seconds - before;
                spent.insert(*number, seconds);
                Outcome::RungReached(report)
            }
            None => {
                let figures = table.look_up(columns, &cell, &targets)?;
                at += figures.training_seconds() - before;
                let counts = spec.budget.simulated_seconds.is_none_or(|limit| at <= limit);
                done.look_ups.push(LookUp { at, counts, figures: figures.clone() });
                Outcome::LookedUp(figures)
            }
        };
        let (task, attempt, outcome) = (lease.task, lease.attempt, Box::new(Ok(outcome)));
        driver.ask(at, |to| Event::Report { to, worker, task, attempt, outcome })?;
    }
}

/// A core whose records are not stored.
pub struct Driver {
    core: Core,
    requests: u64,
}

impl Driver {
    /// A core without studies.
    pub fn new() -> Self {
        Self { core: Core::new(CoreConfig::default()), requests: 0 }
    }

    /// The core, for queries.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The answer to one event; `None` if the core keeps the request waiting.
    pub fn ask(
        &mut self,
        at: f64,
        event: impl FnOnce(RequestId) -> Event,
    ) -> Result<Option<Answer>, Refusal> {
        self.requests += 1;
        let asked = RequestId(self.requests);
        let mut events = vec![event(asked)];
        let mut found = None;
        while let Some(event) = events.pop() {
            for command in self.core.handle(time(at), event) {
                match command {
                    Command::Reply { to, answer } if to == asked => found = Some(answer),
                    Command::Reply { .. } | Command::Persist(_) => {}
                    Command::Propose(request) => events.push(request.answer().into()),
                }
            }
        }
        found.transpose()
    }
}

/// The time at this many seconds since the beginning.
pub fn time(seconds: f64) -> Time {
    Time(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// A text as a TOML string.
pub fn toml_text(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            c if c.is_control() => format!("\\u{:04x}", c as u32),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

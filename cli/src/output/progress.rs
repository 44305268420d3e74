//! The progress of a running study: one line that is updated on a terminal, or a new line from time
//! to time in a pipe.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use edgesmith_console::table;
use edgesmith_proto::v1::{StudyState, StudyStatus, Teacher};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows a study's progress on standard error.
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    /// For a pipe: the time of the last line, and the number of finished trials in it.
    last: Option<(Instant, u32)>,
    /// Number of finished trials and the time when watching began, to compute the pace.
    start: Option<(u32, Instant)>,
    /// Whether workers of this process are about to join, so that the user does not have to start
    /// one.
    workers_start: bool,
}

/// Shortest time between two lines in a pipe.
const PIPE_INTERVAL: Duration = Duration::from_secs(5);

impl Progress {
    /// Starts the display for a command that starts the workers itself. Until one has joined, it
    /// does not ask for workers.
    pub fn with_own_workers() -> Self {
        let mut progress = Self::new();
        progress.workers_start = true;
        progress
    }

    /// Starts the display.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::new(0);
        bar.set_draw_target(if terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        if terminal {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Self { bar, terminal, last: None, start: None, workers_start: false }
    }

    /// Prints once how to stop.
    pub fn explain() {
        if std::io::stderr().is_terminal() {
            eprintln!("Ctrl-C stops; the same command continues later");
        }
    }

    /// Shows a status.
    pub fn update(&mut self, status: &StudyStatus) {
        if let Some(line) = self.advance(status) {
            eprintln!("{line}");
        }
    }

    /// Takes a status in. Returns the line to print in a pipe, if one is due.
    fn advance(&mut self, status: &StudyStatus) -> Option<String> {
        self.workers_start &= status.connected_workers == 0;
        let done = used(status);
        let now = Instant::now();
        // The teacher's time says nothing about the pace of trials.
        let ready = |t: &Teacher| t.trained.is_some() || !t.soft_targets.is_empty();
        let teacher_ready = status.teacher.as_ref().is_none_or(ready);
        if self.start.is_none() && teacher_ready {
            self.start = Some((done, now));
        }
        let left = self.start.and_then(|start| time_left(status, start, now));
        let line = if self.workers_start {
            "starts its workers".to_owned()
        } else {
            describe(status, left)
        };
        self.bar.set_length(u64::from(status.budget_trials));
        self.bar.set_position(u64::from(done.min(status.budget_trials)));
        self.bar.set_message(line.clone());
        if !self.terminal && !self.workers_start {
            let due = self.last.is_none_or(|(at, then)| {
                now.duration_since(at) >= PIPE_INTERVAL && (then != done || done == 0)
            });
            if due {
                self.last = Some((now, done));
                let line = if line.is_empty() { "trials are finished" } else { &line };
                return Some(format!("{done}/{} {line}", status.budget_trials));
            }
        }
        None
    }

    /// Prints a line above the display.
    pub fn note(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Ends the display.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Number of trials that have used up budget and will not change any more.
pub fn used(status: &StudyStatus) -> u32 {
    (status.complete + status.pruned + status.failed).saturating_sub(status.screened_out)
}

/// Number of trials that will not change any more.
pub fn finished(status: &StudyStatus) -> u32 {
    status.complete + status.pruned + status.failed + status.infeasible
}

/// The numbers of pruned trials in words, by the reason; empty if there are none.
pub fn pruned(status: &StudyStatus) -> Vec<String> {
    let by_rungs = status.pruned.saturating_sub(status.screened_out);
    let counts = [(by_rungs, "pruned"), (status.screened_out, "screened out")];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, name)| format!("{count} {name}")).collect()
}

/// The number of failed trials in words, apart from those that were cut off when the study was
/// cancelled.
pub fn failed(status: &StudyStatus) -> String {
    let failed = format!("{} failed", status.failed.saturating_sub(status.cancelled));
    match status.cancelled {
        0 => failed,
        cancelled => format!("{failed}, {cancelled} cancelled"),
    }
}

/// The remaining time at the pace since watching began; `None` until a trial has finished.
fn time_left(status: &StudyStatus, start: (u32, Instant), now: Instant) -> Option<Duration> {
    let since = used(status).checked_sub(start.0).filter(|n| *n > 0)?;
    let left = status.budget_trials.saturating_sub(used(status));
    Some(now.duration_since(start.1) / since * left)
}

fn describe(status: &StudyStatus, left: Option<Duration>) -> String {
    let mut parts = Vec::new();
    if let Some(accuracy) = status.best_validation_accuracy {
        parts.push(format!("best {}", table::percent(accuracy)));
    }
    if let Some(hypervolume) = status.hypervolume {
        parts.push(format!("hypervolume {hypervolume:.4} ({} on the front)", status.front_size));
    }
    parts.extend(pruned(status));
    if status.infeasible > 0 {
        parts.push(format!("{} infeasible", status.infeasible));
    }
    if status.failed > 0 {
        parts.push(format!("{} failed", status.failed));
    }
    if status.state() == StudyState::Paused {
        parts.push("paused".to_owned());
    }
    for device in &status.missing_devices {
        parts.push(format!("waits for a worker of class {device}"));
    }
    if status.missing_trainer {
        parts.push("waits for a worker that trains".to_owned());
    }
    if status.missing_table {
        parts.push("waits for a worker that reads tables".to_owned());
    }
    if !status.waits.is_empty() {
        parts.push(format!("the coordinator hands out no tasks: {}", status.waits));
    }
    match left {
        Some(left) => parts.push(format!("{} left", table::duration(left.as_secs_f64()))),
        None => parts.extend(status.activity.first().cloned()),
    }
    parts.join(", ")
}

/// The state in a word.
pub fn state_name(state: StudyState) -> &'static str {
    match state {
        StudyState::Unspecified => "unknown",
        StudyState::Running => "running",
        StudyState::Paused => "paused",
        StudyState::Complete => "complete",
        StudyState::Cancelled => "cancelled",
        StudyState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_the_pace_since_watching_began() {
        let status = StudyStatus { complete: 12, budget_trials: 20, ..Default::default() };
        let begin = Instant::now();
        let now = begin + Duration::from_secs(20);
        assert_eq!(time_left(&status, (10, begin), now), Some(Duration::from_secs(80)));
        assert_eq!(time_left(&status, (12, begin), now), None);
        // Trials that were screened out use no budget.
        let screened = StudyStatus { pruned: 9, screened_out: 9, ..status };
        assert_eq!(time_left(&screened, (10, begin), now), Some(Duration::from_secs(80)));
        let both = StudyStatus { pruned: 11, ..screened };
        assert_eq!(
            (used(&both), pruned(&both)),
            (14, vec!["2 pruned".into(), "9 screened out".into()])
        );
    }

    #[test]
    fn a_line_says_what_is_missing() {
        let status = StudyStatus {
            missing_devices: vec!["board".to_owned()],
            best_validation_accuracy: Some(0.5),
            pruned: 3,
            ..Default::default()
        };
        let line = describe(&status, None);
        assert_eq!(line, "best 50.00 %, 3 pruned, waits for a worker of class board");
    }

    #[test]
    fn workers_of_this_process_are_not_asked_for_while_they_start() {
        let missing = StudyStatus { missing_trainer: true, budget_trials: 9, ..Default::default() };
        let asks = "0/9 waits for a worker that trains";
        let mut progress = Progress::new();
        progress.terminal = false;
        assert_eq!(progress.advance(&missing).as_deref(), Some(asks));
        let mut progress = Progress::with_own_workers();
        progress.terminal = false;
        assert_eq!(progress.advance(&missing), None);
        let joined =
            StudyStatus { connected_workers: 1, missing_trainer: false, ..missing.clone() };
        assert_eq!(progress.advance(&joined).as_deref(), Some("0/9 trials are finished"));
        // Workers that are lost later are missed.
        progress.last = None;
        assert_eq!(progress.advance(&missing).as_deref(), Some(asks));
    }
}

//! `edgesmith search`: runs a study file to its Pareto front, with the coordinator and the workers
//! in this process. They talk over a real loopback connection.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use edgesmith_client::{Backend, Coordinator, DEFAULT_DATA_DIR, MemorySize, Submission};
use edgesmith_common::spec::Workload;
use edgesmith_common::{StudySpec, quoted};
use edgesmith_console::{Invalid, invalid, start};
use edgesmith_coordinator::service::{LocalCoordinator, Visibility};
use edgesmith_proto::v1;
use edgesmith_worker::pipeline::Pipeline;
use edgesmith_worker::session::{self, WorkerConfig};
use edgesmith_worker::slots::Slots;
use tokio_util::sync::CancellationToken;

use crate::commands::watch::{self, WhenBlocked};
use crate::commands::{control, front, submit};
use crate::output::progress::{self, Progress};

/// Arguments: the study, and what runs it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study file
    pub study: PathBuf,
    #[command(flatten)]
    pub local: Local,
}

/// What runs a study in this process.
#[derive(Debug, clap::Args)]
pub struct Local {
    /// Directory for the results
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// Delete earlier trials of this study and start again
    #[arg(long)]
    pub fresh: bool,
    /// Number of trials that are trained at once and share the cores, or `auto`: measure whether
    /// one trial per core or one trial on all cores is faster [default: number of cores]
    #[arg(long, value_name = "N|auto", allow_negative_numbers = true)]
    pub slots: Option<Slots>,
    /// Device that trains
    #[arg(long, default_value = "flex", value_enum)]
    pub backend: Backend,
    /// Memory that trainings may use together, such as 4GiB; larger batches are computed in parts
    /// where that is possible, and candidates that do not fit are infeasible [default: most of the
    /// machine's; on a GPU not limited]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<MemorySize>,
    /// Base directory of relative data paths in the study [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
}

/// What a user is told to change, in terms of what the study is made of.
pub struct Terms {
    /// How it could have another name.
    pub rename: &'static str,
    /// How it would have more trials.
    pub more: &'static str,
    /// Whether it can start from the results of an earlier study.
    pub starts_from_earlier: bool,
    /// What the coordinator says of a study file, in these terms.
    pub tell: fn(&str) -> String,
}

/// Those of a study file.
const OF_FILE: Terms = Terms {
    rename: "give the file another study.name",
    more: "a larger budget.trials runs more trials",
    starts_from_earlier: true,
    tell: str::to_owned,
};

/// A study that runs in this process.
pub struct Running<'a> {
    pub local: &'a Local,
    /// Where the study comes from, for messages: its file, or what made it.
    pub source: String,
    /// The command that runs it, without the options of [`Local`].
    pub command: String,
    /// What its user can change.
    pub terms: Terms,
    /// Whether the front of a study of so many trials is shown at the end.
    pub shows_front: fn(u32) -> bool,
}

/// Runs the study, or continues it.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let submission = Submission::read(&args.study)?;
    let command = format!("edgesmith search {}", quoted(&args.study));
    let source = args.study.display().to_string();
    let terms = OF_FILE;
    let running = Running { local: &args.local, source, command, terms, shows_front: |_| true };
    running.run(async |_| Ok((submission, ())), async |_, ()| Ok(ExitCode::SUCCESS)).await
}

impl Running<'_> {
    /// Runs the study that `prepare` makes, or continues it, and shows its front. If it ended,
    /// `then` comes last, while the coordinator still answers, with what `prepare` found out, and
    /// says the exit code.
    pub async fn run<T>(
        &self,
        prepare: impl AsyncFnOnce(&Coordinator) -> anyhow::Result<(Submission, T)>,
        then: impl AsyncFnOnce(&Coordinator, T) -> anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        let Local { backend, data_root, memory, data_dir, .. } = self.local;
        let executor =
            edgesmith_client::pipeline(Some(*backend), DEVICE, data_root.clone(), *memory)?;
        let shutdown = start::shutdown_on_signal()?;
        let mut local = LocalCoordinator::start(data_dir, Visibility::Announced).await?;
        let coordinator = Coordinator::connect_to_local(&local).await?;
        let url = local.url().to_owned();
        let all = async {
            let prepared = prepare(&coordinator).await;
            if prepared.is_err() && shutdown.is_cancelled() {
                eprintln!("stopped; start again with: {}", self.same_command());
                return Ok(ExitCode::from(130));
            }
            let (submission, found) = prepared?;
            let code = self.run_on(&coordinator, url, submission, executor, &shutdown).await?;
            if code == ExitCode::SUCCESS {
                return then(&coordinator, found).await;
            }
            anyhow::Ok(code)
        };
        let ran = tokio::select! {
            ran = all => ran,
            // The coordinator ends by itself only if its store fails. Calls would then get no
            // answer, so report this error instead.
            ended = local.ended() => Err(ended.map_or_else(Into::into, |()| {
                anyhow::anyhow!("the coordinator ended by itself")
            })),
        };
        // If the coordinator failed during the study, that is the cause of any error of the study.
        local.shut_down().await?;
        ran
    }

    /// Everything from the submission to the front.
    async fn run_on(
        &self,
        coordinator: &Coordinator,
        url: String,
        submission: Submission,
        executor: Pipeline,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<ExitCode> {
        let (study, work) = (submission.spec.name.to_string(), submission.spec.work.clone());
        let elsewhere = elsewhere(&submission.spec, &url);
        let by_reference = submit::by_reference_in_words(&submission.spec);
        if self.local.fresh {
            match control::remove(coordinator, &study).await {
                Ok(removed) => eprintln!("{removed}"),
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => return Err(coordinator.failed_to_change(status)),
            }
        }
        let submitted = match submission.submit(coordinator).await {
            Ok(submitted) => submitted,
            Err(error) => {
                let request = v1::GetStudyRequest { study: study.clone() };
                let exists = coordinator.studies().get_study(request).await.is_ok();
                return Err(self.not_started(error, &study, exists));
            }
        };
        if let Some(text) = submit::replaced_in_words(&submitted) {
            eprintln!("{text}");
        }
        if let Some(start) = submit::start_in_words(&submitted) {
            eprintln!("{start}");
        }
        if let Some(text) = by_reference {
            eprintln!("{text}");
        }
        let request = v1::GetStudyRequest { study: study.clone() };
        let status = coordinator.query(coordinator.studies().get_study(request)).await?;
        if let Some(over) = self.ended_earlier(&status) {
            if status.complete > 0 && (self.shows_front)(status.budget_trials) {
                front::print_summary(coordinator, &study).await?;
            }
            return Err(anyhow::anyhow!(over));
        }
        if status.state() == v1::StudyState::Paused {
            let request = v1::ResumeStudyRequest { study: study.clone() };
            coordinator.change(coordinator.studies().resume_study(request)).await?;
        }
        let trains = matches!(work, Workload::Train(_));
        let slots =
            edgesmith_client::slots(self.local.slots, trains.then_some(self.local.backend)).await?;
        announce(self, &status, &submitted, slots, &url);
        if let Some(elsewhere) = elsewhere
            && status.state() != v1::StudyState::Complete
        {
            eprintln!("{elsewhere}");
        }
        let request = v1::ListStudiesRequest {};
        let all = coordinator.query(coordinator.studies().list_studies(request)).await?;
        if let Some(others) = others(&all.studies, &study) {
            eprintln!("{others}");
        }

        let stop_workers = CancellationToken::new();
        // Stop the workers however this function ends: a coordinator that failed cannot tell them.
        let _stop_workers = stop_workers.clone().drop_guard();
        let config =
            WorkerConfig::local(&url, executor.info(), &work, slots, self.local.backend.name());
        let mut workers =
            tokio::spawn(session::run(config, Arc::new(executor), stop_workers.clone()));
        let ended = tokio::select! {
            ended = watch::follow(
                coordinator,
                &study,
                Progress::with_own_workers(),
                WhenBlocked::GiveUp,
                self.terms.tell,
            ) => {
                let mend = || format!("; mend that, then continue with: {}", self.same_command());
                Some(ended.map_err(|error| anyhow::anyhow!("{error:#}{}", mend()))?)
            }
            // The workers' session ends by itself only if it cannot continue.
            failed = &mut workers => {
                failed??;
                None
            }
            () = shutdown.cancelled() => None,
        };
        stop_workers.cancel();
        if !workers.is_finished() {
            workers.await??;
        }
        if (self.shows_front)(status.budget_trials) {
            front::print_summary(coordinator, &study).await?;
        }
        Ok(match ended {
            Some(code) => code,
            None => {
                eprintln!(
                    "stopped; finished trials are saved. Continue with: {}",
                    self.same_command()
                );
                ExitCode::from(130)
            }
        })
    }

    /// The error for a study that the coordinator did not take. A study of this name that `exists`
    /// is another one: the file was changed, or the name was used before.
    fn not_started(&self, error: anyhow::Error, study: &str, exists: bool) -> anyhow::Error {
        if exists && error.is::<Invalid>() {
            let (source, directory) = (&self.source, self.local.data_dir.display());
            let again = self.same_command();
            let Terms { rename, tell, .. } = self.terms;
            let error = tell(&error.to_string());
            return invalid(format!(
                "{source} does not fit study {study}, which {directory} has of an earlier run (its \
                 values are on the left): {error}; or {rename}; or start {study} again without its \
                 earlier trials: {again} --fresh"
            ));
        }
        error.context(format!("failed to start {study}"))
    }

    /// The error message for a study that ended before this command and cannot continue.
    fn ended_earlier(&self, status: &v1::StudyStatus) -> Option<String> {
        let (name, again) = (&status.name, self.same_command());
        match status.state() {
            v1::StudyState::Failed => Some(format!(
                "study {name} failed earlier: {}; once you have mended that, run `edgesmith retry {name}\
             {}` and then the same command; or delete its trials and start again: {again} --fresh",
                status.reason,
                data_dir_option(&self.local.data_dir)
            )),
            v1::StudyState::Cancelled => Some(format!(
                "study {name} was cancelled earlier; to go on, {}{}; or delete its trials and start \
                 again: {again} --fresh",
                self.terms.rename,
                if self.terms.starts_from_earlier {
                    format!(" (study.start_from = [\"{name}\"] in a study file uses its results)")
                } else {
                    String::new()
                }
            )),
            v1::StudyState::Unspecified
            | v1::StudyState::Running
            | v1::StudyState::Paused
            | v1::StudyState::Complete => None,
        }
    }

    /// The command that continues the study: the same one without `--fresh`.
    fn same_command(&self) -> String {
        let Local { data_dir, fresh: _, slots, backend, data_root, memory } = self.local;
        let mut text = self.command.clone();
        let mut add = |option: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(text, " {option} {value}");
        };
        if data_dir != Path::new(DEFAULT_DATA_DIR) {
            add("--data-dir", &quoted(data_dir));
        }
        if let Some(root) = data_root {
            add("--data-root", &quoted(root));
        }
        if *backend != Backend::Flex {
            add("--backend", backend.name());
        }
        if let Some(slots) = slots {
            add("--slots", &slots.to_string());
        }
        if let Some(memory) = memory {
            add("--memory", &memory.to_string());
        }
        text
    }
}

/// The option that names the data directory, where it is not the default.
fn data_dir_option(data_dir: &Path) -> String {
    if data_dir == Path::new(DEFAULT_DATA_DIR) {
        String::new()
    } else {
        format!(" --data-dir {}", quoted(data_dir))
    }
}

fn announce(
    running: &Running<'_>,
    status: &v1::StudyStatus,
    submitted: &v1::SubmitStudyResponse,
    slots: u32,
    url: &str,
) {
    let Running { local, terms, .. } = running;
    let complete = format!("is already complete ({})", terms.more);
    let how = match status.state() {
        v1::StudyState::Complete => &*complete,
        _ if submitted.extended => "goes on with a larger budget",
        _ if submitted.reread => "continues, and its data are read again",
        _ if submitted.created => "starts",
        _ => "continues",
    };
    let finished = progress::finished(status);
    let done = if finished > 0 { format!(", {finished} are finished") } else { String::new() };
    let s = if status.budget_trials == 1 { "" } else { "s" };
    eprintln!(
        "study {} {how}: {} trial{s} by {}, {slots} at once on {}{done}",
        status.name,
        status.budget_trials,
        status.algorithm,
        local.backend.name()
    );
    eprintln!(
        "results are kept in {}; other commands reach the study at {url}",
        local.data_dir.display()
    );
    Progress::explain();
}

/// The device class of the workers of this process.
const DEVICE: &str = "local";

/// What to say of device classes that no worker of this process has. The coordinator at `url` can
/// be reached from this machine only.
fn elsewhere(spec: &StudySpec, url: &str) -> Option<String> {
    // Latencies of a study over a table come from the table.
    spec.training()?;
    let targets = spec.targets();
    let mut classes: Vec<&str> = targets.iter().map(|target| target.device.as_str()).collect();
    classes.retain(|class| *class != DEVICE);
    classes.dedup();
    let first = classes.first()?;
    let classes = classes.join(", ");
    Some(format!(
        "this process measures on device \"{DEVICE}\" only, and the study also on {classes}, so it \
         waits for a worker there. On this machine: edgesmith worker --coordinator {url} --roles \
         measure --device {first}; for other machines, use `edgesmith coordinator` instead of \
         `search`"
    ))
}

/// What to say of other studies that are open, because the workers take their tasks too.
fn others(studies: &[v1::StudyStatus], name: &str) -> Option<String> {
    let running = |s: &&v1::StudyStatus| s.name != name && s.state() == v1::StudyState::Running;
    let names: Vec<&str> = studies.iter().filter(running).map(|s| s.name.as_str()).collect();
    let these = match names.len() {
        0 => return None,
        1 => "another running study",
        _ => "other running studies",
    };
    let names = names.join(", ");
    Some(format!(
        "the workers also work on {these} of this directory: {names}; `edgesmith pause NAME` keeps \
         them off one"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{self, Command};
    use clap::Parser as _;

    fn search(text: &[&str]) -> Args {
        let all = ["edgesmith", "search"].iter().chain(text);
        match commands::Args::parse_from(all).command {
            Command::Search(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn running(args: &Args) -> Running<'_> {
        let command = format!("edgesmith search {}", quoted(&args.study));
        let source = args.study.display().to_string();
        Running { local: &args.local, source, command, terms: OF_FILE, shows_front: |_| true }
    }

    fn same_command(args: &Args) -> String {
        running(args).same_command()
    }

    #[test]
    fn the_command_to_continue_repeats_the_given_options() {
        assert_eq!(same_command(&search(&["a.toml", "--fresh"])), "edgesmith search a.toml");
        let given = ["b.toml", "--data-dir", "d", "--data-root", "/r", "--slots", "3"];
        let text = "edgesmith search b.toml --data-dir d --data-root /r --slots 3";
        assert_eq!(same_command(&search(&given)), text);
        let given = ["it's a study.toml", "--backend", "wgpu"];
        let text = r"edgesmith search 'it'\''s a study.toml' --backend wgpu";
        assert_eq!(same_command(&search(&given)), text);
    }

    #[test]
    fn devices_that_this_process_does_not_have_are_told_with_the_way_on() {
        let study = |objective: &str| {
            let text = format!(
                "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 9\n\
                 objectives = [{{ metric = \"validation_accuracy\" }}, {objective}]\n\
                 space = {{ resolution = 8, stem_width = 8, stages = [{{ width = 8 }}] }}\n"
            );
            elsewhere(&StudySpec::parse(&text).unwrap(), "http://127.0.0.1:9")
        };
        assert_eq!(study("{ metric = \"latency_ms\" }"), None);
        assert_eq!(study("{ metric = \"model_bytes\" }"), None);
        let said = study("{ metric = \"latency_ms\", device = \"rpi4\" }").unwrap();
        assert!(said.contains("also on rpi4, so it waits"), "{said}");
        assert!(said.contains("--coordinator http://127.0.0.1:9 --roles measure --device rpi4"));
    }

    #[test]
    fn other_open_studies_of_the_directory_are_named() {
        let study = |name: &str, state: v1::StudyState| v1::StudyStatus {
            name: name.to_owned(),
            state: state.into(),
            ..Default::default()
        };
        let (running, complete) = (v1::StudyState::Running, v1::StudyState::Complete);
        let paused = study("p", v1::StudyState::Paused);
        let all = [study("a", running), study("b", running), study("c", complete), paused];
        assert_eq!(others(&all[..1], "a"), None);
        let text = others(&all, "a").unwrap();
        assert!(text.contains("another running study of this directory: b;"), "{text}");
        assert!(
            others(&all, "c").unwrap().contains("other running studies of this directory: a, b;")
        );
    }

    #[test]
    fn only_a_study_of_this_name_is_offered_to_be_deleted() {
        let args = search(&["a.toml"]);
        let error = running(&args).not_started(invalid("no study b"), "a", false);
        assert_eq!(format!("{error:#}"), "failed to start a: no study b");
        assert!(error.is::<Invalid>());
        let error = running(&args).not_started(invalid("it differs"), "a", true).to_string();
        let text = "a.toml does not fit study a, which edgesmith-data has of an earlier run (its \
                    values are on the left): it differs; or give the file another study.name; or \
                    start a again without its earlier trials: edgesmith search a.toml --fresh";
        assert_eq!(error, text);
    }

    #[test]
    fn a_study_that_ended_earlier_tells_how_to_start_again() {
        let args = search(&["a.toml"]);
        let mut status = v1::StudyStatus {
            name: "a".to_owned(),
            state: v1::StudyState::Failed.into(),
            reason: "no data".to_owned(),
            ..Default::default()
        };
        let text = "study a failed earlier: no data; once you have mended that, run `edgesmith retry \
                    a` and then the same command; or delete its trials and start again: edgesmith \
                    search a.toml --fresh";
        assert_eq!(running(&args).ended_earlier(&status).as_deref(), Some(text));
        status.set_state(v1::StudyState::Cancelled);
        let text = running(&args).ended_earlier(&status).unwrap();
        assert!(text.contains("was cancelled earlier; to go on, give the file another"), "{text}");
        assert!(text.contains(" (study.start_from = [\"a\"] in a study file uses"), "{text}");
        let terms = Terms { starts_from_earlier: false, ..OF_FILE };
        let text = Running { terms, ..running(&args) }.ended_earlier(&status).unwrap();
        assert!(!text.contains("start_from"), "{text}");
        status.set_state(v1::StudyState::Complete);
        assert_eq!(running(&args).ended_earlier(&status), None);
    }
}

//! `edgesmith search`: coordinator and workers in this process, over a real loopback connection, from
//! a study file to its Pareto front.

use std::process::ExitCode;
use std::sync::Arc;

use edgesmith_common::spec::Workload;
use edgesmith_proto::v1;
use edgesmith_worker::session::{self, WorkerConfig, WorkerRole};
use tokio_util::sync::CancellationToken;

use crate::args::SearchArgs;
use crate::commands::{front, studies, submit, work};
use crate::connect::Coordinator;
use crate::failure::from_status;
use crate::output::progress::{self, Progress};
use crate::setup;

/// Runs the study, or goes on with it.
pub async fn run(args: SearchArgs) -> anyhow::Result<ExitCode> {
    let spec = submit::read_study(&args.study)?;
    let executor = work::pipeline(Some(args.backend), "local", args.data_root.clone())?;
    let shutdown = setup::shutdown_on_signal();
    let coordinator = Coordinator::start(&args.data_dir).await?;
    let study = spec.name.to_string();
    if args.fresh {
        let request = v1::DeleteStudyRequest { study: study.clone() };
        match coordinator.studies().delete_study(request).await {
            Ok(_) => {}
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err(from_status(status)),
        }
    }
    let submitted = submit::submit(&coordinator, &spec, &args.study).await.map_err(|error| {
        error.context(format!("failed to start {study}; `--fresh` forgets the earlier one"))
    })?;
    let request = v1::GetStudyRequest { study: study.clone() };
    let status = coordinator.studies().get_study(request).await.map_err(from_status)?.into_inner();
    if status.state() == v1::StudyState::Paused {
        let request = v1::ResumeStudyRequest { study: study.clone() };
        coordinator.studies().resume_study(request).await.map_err(from_status)?;
    }
    let slots = args.slots.unwrap_or_else(work::cores);
    let url = coordinator.local_url().unwrap_or_default().to_owned();
    announce(&args, &status, submitted.created, slots, &url);

    let stop_workers = CancellationToken::new();
    let config = WorkerConfig {
        coordinator: url,
        token: None,
        tls_ca_pem: None,
        name: executor.info().name.clone(),
        device_class: executor.info().class.clone(),
        roles: match spec.work {
            Workload::Train(_) => vec![WorkerRole::Train, WorkerRole::Measure],
            Workload::Table(_) => vec![WorkerRole::Table],
        },
        slots,
        backend: args.backend.name().to_owned(),
    };
    let mut workers = tokio::spawn(session::run(config, Arc::new(executor), stop_workers.clone()));
    let ended = tokio::select! {
        ended = studies::follow(&coordinator, &study) => Some(ended?),
        // The workers' session ends by itself only when it cannot go on.
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
    front::print_summary(&coordinator, &study).await?;
    let code = match ended {
        Some(code) => code,
        None => {
            eprintln!(
                "stopped; nothing finished is lost. Go on with: edgesmith search {}",
                args.study.display()
            );
            ExitCode::from(130)
        }
    };
    coordinator.shut_down().await?;
    Ok(code)
}

fn announce(args: &SearchArgs, status: &v1::StudyStatus, created: bool, slots: u32, url: &str) {
    let how = if created { "starts" } else { "goes on" };
    let finished = progress::finished(status);
    let done = if finished > 0 { format!(", {finished} trials are there") } else { String::new() };
    eprintln!(
        "study {} {how}: {} trials by {}, {slots} at once on {}{done}",
        status.name,
        status.budget_trials,
        status.algorithm,
        args.backend.name()
    );
    eprintln!("results are kept in {}; other commands reach it at {url}", args.data_dir.display());
    Progress::explain();
}

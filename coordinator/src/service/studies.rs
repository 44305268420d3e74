//! The study service, which answers users.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use edgesmith_common::{DeviceClass, Filter, StudyName, StudySpec, TrialNumber};
use edgesmith_proto::v1::study_service_server::StudyService;
use edgesmith_proto::{ConvertError, genotype, optional_hash, v1};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::runtime::Handle;
use super::{status, views};
use crate::core::{Action, Answer, Event, KnownTrial};
use crate::store::ArtifactStore;

/// The minimum pause between two statuses sent to one watcher.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Answers users.
pub struct Studies {
    /// The core.
    pub core: Handle,
    /// The artifacts, including uploaded teacher weights.
    pub artifacts: ArtifactStore,
    /// Ends streams when the server stops.
    pub stop: CancellationToken,
}

impl Studies {
    async fn steer(
        &self,
        study: &str,
        action: Action,
    ) -> Result<Response<v1::StudyStatus>, Status> {
        let study = name(study)?;
        let event = |to| Event::Steer { to, study: study.clone(), action };
        self.core.ask(event).await?;
        current(&self.core, study).await.map(Response::new)
    }
}

/// The current status of a study.
async fn current(core: &Handle, study: StudyName) -> Result<v1::StudyStatus, Status> {
    let found = core.query(move |core, now| core.study_status(&study, now)).await?;
    found.map(views::study).map_err(|refusal| status::of_refusal(&refusal))
}

fn name(text: &str) -> Result<StudyName, Status> {
    text.parse().map_err(|error| status::of_name(&error))
}

#[tonic::async_trait]
impl StudyService for Studies {
    async fn submit_study(
        &self,
        request: Request<v1::SubmitStudyRequest>,
    ) -> Result<Response<v1::SubmitStudyResponse>, Status> {
        let request = request.into_inner();
        let spec = StudySpec::parse(&request.spec_toml).map_err(|e| status::of_spec(&e))?;
        let teacher_weights = optional_hash(&request.teacher_weights, "teacher_weights")
            .map_err(|e| status::of_convert(&e))?;
        if let Some(hash) = teacher_weights
            && !self.artifacts.contains(hash)
        {
            let text = format!(
                "the teacher's weights {hash} were not uploaded; upload them before the study"
            );
            return Err(Status::failed_precondition(text));
        }
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at_ms = since_1970.map_or(0, |d| d.as_millis() as u64);
        let spec = Box::new(spec);
        match self.core.ask(|to| Event::Submit { to, spec, teacher_weights, at_ms }).await? {
            Answer::Submitted { study, created, extended, start } => {
                let left_out = |(reason, count)| v1::LeftOut { reason, count };
                Ok(Response::new(v1::SubmitStudyResponse {
                    name: study.to_string(),
                    created,
                    extended,
                    start_imported: start.imported,
                    start_known: start.known,
                    start_left_out: start.left_out.into_iter().map(left_out).collect(),
                }))
            }
            other => Err(status::unexpected(&other)),
        }
    }

    async fn import_trials(
        &self,
        request: Request<v1::ImportTrialsRequest>,
    ) -> Result<Response<v1::ImportTrialsResponse>, Status> {
        let request = request.into_inner();
        let study = name(&request.study)?;
        // Query the space first, because indices have a meaning only within it.
        let asked = study.clone();
        let space = self.core.query(move |core, _| core.space(&asked)).await?;
        let space = space.map_err(|refusal| status::of_refusal(&refusal))?;
        let known = |(place, trial): (usize, v1::KnownTrial)| {
            let wrong = |why: String| {
                Status::invalid_argument(format!("trial {place} of the import: {why}"))
            };
            let genotype = genotype(&trial.genotype, &space).map_err(|e| wrong(e.problem))?;
            let figures = trial.figures.ok_or_else(|| wrong("it has no figures".to_owned()))?;
            let figures = figures.try_into().map_err(|e: ConvertError| wrong(e.problem))?;
            Ok(KnownTrial { genotype, figures })
        };
        let trials = request.trials.into_iter().enumerate().map(known);
        let trials = trials.collect::<Result<Vec<_>, Status>>()?;
        match self.core.ask(|to| Event::Import { to, study, trials }).await? {
            Answer::Imported { imported, known } => {
                Ok(Response::new(v1::ImportTrialsResponse { imported, known }))
            }
            other => Err(status::unexpected(&other)),
        }
    }

    async fn list_studies(
        &self,
        _: Request<v1::ListStudiesRequest>,
    ) -> Result<Response<v1::ListStudiesResponse>, Status> {
        let all = self.core.query(|core, now| {
            let names = core.studies().into_iter();
            names.filter_map(|name| core.study_status(&name, now).ok()).collect::<Vec<_>>()
        });
        let studies = all.await?.into_iter().map(views::study).collect();
        Ok(Response::new(v1::ListStudiesResponse { studies }))
    }

    async fn get_study(
        &self,
        request: Request<v1::GetStudyRequest>,
    ) -> Result<Response<v1::StudyStatus>, Status> {
        current(&self.core, name(&request.get_ref().study)?).await.map(Response::new)
    }

    type WatchStudyStream = Pin<Box<dyn Stream<Item = Result<v1::StudyStatus, Status>> + Send>>;

    async fn watch_study(
        &self,
        request: Request<v1::WatchStudyRequest>,
    ) -> Result<Response<Self::WatchStudyStream>, Status> {
        let study = name(&request.get_ref().study)?;
        // Checked first, so that an unknown study is the call's error and not the first item of a
        // stream.
        current(&self.core, study.clone()).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let (core, stop) = (self.core.clone(), self.stop.clone());
        tokio::spawn(async move {
            let mut versions = core.versions();
            loop {
                versions.mark_unchanged();
                let status = current(&core, study.clone()).await;
                let last = status.as_ref().map_or(true, is_over);
                if sender.send(status).await.is_err() || last {
                    return;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sender.closed() => return,
                    () = tokio::time::sleep(WATCH_INTERVAL) => {}
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sender.closed() => return,
                    changed = versions.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_trials(
        &self,
        request: Request<v1::ListTrialsRequest>,
    ) -> Result<Response<v1::ListTrialsResponse>, Status> {
        let study = name(&request.get_ref().study)?;
        let found = self.core.query(move |core, _| core.trials(&study)).await?;
        let trials = found.map_err(|refusal| status::of_refusal(&refusal))?;
        let trials = trials.into_iter().map(views::trial).collect();
        Ok(Response::new(v1::ListTrialsResponse { trials }))
    }

    async fn get_trial(
        &self,
        request: Request<v1::GetTrialRequest>,
    ) -> Result<Response<v1::Trial>, Status> {
        let study = name(&request.get_ref().study)?;
        let number = TrialNumber(request.get_ref().number);
        let found = self.core.query(move |core, _| core.trial(&study, number)).await?;
        let trial = found.map_err(|refusal| status::of_refusal(&refusal))?;
        Ok(Response::new(views::trial(trial)))
    }

    async fn get_pareto_front(
        &self,
        request: Request<v1::GetParetoFrontRequest>,
    ) -> Result<Response<v1::GetParetoFrontResponse>, Status> {
        let request = request.into_inner();
        let study = name(&request.study)?;
        let device: Option<DeviceClass> = match request.device.as_str() {
            "" => None,
            class => Some(class.parse().map_err(|e| status::of_name(&e))?),
        };
        let filters = request.filters.iter().map(|text| text.parse::<Filter>());
        let filters = filters.collect::<Result<Vec<_>, _>>();
        let filters = filters.map_err(|e| Status::invalid_argument(e.to_string()))?;
        let found = self.core.query(move |core, _| core.front(&study, device.as_ref(), &filters));
        let trials = found.await?.map_err(|refusal| status::of_refusal(&refusal))?;
        let trials = trials.into_iter().map(views::trial).collect();
        Ok(Response::new(v1::GetParetoFrontResponse { trials }))
    }

    async fn pause_study(
        &self,
        request: Request<v1::PauseStudyRequest>,
    ) -> Result<Response<v1::StudyStatus>, Status> {
        self.steer(&request.get_ref().study, Action::Pause).await
    }

    async fn resume_study(
        &self,
        request: Request<v1::ResumeStudyRequest>,
    ) -> Result<Response<v1::StudyStatus>, Status> {
        self.steer(&request.get_ref().study, Action::Resume).await
    }

    async fn extend_study(
        &self,
        request: Request<v1::ExtendStudyRequest>,
    ) -> Result<Response<v1::StudyStatus>, Status> {
        let v1::ExtendStudyRequest { study, trials, hours } = request.into_inner();
        let study = name(&study)?;
        let event = |to| Event::Extend { to, study: study.clone(), trials, hours };
        self.core.ask(event).await?;
        current(&self.core, study).await.map(Response::new)
    }

    async fn retry_study(
        &self,
        request: Request<v1::RetryStudyRequest>,
    ) -> Result<Response<v1::RetryStudyResponse>, Status> {
        let v1::RetryStudyRequest { study, trial } = request.into_inner();
        let (study, trial) = (name(&study)?, trial.map(TrialNumber));
        match self.core.ask(|to| Event::Retry { to, study: study.clone(), trial }).await? {
            Answer::Retried { trials, data, teacher } => {
                let status = Some(current(&self.core, study).await?);
                Ok(Response::new(v1::RetryStudyResponse { trials, data, teacher, status }))
            }
            other => Err(status::unexpected(&other)),
        }
    }

    async fn rename_study(
        &self,
        request: Request<v1::RenameStudyRequest>,
    ) -> Result<Response<v1::StudyStatus>, Status> {
        let v1::RenameStudyRequest { study, new_name } = request.into_inner();
        let (study, new) = (name(&study)?, name(&new_name)?);
        self.core.ask(|to| Event::Rename { to, study, name: new.clone() }).await?;
        current(&self.core, new).await.map(Response::new)
    }

    async fn cancel_study(
        &self,
        request: Request<v1::CancelStudyRequest>,
    ) -> Result<Response<v1::StudyStatus>, Status> {
        self.steer(&request.get_ref().study, Action::Cancel).await
    }

    async fn delete_study(
        &self,
        request: Request<v1::DeleteStudyRequest>,
    ) -> Result<Response<v1::DeleteStudyResponse>, Status> {
        let study = name(&request.get_ref().study)?;
        let action = Action::Delete;
        self.core.ask(|to| Event::Steer { to, study, action }).await?;
        Ok(Response::new(v1::DeleteStudyResponse {}))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let all = self.core.query(|core, now| (core.workers(now), core.unlike_machines()));
        let (workers, unlike) = all.await?;
        Ok(Response::new(v1::ListWorkersResponse {
            workers: workers.into_iter().map(views::worker).collect(),
            unlike_machines: unlike.into_iter().map(views::unlike_machines).collect(),
        }))
    }
}

fn is_over(status: &v1::StudyStatus) -> bool {
    use v1::StudyState::{Cancelled, Complete, Failed};
    matches!(status.state(), Complete | Cancelled | Failed)
}

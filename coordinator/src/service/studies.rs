//! The study service, which answers users.

use std::time::{Duration, SystemTime};

use edgesmith_common::spec::MAX_TRIALS;
use edgesmith_common::{DeviceClass, Filter, StudyName, TrialNumber};
use edgesmith_proto::v1::study_service_server::StudyService;
use edgesmith_proto::{ConvertError, MAX_PAGE, genotype, optional_hash, v1};
use edgesmith_search_space::Space;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::limits::{Turns, fitting};
use super::models::Sent;
use super::progress::{Watch, current, without_texts};
use super::runtime::Handle;
use super::{collection, models, status, views};
use crate::core::{Action, Answer, Core, Event, KnownTrial, Refusal, TrialView};
use crate::store::{ArtifactStore, Collected, StageStore};

/// Most trials in one call that imports some.
const MAX_IMPORT: usize = 1000;
/// Most filters of a front.
const MAX_FILTERS: usize = 64;
/// Study files and imports that are read at once, and that may wait for it. Each holds a message.
const READING: (usize, usize) = (2, 32);
/// Answers with trials that are made at once, and that may wait for it. They may read the disk.
const ANSWERING: (usize, usize) = (4, 256);

/// Answers users.
pub struct Studies {
    /// The core.
    core: Handle,
    /// The artifacts, including uploaded teacher weights.
    artifacts: ArtifactStore,
    /// What each pass of a trial's recipe did.
    stages: StageStore,
    /// Ends streams when the server stops.
    stop: CancellationToken,
    /// Studies and imports that are read.
    reading: Turns,
    /// Answers with trials that are made.
    answering: Turns,
}

impl Studies {
    /// Answers from `core` until `stop`.
    pub fn new(
        core: Handle,
        artifacts: ArtifactStore,
        stages: StageStore,
        stop: CancellationToken,
    ) -> Self {
        let reading = Turns::new("studies and imports to read", READING.0, READING.1);
        let answering = Turns::new("trials to send", ANSWERING.0, ANSWERING.1);
        Self { core, artifacts, stages, stop, reading, answering }
    }

    /// Waits for a turn, asks the core for trials, and converts what it found. The turn is held
    /// until the work ends, even if the caller has gone. Otherwise, a client that makes calls and
    /// ends them at once could queue up any amount of work.
    async fn answer<F: Send + 'static, T: Send + 'static>(
        &self,
        find: impl FnOnce(&Core) -> Result<F, Refusal> + Send + 'static,
        convert: impl FnOnce(F) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let turn = self.answering.take().await?;
        let (found, turn) = self.core.query(move |core, _| (find(core), turn)).await?;
        let found = found.map_err(|refusal| status::of_refusal(&refusal))?;
        let convert = move || {
            let _turn = turn;
            convert(found)
        };
        let converted = tokio::task::spawn_blocking(convert).await;
        converted.map_err(|e| Status::internal(format!("failed to answer: {e}")))
    }

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

fn name(text: &str) -> Result<StudyName, Status> {
    text.parse().map_err(|error| status::of_name(&error))
}

#[tonic::async_trait]
impl StudyService for Studies {
    async fn submit_study(
        &self,
        request: Request<v1::SubmitStudyRequest>,
    ) -> Result<Response<v1::SubmitStudyResponse>, Status> {
        let v1::SubmitStudyRequest {
            spec_toml,
            teacher_weights,
            model,
            teacher_model,
            other_teachers,
        } = request.into_inner();
        let teacher_weights = optional_hash(&teacher_weights, "teacher_weights")
            .map_err(|e| status::of_convert(&e))?;
        let artifacts = self.artifacts.clone();
        let read = move || {
            let sent = Sent { space: &model, teacher: &teacher_model, others: &other_teachers };
            let spec = models::study(&spec_toml, sent, &artifacts)?;
            match teacher_weights {
                Some(hash) if !artifacts.claim(hash) => Err(Status::failed_precondition(format!(
                    "the teacher's weights {hash} were not uploaded; upload them before the study"
                ))),
                Some(_) | None => Ok(spec),
            }
        };
        let spec = self.reading.work(read).await?;
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at_ms = since_1970.map_or(0, |d| d.as_millis() as u64);
        let spec = Box::new(spec);
        match self.core.ask(|to| Event::Submit { to, spec, teacher_weights, at_ms }).await? {
            Answer::Submitted { study, created, extended, replaced, reread, start } => {
                let left_out = |(reason, count)| v1::LeftOut { reason, count };
                Ok(Response::new(v1::SubmitStudyResponse {
                    name: study.to_string(),
                    created,
                    extended,
                    replaced: replaced.iter().map(ToString::to_string).collect(),
                    reread,
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
        if request.trials.len() > MAX_IMPORT {
            return Err(Status::invalid_argument(format!(
                "{} trials are too many for one call; send at most {MAX_IMPORT}, and the others in \
                 further calls",
                request.trials.len()
            )));
        }
        // Query the space first, because indices have a meaning only within it.
        let asked = study.clone();
        let space = self.core.query(move |core, _| core.space(&asked)).await?;
        let space = space.map_err(|refusal| status::of_refusal(&refusal))?;
        let read = move || known_trials(request.trials, &space);
        let trials = self.reading.work(read).await?;
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
        let names = self.core.query(|core, _| core.studies()).await?;
        let mut studies = Vec::new();
        // One query each, so that others are answered in between.
        for name in names {
            let found = self.core.query(move |core, now| core.study_status(&name, now)).await?;
            // It may have been deleted since.
            let Ok(view) = found else { continue };
            let waits = self.core.space().shortage().unwrap_or_default();
            studies.push(v1::StudyStatus { waits, ..without_texts(views::study(view)) });
        }
        Ok(Response::new(v1::ListStudiesResponse { studies }))
    }

    async fn get_study(
        &self,
        request: Request<v1::GetStudyRequest>,
    ) -> Result<Response<v1::StudyStatus>, Status> {
        current(&self.core, name(&request.get_ref().study)?).await.map(Response::new)
    }

    type WatchStudyStream = Watch;

    async fn watch_study(
        &self,
        request: Request<v1::WatchStudyRequest>,
    ) -> Result<Response<Watch>, Status> {
        let study = name(&request.get_ref().study)?;
        Watch::begin(self.core.clone(), study, self.stop.clone()).await.map(Response::new)
    }

    async fn list_trials(
        &self,
        request: Request<v1::ListTrialsRequest>,
    ) -> Result<Response<v1::ListTrialsResponse>, Status> {
        let v1::ListTrialsRequest { study, first, at_most, numbers } = request.into_inner();
        let study = name(&study)?;
        if numbers.len() > MAX_PAGE as usize {
            return Err(Status::invalid_argument(format!(
                "{} trials are too many for one call; ask for at most {MAX_PAGE}, and for the \
                 others in further calls",
                numbers.len()
            )));
        }
        let at_most = if at_most == 0 { MAX_PAGE } else { at_most.min(MAX_PAGE) };
        let by_number = !numbers.is_empty();
        let find = move |core: &Core| {
            if by_number {
                numbers.into_iter().map(|n| core.trial(&study, TrialNumber(n))).collect()
            } else {
                page(core, &study, first, at_most)
            }
        };
        let stages = self.stages.clone();
        let convert = move |mut trials: Vec<TrialView>| {
            trials.iter_mut().for_each(|trial| stages.fill(trial));
            let is_last = trials.len() < at_most as usize;
            let page = views::page(trials, first, is_last);
            v1::ListTrialsResponse { next: page.next.filter(|_| !by_number), ..page }
        };
        self.answer(find, convert).await.map(Response::new)
    }

    async fn get_trial(
        &self,
        request: Request<v1::GetTrialRequest>,
    ) -> Result<Response<v1::Trial>, Status> {
        let study = name(&request.get_ref().study)?;
        let number = TrialNumber(request.get_ref().number);
        let stages = self.stages.clone();
        let convert = move |mut trial: TrialView| {
            stages.fill(&mut trial);
            views::trial(trial)
        };
        self.answer(move |core| core.trial(&study, number), convert).await.map(Response::new)
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
        if request.filters.len() > MAX_FILTERS {
            return Err(Status::invalid_argument(format!(
                "{} filters are too many; a front has at most {MAX_FILTERS}",
                request.filters.len()
            )));
        }
        let filters = request.filters.iter().map(|text| text.parse::<Filter>());
        let filters = filters.collect::<Result<Vec<_>, _>>();
        let filters = filters.map_err(|e| fitting(Status::invalid_argument(e.to_string())))?;
        let find = move |core: &Core| core.front(&study, device.as_ref(), &filters);
        let stages = self.stages.clone();
        let convert = move |mut front: Vec<TrialView>| {
            front.iter_mut().for_each(|trial| stages.fill(trial));
            views::front(front, request.paged)
        };
        let answer = self.answer(find, convert).await?;
        answer.map(Response::new).ok_or_else(|| {
            Status::resource_exhausted(
                "the front is too large for one answer; bound it with filters, or use a version of \
                 edgesmith that asks for it in parts",
            )
        })
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
        if let Some(trials) = trials.filter(|trials| *trials > MAX_TRIALS) {
            return Err(Status::invalid_argument(format!(
                "{trials} trials are too many; a budget has at most {MAX_TRIALS}"
            )));
        }
        let event = |to| Event::Extend { to, study: study.clone(), trials, hours };
        self.core.ask(event).await?;
        current(&self.core, study).await.map(Response::new)
    }

    async fn retry_study(
        &self,
        request: Request<v1::RetryStudyRequest>,
    ) -> Result<Response<v1::RetryStudyResponse>, Status> {
        let v1::RetryStudyRequest { study, trial, teacher } = request.into_inner();
        let (study, trial) = (name(&study)?, trial.map(TrialNumber));
        let event = |to| Event::Retry { to, study: study.clone(), trial, teacher };
        match self.core.ask(event).await? {
            Answer::Retried { trials, data, teacher, measured } => {
                let status = Some(current(&self.core, study).await?);
                Ok(Response::new(v1::RetryStudyResponse {
                    trials,
                    data,
                    teacher,
                    teacher_measured: measured,
                    status,
                }))
            }
            other => Err(status::unexpected(&other)),
        }
    }

    async fn collect_artifacts(
        &self,
        request: Request<v1::CollectArtifactsRequest>,
    ) -> Result<Response<v1::CollectArtifactsResponse>, Status> {
        let min_age = Duration::from_secs(request.into_inner().min_age_seconds);
        let Collected { removed, removed_bytes, young, kept } =
            collection::collect(&self.core, &self.artifacts, min_age).await?;
        Ok(Response::new(v1::CollectArtifactsResponse { removed, removed_bytes, young, kept }))
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

/// The trials of a study from number `first` on, `at_most` of them.
fn page(
    core: &Core,
    study: &StudyName,
    first: u32,
    at_most: u32,
) -> Result<Vec<TrialView>, Refusal> {
    let mut trials = Vec::new();
    for number in (first..=u32::MAX).take(at_most as usize) {
        match core.trial(study, TrialNumber(number)) {
            Ok(trial) => trials.push(trial),
            Err(Refusal::UnknownTrial { .. }) => break,
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(trials)
}

/// The trials of an import into a study over `space`.
fn known_trials(trials: Vec<v1::KnownTrial>, space: &Space) -> Result<Vec<KnownTrial>, Status> {
    let known = |(place, trial): (usize, v1::KnownTrial)| {
        let wrong =
            |why: String| Status::invalid_argument(format!("trial {place} of the import: {why}"));
        let genotype = genotype(&trial.genotype, space).map_err(|e| wrong(e.problem))?;
        let figures = trial.figures.ok_or_else(|| wrong("it has no figures".to_owned()))?;
        let figures = figures.try_into().map_err(|e: ConvertError| wrong(e.problem))?;
        Ok(KnownTrial { genotype, figures })
    };
    trials.into_iter().enumerate().map(known).collect()
}

#[cfg(test)]
mod tests;

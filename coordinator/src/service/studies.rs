//! The study service, which answers users.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use edgesmith_common::spec::MAX_TRIALS;
use edgesmith_common::{DeviceClass, Filter, StudyName, TrialNumber};
use edgesmith_proto::v1::study_service_server::StudyService;
use edgesmith_proto::{ConvertError, MAX_PAGE, genotype, optional_hash, v1};
use edgesmith_search_space::Space;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::limits::{Turns, fitting};
use super::runtime::Handle;
use super::{collection, models, status, views};
use crate::core::{Action, Answer, Core, Event, KnownTrial, Refusal, TrialView};
use crate::store::{ArtifactStore, Collected, StageStore};

/// The minimum pause between two statuses sent to one watcher.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

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

/// The current status of a study.
async fn current(core: &Handle, study: StudyName) -> Result<v1::StudyStatus, Status> {
    let found = core.query(move |core, now| core.study_status(&study, now)).await?;
    let status = found.map(views::study).map_err(|refusal| status::of_refusal(&refusal))?;
    Ok(v1::StudyStatus { waits: core.space().shortage().unwrap_or_default(), ..status })
}

/// The same without the texts that never change. They are large, and the buffer of a stream keeps
/// the size of its largest message for as long as it is open.
async fn brief(core: &Handle, study: StudyName) -> Result<v1::StudyStatus, Status> {
    current(core, study).await.map(without_texts)
}

fn without_texts(status: v1::StudyStatus) -> v1::StudyStatus {
    v1::StudyStatus { spec_toml: String::new(), resolved_study: String::new(), ..status }
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
        let v1::SubmitStudyRequest { spec_toml, teacher_weights, model, teacher_model } =
            request.into_inner();
        let teacher_weights = optional_hash(&teacher_weights, "teacher_weights")
            .map_err(|e| status::of_convert(&e))?;
        let artifacts = self.artifacts.clone();
        let read = move || {
            let spec = models::study(&spec_toml, [&model, &teacher_model], &artifacts)?;
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
        let mut versions = self.core.versions();
        versions.mark_unchanged();
        // Asked for first, so that an unknown study is the call's error and not the first item of a
        // stream.
        let first = Some(brief(&self.core, study.clone()).await?);
        let (core, stop) = (self.core.clone(), self.stop.clone());
        let watcher = Watcher { core, stop, study, versions, waits: false, first };
        Ok(Response::new(Watch(Some(Box::pin(watcher.next())))))
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

/// The statuses of a study. Each is made only when there is room for it, so one that nobody reads
/// costs next to nothing.
pub struct Watch(Option<Step>);

/// The next status, if there is one, and what gives the ones after it, unless that was the last.
type Step = Pin<Box<dyn Future<Output = (Option<StatusItem>, Option<Watcher>)> + Send>>;
type StatusItem = Result<v1::StudyStatus, Status>;

impl Stream for Watch {
    type Item = StatusItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StatusItem>> {
        let Some(step) = &mut self.0 else { return Poll::Ready(None) };
        let (status, rest) = ready!(step.as_mut().poll(cx));
        self.0 = rest.map(|watcher| -> Step { Box::pin(watcher.next()) });
        Poll::Ready(status)
    }
}

/// Waits for changes of a study.
struct Watcher {
    core: Handle,
    stop: CancellationToken,
    study: StudyName,
    versions: watch::Receiver<u64>,
    /// The first status, until it is sent.
    first: Option<v1::StudyStatus>,
    /// Whether the last status said that the coordinator waits for room.
    waits: bool,
}

impl Watcher {
    /// The first status, or the next one after a change.
    async fn next(mut self) -> (Option<StatusItem>, Option<Self>) {
        if let Some(first) = self.first.take() {
            self.waits = !first.waits.is_empty();
            let rest = (!is_over(&first)).then_some(self);
            return (Some(Ok(first)), rest);
        }
        let changed = async {
            tokio::time::sleep(WATCH_INTERVAL).await;
            // A lack of room changes nothing in the core.
            let space = self.core.space();
            tokio::select! {
                changed = self.versions.changed() => changed,
                () = space.differs(self.waits) => Ok(()),
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => return (None, None),
            changed = changed => {
                if changed.is_err() {
                    return (None, None);
                }
            }
        }
        let status = brief(&self.core, self.study.clone()).await;
        let last = status.as_ref().map_or(true, is_over);
        self.waits = status.as_ref().is_ok_and(|status| !status.waits.is_empty());
        (Some(status), (!last).then_some(self))
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

fn is_over(status: &v1::StudyStatus) -> bool {
    use v1::StudyState::{Cancelled, Complete, Failed};
    matches!(status.state(), Complete | Cancelled | Failed)
}

#[cfg(test)]
mod tests {
    use edgesmith_common::spec::MAX_STUDY_BYTES;
    use edgesmith_common::{Figures, ScopedMetric, StudySpec};
    use edgesmith_proto::v1::study_service_client::StudyServiceClient;
    use tonic::Code;
    use tonic::transport::Channel;

    use super::super::{LocalCoordinator, Visibility};
    use super::*;

    const STUDY: &str = r#"
[study]
name = "large"
[data]
source = "digits"
[space]
resolution = [8]
stem_width = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
[[space.stages]]
width = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
kernel = [1, 3, 5, 7]
operation = ["conv", "separable"]
activation = ["relu", "relu6"]
[[objectives]]
metric = "validation_accuracy"
[budget]
trials = 3
"#;

    async fn client(local: &LocalCoordinator) -> StudyServiceClient<Channel> {
        let channel = Channel::from_shared(local.url().to_owned()).unwrap();
        StudyServiceClient::new(channel.connect().await.unwrap())
    }

    async fn submit(client: &mut StudyServiceClient<Channel>, text: String) -> Result<(), Status> {
        let request = v1::SubmitStudyRequest { spec_toml: text, ..Default::default() };
        client.submit_study(request).await.map(drop)
    }

    /// The first networks of the study's space, all different.
    fn known(count: usize) -> Vec<v1::KnownTrial> {
        let spec = StudySpec::parse(STUDY).unwrap();
        let options: Vec<u32> =
            spec.space.choices().iter().map(|c| c.options.len() as u32).collect();
        let figures: Figures = [(ScopedMetric::VALIDATION_ACCURACY, 0.5)].into_iter().collect();
        let genotype = |mut index: u32| {
            let pick = |&options: &u32| {
                let picked = index % options;
                index /= options;
                picked
            };
            options.iter().map(pick).collect()
        };
        let trial = |i| v1::KnownTrial { genotype: genotype(i), figures: Some((&figures).into()) };
        (0..count as u32).map(trial).collect()
    }

    #[tokio::test]
    async fn trials_are_imported_in_calls_and_listed_in_pages() {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalCoordinator::start(directory.path(), Visibility::Private).await.unwrap();
        let mut client = client(&local).await;
        submit(&mut client, STUDY.to_owned()).await.unwrap();
        let study = || "large".to_owned();
        let all = known(1200);
        let import = |trials: &[v1::KnownTrial]| v1::ImportTrialsRequest {
            study: study(),
            trials: trials.to_vec(),
        };
        let refused = client.import_trials(import(&all)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("send at most 1000"), "{}", refused.message());
        for (trials, expected) in
            [(&all[..700], (700, 0)), (&all[700..], (500, 0)), (&all[600..800], (0, 200))]
        {
            let answer = client.import_trials(import(trials)).await.unwrap().into_inner();
            assert_eq!((answer.imported, answer.known), expected);
        }

        let list = |first, at_most| v1::ListTrialsRequest {
            study: study(),
            first,
            at_most,
            numbers: Vec::new(),
        };
        let (mut numbers, mut sizes, mut next) = (Vec::new(), Vec::new(), Some(0));
        while let Some(first) = next {
            let page = client.list_trials(list(first, 0)).await.unwrap().into_inner();
            sizes.push(page.trials.len());
            numbers.extend(page.trials.iter().map(|trial| trial.number));
            next = page.next;
        }
        assert_eq!(sizes, [500, 500, 200]);
        assert!(numbers.into_iter().eq(0..1200));
        let some = client.list_trials(list(1100, 7)).await.unwrap().into_inner();
        assert_eq!((some.trials.len(), some.next), (7, Some(1107)));
        let more = client.list_trials(list(0, u32::MAX)).await.unwrap().into_inner();
        assert_eq!((more.trials.len(), more.next), (500, Some(500)));
        for beyond in [1200, u32::MAX] {
            let none = client.list_trials(list(beyond, 0)).await.unwrap().into_inner();
            assert_eq!((none.trials.len(), none.next), (0, None));
        }

        // All are equally good, so all are on the front.
        let front =
            |paged| v1::GetParetoFrontRequest { study: study(), paged, ..Default::default() };
        let whole = client.get_pareto_front(front(false)).await.unwrap().into_inner();
        assert_eq!((whole.trials.len(), whole.more.len()), (1200, 0));
        let paged = client.get_pareto_front(front(true)).await.unwrap().into_inner();
        assert_eq!((paged.trials.len(), paged.more.len()), (500, 700));
        let numbers = paged.more[..500].to_vec();
        let by_number = |numbers| v1::ListTrialsRequest { numbers, ..list(0, 0) };
        let page = client.list_trials(by_number(numbers)).await.unwrap().into_inner();
        let parts: Vec<_> = paged.trials.into_iter().chain(page.trials).collect();
        assert_eq!(parts, whole.trials[..1000]);
        assert_eq!(page.next, None);
        let refused = client.list_trials(by_number(paged.more)).await.unwrap_err();
        assert!(refused.message().contains("at most 500"), "{}", refused.message());
        let absent = client.list_trials(by_number(vec![3, 1200])).await.unwrap_err();
        assert_eq!(absent.code(), Code::NotFound);

        let listed = client.list_studies(v1::ListStudiesRequest {}).await.unwrap().into_inner();
        assert_eq!(listed.studies[0].imported, 1200);
        assert_eq!(listed.studies[0].spec_toml, "");
        local.shut_down().await.unwrap();
    }

    /// The turn of a list of trials is held as long as the core has the question, even if the
    /// caller has gone.
    #[tokio::test]
    async fn calls_that_are_ended_keep_their_turn_until_their_work_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let artifacts = ArtifactStore::open(directory.path()).unwrap();
        let store = crate::store::MemoryStore::default();
        let core = Core::new(crate::core::CoreConfig::default());
        let start = std::time::Instant::now();
        let (core, thread) = super::super::runtime::spawn(
            core,
            store,
            start,
            super::super::space::Space::new(std::path::Path::new("."), Some(0)),
        )
        .unwrap();
        let mut studies =
            Studies::new(core.clone(), artifacts, StageStore::default(), CancellationToken::new());
        studies.answering = Turns::new("lists", 1, 0);
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let busy = core.clone();
        let busy = tokio::spawn(async move { busy.query(move |_, _| wait.recv().is_ok()).await });
        tokio::task::yield_now().await;
        let study = || "none".to_owned();
        let list = v1::ListTrialsRequest { study: study(), ..Default::default() };
        let front = v1::GetParetoFrontRequest { study: study(), ..Default::default() };
        let mut listing = studies.list_trials(Request::new(list));
        assert!(
            std::future::poll_fn(|cx| Poll::Ready(listing.as_mut().poll(cx).is_pending())).await
        );
        drop(listing);
        let refused = studies.get_pareto_front(Request::new(front.clone())).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        go_on.send(()).unwrap();
        assert!(busy.await.unwrap().unwrap());
        // The question before this one is over.
        core.query(|_, _| ()).await.unwrap();
        let unknown = studies.get_pareto_front(Request::new(front)).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        core.stop();
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap().unwrap();
    }

    /// Study files of nearly the largest message, with as many mistakes as fit, one after the other
    /// and at once. Each is answered with a short error, and other calls are answered meanwhile.
    #[tokio::test]
    async fn hostile_studies_are_refused_with_short_errors() {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalCoordinator::start(directory.path(), Visibility::Private).await.unwrap();
        let mut client = client(&local).await;
        let mistakes = (0..100_000).map(|i| format!("a{i}=1\n")).collect::<String>();
        let refused = submit(&mut client, mistakes.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with("line 1: "), "{}", refused.message());
        assert!(refused.message().len() < 5000, "{}", refused.message().len());

        let large = format!("{STUDY}{}", "#".repeat(MAX_STUDY_BYTES));
        let refused = submit(&mut client, large).await.unwrap_err();
        assert!(refused.message().contains("at most 1048576"), "{}", refused.message());

        let mut sent = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (mut client, mistakes) = (client.clone(), mistakes.clone());
            sent.spawn(async move { submit(&mut client, mistakes).await.unwrap_err().code() });
        }
        client.list_studies(v1::ListStudiesRequest {}).await.unwrap();
        while let Some(code) = sent.join_next().await {
            let code = code.unwrap();
            assert!(matches!(code, Code::InvalidArgument | Code::ResourceExhausted), "{code:?}");
        }
        submit(&mut client, STUDY.to_owned()).await.unwrap();
        local.shut_down().await.unwrap();
    }
}

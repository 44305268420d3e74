//! Imports, pages of trials and hostile studies, through the service of a local coordinator.

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
    let options: Vec<u32> = spec.space.choices().iter().map(|c| c.options.len() as u32).collect();
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
    let front = |paged| v1::GetParetoFrontRequest { study: study(), paged, ..Default::default() };
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
        std::future::poll_fn(|cx| std::task::Poll::Ready(listing.as_mut().poll(cx).is_pending()))
            .await
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

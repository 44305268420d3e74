//! The status of a study, now and as it goes on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use edgesmith_common::StudyName;
use edgesmith_proto::v1;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::runtime::Handle;
use super::{status, views};

/// The minimum pause between two statuses sent to one watcher.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// The current status of a study.
pub async fn current(core: &Handle, study: StudyName) -> Result<v1::StudyStatus, Status> {
    let found = core.query(move |core, now| core.study_status(&study, now)).await?;
    let status = found.map(views::study).map_err(|refusal| status::of_refusal(&refusal))?;
    Ok(v1::StudyStatus { waits: core.space().shortage().unwrap_or_default(), ..status })
}

/// A status without the texts of the study, which are long.
pub fn without_texts(status: v1::StudyStatus) -> v1::StudyStatus {
    v1::StudyStatus { spec_toml: String::new(), resolved_study: String::new(), ..status }
}

/// The statuses of a study. Each is made only when there is room for it, so one that nobody reads
/// costs next to nothing.
pub struct Watch(Option<Step>);

/// The next status, if there is one, and what gives the ones after it, unless that was the last.
type Step = Pin<Box<dyn Future<Output = (Option<StatusItem>, Option<Watcher>)> + Send>>;
type StatusItem = Result<v1::StudyStatus, Status>;

impl Watch {
    /// Watches a study until it ends, or `stop`.
    ///
    /// # Errors
    /// If there is no such study, so that this is the call's error and not the first item of the
    /// stream.
    pub async fn begin(
        core: Handle,
        study: StudyName,
        stop: CancellationToken,
    ) -> Result<Self, Status> {
        let mut versions = core.versions();
        versions.mark_unchanged();
        let first = Some(brief(&core, study.clone()).await?);
        let watcher = Watcher { core, stop, study, versions, waits: false, first };
        Ok(Self(Some(Box::pin(watcher.next()))))
    }
}

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

/// The same without the texts that never change. They are large, and the buffer of a stream keeps
/// the size of its largest message for as long as it is open.
async fn brief(core: &Handle, study: StudyName) -> Result<v1::StudyStatus, Status> {
    current(core, study).await.map(without_texts)
}

fn is_over(status: &v1::StudyStatus) -> bool {
    use v1::StudyState::{Cancelled, Complete, Failed};
    matches!(status.state(), Complete | Cancelled | Failed)
}

//! Calls to the coordinator: what its refusals and a broken connection mean for a command, and a
//! word to the user while an answer is late. Does not try again.

use std::time::Duration;

use edgesmith_console::invalid;
use edgesmith_proto::v1;
use edgesmith_worker::session::artifacts::is_broken;
use edgesmith_worker::session::describe;
use tonic::{Code, Response, Status};

use crate::Coordinator;

/// How long an answer may take before the user is told why.
const PATIENCE: Duration = Duration::from_secs(3);

/// The answer to a call.
type Answer<T> = Result<Response<T>, Status>;

impl Coordinator {
    /// The answer to a question.
    ///
    /// # Errors
    /// What the coordinator refused, or why it gave no answer.
    pub async fn query<T>(&self, call: impl Future<Output = Answer<T>>) -> anyhow::Result<T> {
        let answer = self.patiently("", call).await;
        answer.map(Response::into_inner).map_err(|status| self.failed(status))
    }

    /// The answer to a call that changes something. It may have done so although no answer came.
    ///
    /// # Errors
    /// What the coordinator refused, or why it gave no answer.
    pub async fn change<T>(&self, call: impl Future<Output = Answer<T>>) -> anyhow::Result<T> {
        let note = " (it may be done all the same if you stop this command)";
        let answer = self.patiently(note, call).await;
        answer.map(Response::into_inner).map_err(|status| self.failed_to_change(status))
    }

    /// The error of a call that changes something.
    pub fn failed_to_change(&self, status: Status) -> anyhow::Error {
        if is_broken(&status) {
            return anyhow::anyhow!(
                "{}; the coordinator may have done it all the same, so look with `edgesmith \
                 studies` before you run the command again",
                self.broken(&status)
            );
        }
        self.failed(status)
    }

    /// The error of a call that changes nothing.
    pub fn failed(&self, status: Status) -> anyhow::Error {
        if is_broken(&status) {
            return anyhow::anyhow!("{}; run the command again", self.broken(&status));
        }
        let text = describe(&status);
        match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::AlreadyExists => invalid(text),
            Code::Unavailable => {
                anyhow::anyhow!("the coordinator {} does not do this now: {text}", self.place())
            }
            _ => anyhow::anyhow!("{text}"),
        }
    }

    fn broken(&self, status: &Status) -> String {
        let (place, why) = (self.place(), describe(status));
        format!("the connection to the coordinator {place} broke: {why}")
    }

    /// Waits for an answer. If it is late, asks the coordinator whether it waits for something.
    async fn patiently<T>(&self, note: &str, call: impl Future<Output = Answer<T>>) -> Answer<T> {
        let mut call = std::pin::pin!(call);
        tokio::select! {
            biased;
            answer = &mut call => return answer,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        tokio::select! {
            biased;
            answer = &mut call => return answer,
            why = self.what_holds_it_up() => eprintln!("waiting for an answer{note}: {why}"),
        }
        call.await
    }

    async fn what_holds_it_up(&self) -> String {
        let silent = "the coordinator has not said why it takes so long".to_owned();
        let mut studies = self.studies();
        match studies.list_studies(v1::ListStudiesRequest {}).await.map(Response::into_inner) {
            Ok(all) => {
                let waits = all.studies.into_iter().map(|study| study.waits).next();
                waits.filter(|why| !why.is_empty()).unwrap_or(silent)
            }
            Err(status) => describe(&status),
        }
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_coordinator::service::{LocalCoordinator, Visibility};

    use super::*;

    #[tokio::test]
    async fn a_broken_connection_names_the_coordinator_and_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalCoordinator::start(directory.path(), Visibility::Private).await.unwrap();
        let coordinator = Coordinator::connect_to_local(&local).await.unwrap();
        let list = async || {
            let request = v1::ListStudiesRequest {};
            coordinator.query(coordinator.studies().list_studies(request)).await
        };
        assert!(list().await.unwrap().studies.is_empty());
        let pause = || v1::PauseStudyRequest { study: "absent".to_owned() };
        let refused = coordinator.change(coordinator.studies().pause_study(pause())).await;
        assert!(refused.unwrap_err().to_string().starts_with("there is no study absent"));
        let url = local.url().to_owned();
        local.shut_down().await.unwrap();
        let broken = list().await.unwrap_err().to_string();
        let named = format!("the connection to the coordinator at {url} broke: ");
        assert!(broken.starts_with(&named), "{broken}");
        assert!(broken.ends_with("; run the command again"), "{broken}");
        let broken = coordinator.change(coordinator.studies().pause_study(pause())).await;
        let broken = broken.unwrap_err().to_string();
        assert!(broken.starts_with(&named) && broken.contains("may have done it"), "{broken}");

        let waits = Status::unavailable("the coordinator waits for room: the disk of d is full");
        let text = format!("the coordinator at {url} does not do this now: the coordinator waits");
        assert!(coordinator.failed(waits).to_string().starts_with(&text));
    }
}

//! Decides what happens: a synchronous, deterministic state machine over studies, trials, tasks and
//! workers.
//!
//! It takes in [`Event`]s and returns [`Command`]s. It reads no clock, opens no socket and no file,
//! and starts no threads. Its only randomness is derived from a study's seed. It knows neither gRPC
//! nor the format of the store: the runtime around it passes the time in, writes the records and
//! sends the replies.
//!
//! Lasting state changes only by applying [`Record`]s: `handle` decides on a record, applies it at
//! once and asks the runtime to persist it. So applying the stored records again
//! ([`Core::restore`]) yields the same studies, trials, tasks, attempts and controllers. Four
//! things do not last: which workers are connected, which requests wait for work, the reported
//! progress of attempts, and when leases expire. Restored leases get a full new term, and workers
//! that join again keep the attempts that they hold.
//!
//! Timers are data: after every call, ask [`Core::next_deadline`] and send [`Event::Tick`] at that
//! time.
//!
//! # Rooms
//!
//! Each uses only those below it:
//!
//! - `decide`: from an event to the records and replies that follow. It reads the state, and
//!   changes what lasts only by recording;
//! - `queries`: what users are told of the state. It changes nothing;
//! - `state`: [`Core`], with all studies and workers. It alone can change a study, a worker or an
//!   attempt, and applies records;
//! - `workers`: who is connected, which attempts are held, and which requests wait;
//! - `command` and `event`: what goes out and what comes in;
//! - `study`: one study, with its trials, tasks, rungs, fronts and algorithm;
//! - `record`: what lasts.

mod command;
mod decide;
mod event;
mod ids;
mod queries;
mod record;
mod stages;
mod state;
mod study;
#[cfg(test)]
mod tests;
mod time;
mod workers;

pub use command::{Answer, Command, Lease, Refusal, Start};
pub use event::{Action, AttemptProgress, Event, KnownTrial, RequestId};
pub use ids::UsedIds;
pub use queries::{
    ArtifactUse, ConstraintView, Exclusion, StudyView, TeacherView, TrialCounts, TrialView,
    WorkerView,
};
pub use record::{AttemptEnding, Record, StudyState, TrialEnding};
pub use stages::StagesKey;
pub use state::{Core, CoreConfig, RestoreError};
pub use study::{PredictionView, ProposalAnswer, ProposalRequest, UnlikeMachines};
pub use time::Time;

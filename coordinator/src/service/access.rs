//! Who may call what: one entry for every call of every service. A call without an entry is
//! refused, and a test compares the table with the services' descriptions.

use edgesmith_common::TokenRole;
use edgesmith_common::TokenRole::{Admin, User, Viewer, Worker};

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Everybody, without a token.
    Anyone,
    /// Holders of a token with one of these roles. Everybody, if the coordinator asks for no
    /// tokens.
    Roles(&'static [TokenRole]),
    /// Holders of a token with one of these roles, even if the coordinator asks for no tokens.
    Proven(&'static [TokenRole]),
}

impl Allowed {
    /// Whether a token of this role is enough.
    pub fn includes(self, role: TokenRole) -> bool {
        match self {
            Self::Anyone => true,
            Self::Roles(roles) | Self::Proven(roles) => roles.contains(&role),
        }
    }
}

const HOLDERS: Allowed = Allowed::Roles(&[Worker, Viewer, User, Admin]);
const WORKERS: Allowed = Allowed::Roles(&[Worker, Admin]);
const VIEWERS: Allowed = Allowed::Roles(&[Viewer, User, Admin]);
const USERS: Allowed = Allowed::Roles(&[User, Admin]);
const SENDERS: Allowed = Allowed::Roles(&[Worker, User, Admin]);
const ADMINS: Allowed = Allowed::Proven(&[Admin]);

/// Every call. `docs/security.md` shows this table to users.
const CALLS: &[(&str, Allowed)] = &[
    ("/grpc.health.v1.Health/Check", Allowed::Anyone),
    ("/grpc.health.v1.Health/Watch", HOLDERS),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", HOLDERS),
    ("/edgesmith.v1.WorkerService/Join", WORKERS),
    ("/edgesmith.v1.WorkerService/Lease", WORKERS),
    ("/edgesmith.v1.WorkerService/Heartbeat", WORKERS),
    ("/edgesmith.v1.WorkerService/Report", WORKERS),
    ("/edgesmith.v1.WorkerService/Leave", WORKERS),
    ("/edgesmith.v1.ArtifactService/UploadArtifact", SENDERS),
    ("/edgesmith.v1.ArtifactService/DownloadArtifact", HOLDERS),
    ("/edgesmith.v1.StudyService/ListStudies", VIEWERS),
    ("/edgesmith.v1.StudyService/GetStudy", VIEWERS),
    ("/edgesmith.v1.StudyService/WatchStudy", VIEWERS),
    ("/edgesmith.v1.StudyService/ListTrials", VIEWERS),
    ("/edgesmith.v1.StudyService/GetTrial", VIEWERS),
    ("/edgesmith.v1.StudyService/GetParetoFront", VIEWERS),
    ("/edgesmith.v1.StudyService/ListWorkers", VIEWERS),
    ("/edgesmith.v1.StudyService/SubmitStudy", USERS),
    ("/edgesmith.v1.StudyService/ImportTrials", USERS),
    ("/edgesmith.v1.StudyService/PauseStudy", USERS),
    ("/edgesmith.v1.StudyService/ResumeStudy", USERS),
    ("/edgesmith.v1.StudyService/CancelStudy", USERS),
    ("/edgesmith.v1.StudyService/DeleteStudy", USERS),
    ("/edgesmith.v1.StudyService/RetryStudy", USERS),
    ("/edgesmith.v1.StudyService/ExtendStudy", USERS),
    ("/edgesmith.v1.StudyService/RenameStudy", USERS),
    ("/edgesmith.v1.TokenService/CreateToken", ADMINS),
    ("/edgesmith.v1.TokenService/ListTokens", ADMINS),
    ("/edgesmith.v1.TokenService/RevokeToken", ADMINS),
];

/// Who may call `path`; `None` if there is no such call.
pub fn of(path: &str) -> Option<Allowed> {
    CALLS.iter().find(|(call, _)| *call == path).map(|(_, allowed)| *allowed)
}

/// The paths of all calls in the table.
#[cfg(test)]
pub fn paths() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|(path, _)| *path)
}

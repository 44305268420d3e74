//! Who may call what: one entry for every call of every service. A call without an entry is
//! refused, and a test compares the table with the services' descriptions.

use edgesmith_common::TokenRole;
use edgesmith_common::TokenRole::{Admin, User, Viewer, Worker};

/// A call, and who may make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Such as `/edgesmith.v1.StudyService/GetStudy`.
    pub path: &'static str,
    /// Who may make it.
    pub allowed: Allowed,
    /// What it does, in a user's words, to follow `may not`.
    pub what: &'static str,
}

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
const CALLS: &[Entry] = &[
    entry("/grpc.health.v1.Health/Check", Allowed::Anyone, "ask for the health"),
    entry("/grpc.health.v1.Health/Watch", HOLDERS, "follow the health"),
    entry(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        HOLDERS,
        "ask which calls there are",
    ),
    entry("/edgesmith.v1.WorkerService/Join", WORKERS, "work as a worker"),
    entry("/edgesmith.v1.WorkerService/Lease", WORKERS, "take tasks"),
    entry("/edgesmith.v1.WorkerService/Heartbeat", WORKERS, "work as a worker"),
    entry("/edgesmith.v1.WorkerService/Report", WORKERS, "report results"),
    entry("/edgesmith.v1.WorkerService/Leave", WORKERS, "work as a worker"),
    entry("/edgesmith.v1.ArtifactService/UploadArtifact", SENDERS, "upload files"),
    entry("/edgesmith.v1.ArtifactService/ResumeUpload", SENDERS, "upload files"),
    entry("/edgesmith.v1.ArtifactService/DownloadArtifact", HOLDERS, "download files"),
    entry("/edgesmith.v1.StudyService/ListStudies", VIEWERS, "list studies"),
    entry("/edgesmith.v1.StudyService/GetStudy", VIEWERS, "look at studies"),
    entry("/edgesmith.v1.StudyService/WatchStudy", VIEWERS, "follow studies"),
    entry("/edgesmith.v1.StudyService/ListTrials", VIEWERS, "look at trials"),
    entry("/edgesmith.v1.StudyService/GetTrial", VIEWERS, "look at trials"),
    entry("/edgesmith.v1.StudyService/GetParetoFront", VIEWERS, "look at Pareto fronts"),
    entry("/edgesmith.v1.StudyService/ListWorkers", VIEWERS, "list workers"),
    entry("/edgesmith.v1.StudyService/SubmitStudy", USERS, "submit studies"),
    entry("/edgesmith.v1.StudyService/ImportTrials", USERS, "import trials"),
    entry("/edgesmith.v1.StudyService/PauseStudy", USERS, "pause studies"),
    entry("/edgesmith.v1.StudyService/ResumeStudy", USERS, "resume studies"),
    entry("/edgesmith.v1.StudyService/CancelStudy", USERS, "cancel studies"),
    entry("/edgesmith.v1.StudyService/DeleteStudy", USERS, "delete studies"),
    entry("/edgesmith.v1.StudyService/RetryStudy", USERS, "try again what failed"),
    entry("/edgesmith.v1.StudyService/ExtendStudy", USERS, "extend studies"),
    entry("/edgesmith.v1.StudyService/RenameStudy", USERS, "rename studies"),
    entry("/edgesmith.v1.StudyService/CollectArtifacts", USERS, "remove unneeded files"),
    entry("/edgesmith.v1.TokenService/CreateToken", ADMINS, "make tokens"),
    entry("/edgesmith.v1.TokenService/ListTokens", ADMINS, "list tokens"),
    entry("/edgesmith.v1.TokenService/RevokeToken", ADMINS, "revoke tokens"),
];

const fn entry(path: &'static str, allowed: Allowed, what: &'static str) -> Entry {
    Entry { path, allowed, what }
}

/// The entry of `path`; `None` if there is no such call.
pub fn of(path: &str) -> Option<&'static Entry> {
    CALLS.iter().find(|entry| entry.path == path)
}

/// The paths of all calls in the table.
#[cfg(test)]
pub fn paths() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|entry| entry.path)
}

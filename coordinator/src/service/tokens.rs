//! The tokens that a coordinator accepts, and the service that makes, lists and revokes them.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use edgesmith_common::{AccessToken, TokenRole};
use edgesmith_proto::v1;
use edgesmith_proto::v1::token_service_server::TokenService;
use tonic::{Request, Response, Status};

use super::tls::{Authority, TlsError};
use crate::store::{AccessError, AccessFiles, Key, TokenRecord, random};

/// Most tokens of one coordinator.
const MOST_TOKENS: usize = 1000;
/// Longest name of a token, bytes.
const LONGEST_NAME: usize = 64;

/// The tokens of a coordinator; clones share them.
#[derive(Clone)]
pub struct Tokens(Arc<State>);

struct State {
    files: AccessFiles,
    /// Whether new tokens carry the fingerprint of the directory's authority.
    pinned: bool,
    /// Hash of a token that the coordinator was started with. It gives all rights.
    chosen: Option<blake3::Hash>,
    /// Hash of the token that the data directory's key gives.
    local: Option<blake3::Hash>,
    made: Mutex<Vec<TokenRecord>>,
    /// Held while the list is changed, which takes a write. Every call of every client looks at
    /// `made`, so that is held only while the new list takes the place of the old one.
    changing: Mutex<()>,
}

/// Why a token cannot be made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name has other characters than letters, digits, `-`, `_` and `.`, or is too long.
    #[error(
        "{0:?} is no name for a token; use 1 to {LONGEST_NAME} letters, digits, hyphens, \
         underscores and dots"
    )]
    Name(String),
    /// There is a token of that name.
    #[error("there is already a token named {0}; revoke it first or choose another name")]
    Taken(String),
    /// There is no token of that name.
    #[error("there is no token named {name}; {}", existing(.known))]
    Unknown {
        /// As asked for.
        name: String,
        /// The names of all tokens.
        known: Vec<String>,
    },
    /// There are too many.
    #[error("there are {MOST_TOKENS} tokens already; revoke some first")]
    TooMany,
    /// The list cannot be stored.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// There is no authority whose fingerprint the token could carry.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn existing(names: &[String]) -> String {
    if names.is_empty() {
        "there are no tokens".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}

/// The token that whoever can read a data directory's key has anyway: it gives all rights at the
/// coordinator of this directory. With `pinned`, it carries the fingerprint of the directory's own
/// authority, if there is one. `None` if the key cannot be read.
pub fn local_token(data_dir: &Path, pinned: bool) -> Option<AccessToken> {
    let files = AccessFiles::new(data_dir);
    let key = files.existing_key().ok()??;
    let fingerprint = Authority::existing_fingerprint(&files).ok()?.filter(|_| pinned);
    Some(AccessToken::made(fingerprint, local_secret(&key)))
}

fn local_secret(key: &Key) -> String {
    key.derive(b"local admin").to_hex().to_string()
}

impl Tokens {
    /// The tokens in `files`, and `chosen` with all rights unless it is one of them. New ones carry
    /// the fingerprint of the directory's own authority if `pinned`.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn open(
        files: AccessFiles,
        chosen: Option<&AccessToken>,
        pinned: bool,
    ) -> Result<Self, AccessError> {
        let made = files.tokens()?;
        let local = local_secret(&files.key()?);
        let chosen = chosen.map(|token| hash(token.secret()));
        // A token that was made for a role must not get all rights by chance.
        let chosen = chosen.filter(|chosen| made.iter().all(|known| known.hash != *chosen));
        Ok(Self(Arc::new(State {
            files,
            pinned,
            chosen,
            local: Some(hash(&local)),
            made: Mutex::new(made),
            changing: Mutex::default(),
        })))
    }

    /// Only `chosen`, and no files.
    pub fn in_memory(chosen: Option<&AccessToken>) -> Self {
        Self(Arc::new(State {
            files: AccessFiles::new(Path::new("absent")),
            pinned: false,
            chosen: chosen.map(|token| hash(token.secret())),
            local: None,
            made: Mutex::default(),
            changing: Mutex::default(),
        }))
    }

    /// Whether there is a token that somebody chose or made.
    pub fn exist(&self) -> bool {
        self.0.chosen.is_some() || !self.made().is_empty()
    }

    /// What the holder of `token` may do; `None` if it is not one of these. Hashes are compared in
    /// constant time, which reveals nothing about the tokens.
    pub fn role(&self, token: &AccessToken) -> Option<TokenRole> {
        let hash = hash(token.secret());
        if [self.0.chosen, self.0.local].contains(&Some(hash)) {
            return Some(TokenRole::Admin);
        }
        self.made().iter().find(|known| known.hash == hash).map(|known| known.role)
    }

    /// Makes a token and returns it with its name. With an empty `name`, it gets one from its role.
    ///
    /// # Errors
    /// If the name cannot be used, or the list cannot be stored.
    pub fn create(
        &self,
        role: TokenRole,
        name: &str,
        created_at_ms: u64,
    ) -> Result<(AccessToken, String), TokenError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.len() > LONGEST_NAME || !name.chars().all(plain) {
            return Err(TokenError::Name(name.to_owned()));
        }
        let _changing = self.changing();
        let made = self.list();
        if made.len() >= MOST_TOKENS {
            return Err(TokenError::TooMany);
        }
        let taken = |name: &str| made.iter().any(|known| known.name == name);
        if taken(name) {
            return Err(TokenError::Taken(name.to_owned()));
        }
        let name = match name {
            "" => (1..)
                .map(|number| format!("{role}-{number}"))
                .find(|name| !taken(name))
                .unwrap_or_default(),
            name => name.to_owned(),
        };
        let fingerprint = if self.0.pinned {
            Some(Authority::load_or_make(&self.0.files)?.fingerprint())
        } else {
            None
        };
        let secret: String = random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut all = made;
        let record = TokenRecord { name: name.clone(), role, created_at_ms, hash: hash(&secret) };
        all.push(record);
        self.0.files.store_tokens(&all)?;
        *self.made() = all;
        Ok((AccessToken::made(fingerprint, secret), name))
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// If there is no such token, or the list cannot be stored.
    pub fn revoke(&self, name: &str) -> Result<(), TokenError> {
        let _changing = self.changing();
        let made = self.list();
        let kept: Vec<_> = made.iter().filter(|known| known.name != name).cloned().collect();
        if kept.len() == made.len() {
            let known = made.iter().map(|known| known.name.clone()).collect();
            return Err(TokenError::Unknown { name: name.to_owned(), known });
        }
        self.0.files.store_tokens(&kept)?;
        *self.made() = kept;
        Ok(())
    }

    /// All tokens that were made and not revoked, oldest first.
    pub fn list(&self) -> Vec<TokenRecord> {
        self.made().clone()
    }

    fn made(&self) -> MutexGuard<'_, Vec<TokenRecord>> {
        // A poisoned one is safe to use: the list is replaced as a whole.
        self.0.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.0.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(secret: &str) -> blake3::Hash {
    blake3::hash(secret.as_bytes())
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.map_or(0, |since| since.as_millis() as u64)
}

/// Answers admins.
pub struct TokenAdmin {
    /// The tokens.
    pub tokens: Tokens,
    /// Whether other calls need a token.
    pub required: bool,
}

#[tonic::async_trait]
impl TokenService for TokenAdmin {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let request = request.into_inner();
        let role = match request.role() {
            v1::TokenRole::Unspecified => {
                return Err(Status::invalid_argument("field role of a message is missing"));
            }
            v1::TokenRole::Worker => TokenRole::Worker,
            v1::TokenRole::Viewer => TokenRole::Viewer,
            v1::TokenRole::User => TokenRole::User,
            v1::TokenRole::Admin => TokenRole::Admin,
        };
        let create = move |tokens: &Tokens| tokens.create(role, &request.name, now_ms());
        let (token, name) = self.change(create).await?;
        tracing::info!("made token {name} of role {role}");
        let (token, required) = (token.to_string(), self.required);
        Ok(Response::new(v1::CreateTokenResponse { token, name, required }))
    }

    async fn list_tokens(
        &self,
        _: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let status = |token: TokenRecord| v1::TokenStatus {
            name: token.name,
            role: match token.role {
                TokenRole::Worker => v1::TokenRole::Worker,
                TokenRole::Viewer => v1::TokenRole::Viewer,
                TokenRole::User => v1::TokenRole::User,
                TokenRole::Admin => v1::TokenRole::Admin,
            }
            .into(),
            created_at_ms: token.created_at_ms,
        };
        let tokens = self.tokens.list().into_iter().map(status).collect();
        Ok(Response::new(v1::ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let name = request.into_inner().name;
        let revoked = name.clone();
        self.change(move |tokens| tokens.revoke(&revoked)).await?;
        tracing::info!("revoked token {name}");
        Ok(Response::new(v1::RevokeTokenResponse {}))
    }
}

impl TokenAdmin {
    /// Changes the tokens on a thread that may block.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Tokens) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, Status> {
        let tokens = self.tokens.clone();
        let changed = tokio::task::spawn_blocking(move || change(&tokens)).await;
        let changed =
            changed.map_err(|e| Status::internal(format!("failed to change the tokens: {e}")))?;
        changed.map_err(|error| status_of(&error))
    }
}

fn status_of(error: &TokenError) -> Status {
    let text = error.to_string();
    super::limits::fitting(match error {
        TokenError::Name(_) => Status::invalid_argument(text),
        TokenError::Taken(_) => Status::already_exists(text),
        TokenError::Unknown { .. } => Status::not_found(text),
        TokenError::TooMany => Status::resource_exhausted(text),
        TokenError::Access(_) | TokenError::Tls(_) => Status::internal(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_a_restart_until_they_are_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Tokens::open(AccessFiles::new(dir.path()), None, true).unwrap();
        let tokens = open();
        assert!(!tokens.exist());
        let (worker, name) = tokens.create(TokenRole::Worker, "", 1).unwrap();
        assert_eq!(name, "worker-1");
        let (viewer, _) = tokens.create(TokenRole::Viewer, "screen", 2).unwrap();
        assert!(worker.fingerprint.is_some() && worker.fingerprint == viewer.fingerprint);
        assert!(matches!(tokens.create(TokenRole::Viewer, "screen", 3), Err(TokenError::Taken(_))));
        assert!(matches!(tokens.create(TokenRole::User, "a b", 3), Err(TokenError::Name(_))));

        // Starting a coordinator with the token of a worker does not make it an admin's.
        let files = AccessFiles::new(dir.path());
        let chosen = Tokens::open(files.clone(), Some(&worker), true).unwrap();
        assert_eq!(chosen.role(&worker), Some(TokenRole::Worker));
        let other = "another".parse().unwrap();
        let chosen = Tokens::open(files, Some(&other), true).unwrap();
        assert_eq!(chosen.role(&other), Some(TokenRole::Admin));

        let tokens = open();
        assert_eq!(tokens.role(&worker), Some(TokenRole::Worker));
        assert_eq!(tokens.role(&viewer), Some(TokenRole::Viewer));
        tokens.revoke("worker-1").unwrap();
        assert_eq!(tokens.role(&worker), None);
        let unknown = tokens.revoke("worker-1").unwrap_err().to_string();
        assert!(unknown.contains("screen"), "{unknown}");
        assert_eq!(open().role(&worker), None);
    }

    /// Every call asks for the role of its token, so a disk that is slow must not hold that up.
    #[test]
    fn a_token_that_is_being_stored_does_not_hold_up_calls() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(AccessFiles::new(dir.path()), None, true).unwrap();
        let (known, _) = tokens.create(TokenRole::Viewer, "", 1).unwrap();
        let path = dir.path().join("access/tokens");
        std::fs::remove_file(&path).unwrap();
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
        let creating = tokens.clone();
        let creating = std::thread::spawn(move || creating.create(TokenRole::User, "slow", 2));
        // Completes once the other thread reads the old list, which ends when this is dropped.
        let slow = std::fs::File::options().write(true).open(&path).unwrap();
        let (answer, answered) = std::sync::mpsc::channel();
        let asking = tokens.clone();
        std::thread::spawn(move || answer.send(asking.role(&known)));
        let role = answered.recv_timeout(std::time::Duration::from_secs(10));
        drop(slow);
        assert_eq!(role, Ok(Some(TokenRole::Viewer)));
        creating.join().unwrap().unwrap();
        assert_eq!(tokens.list().len(), 2);
    }

    #[test]
    fn whoever_reads_the_directory_has_all_rights_there() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(local_token(dir.path(), true), None);
        let tokens = Tokens::open(AccessFiles::new(dir.path()), None, true).unwrap();
        let local = local_token(dir.path(), true).unwrap();
        assert_eq!(tokens.role(&local), Some(TokenRole::Admin));
        let other = tempfile::tempdir().unwrap();
        let other = Tokens::open(AccessFiles::new(other.path()), None, true).unwrap();
        assert_eq!(other.role(&local), None);
    }
}

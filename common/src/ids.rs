//! Ids, one type each, so that one id cannot be passed in place of another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::one_line;

/// Most characters of an invalid name that its error quotes.
const MAX_QUOTED: usize = 100;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number_id!(
    /// Number of a trial within its study, from 0 in the order of proposal.
    TrialNumber,
    u32
);
number_id!(
    /// Id of a task; never used twice in a coordinator's store.
    TaskId,
    u64
);
number_id!(
    /// Id of one lease of one task; never used twice in a coordinator's store.
    AttemptId,
    u64
);
number_id!(
    /// Id of a worker's connection to one coordinator, from its join until it leaves or is lost;
    /// never used twice in a coordinator's store.
    WorkerId,
    u64
);

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                let first = s.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
                let rest =
                    s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
                if first && rest && s.len() <= 64 {
                    Ok(Self(s.to_owned()))
                } else {
                    Err(InvalidName { what: $what, given: one_line(s, MAX_QUOTED) })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(s: String) -> Result<Self, Self::Error> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_id!(
    /// A study's name, which is its id.
    StudyName,
    "study name"
);
name_id!(
    /// A kind of device, such as `rpi4`. Workers state theirs; objectives name those they need.
    DeviceClass,
    "device class"
);
name_id!(
    /// What runs a model on a device, such as `edge-runtime`.
    EngineName,
    "engine"
);

/// A name that file systems or command lines might not handle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not a valid {what}: use 1 to 64 letters, digits, '-', '_' or '.', \
     beginning with a letter or digit"
)]
pub struct InvalidName {
    what: &'static str,
    given: String,
}

impl DeviceClass {
    /// The class of the workers that `edgesmith search` starts in its own process.
    pub fn local() -> Self {
        Self("local".to_owned())
    }
}

impl EngineName {
    /// The engine that ships with edgesmith.
    pub fn edge_runtime() -> Self {
        Self("edge-runtime".to_owned())
    }
}

/// Identity of an artifact: the BLAKE3 hash of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactHash([u8; 32]);

impl ArtifactHash {
    /// Hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Hash of other hashes, in this order.
    pub fn of_parts(parts: &[ArtifactHash]) -> Self {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.0).collect();
        Self::of(&bytes)
    }

    /// The hash as 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A hash from 32 raw bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ArtifactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ArtifactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArtifactHash({self})")
    }
}

/// A text that is not an artifact hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an artifact hash: 64 hexadecimal digits are needed")]
pub struct InvalidHash {
    given: String,
}

impl FromStr for ArtifactHash {
    type Err = InvalidHash;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match blake3::Hash::from_hex(s) {
            Ok(hash) => Ok(Self(*hash.as_bytes())),
            Err(_) => Err(InvalidHash { given: one_line(s, MAX_QUOTED) }),
        }
    }
}

impl TryFrom<String> for ArtifactHash {
    type Error = InvalidHash;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<ArtifactHash> for String {
    fn from(hash: ArtifactHash) -> Self {
        hash.to_string()
    }
}

//! The format of records on disk.
//!
//! Each kind of record has a number and versions. A version is a frozen type: its fields, their
//! order and their encoding ([postcard]) never change. If a kind must hold more, it gets a new
//! version, and the older version gets an upcast to it. A record that is read is upcast version by
//! version and then converted to the core's [`Record`]. Domain types are not part of the format, so
//! they may change freely. The tests in [`golden`] hold the bytes of every version.
//!
//! Records that are appended together are encoded together, in one of two layouts:
//!
//! - layout 1, read only: a postcard list of the enum [`v1::Record`], whose variants are the kinds
//!   in the order of their numbers, each in its version 1;
//! - layout 2: a postcard list of frames, each with the kind's number, its version, and the
//!   payload's bytes;
//! - layout 3: a block ([`block`]), which is short and quick to read if the records are many.
//!
//! Genotypes are option indices. From version 2 on, a study's record names the choices and options
//! that its genotypes' indices refer to. They are translated by that list ([`Translation`]).

mod block;
mod choices;
mod freeze;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_records;
mod thaw;
mod v1;
mod v2;
mod v3;
mod v4;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::choices::RecordedChoices;
use self::freeze::freeze;
#[cfg(test)]
pub use self::golden::appends_of_layout_1;
use self::thaw::{thaw, thaw_v1};
use crate::core::Record;

/// The layout of what is appended.
pub const LAYOUT: u8 = 2;
/// The layout of many records that are written again.
pub const BLOCK: u8 = 3;

/// Why bytes cannot be read as records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes do not follow the layout.
    #[error("it is not a list of records: {0}")]
    List(postcard::Error),
    /// More bytes follow the last record.
    #[error("bytes follow the last record")]
    Trailing,
    /// The layout is newer than this program.
    #[error("it has layout {0}, but this program reads up to layout {BLOCK}")]
    Layout(u8),
    /// The bytes are not a block.
    #[error("it is not a block of records: {0}")]
    Block(&'static str),
    /// The kind of record is newer than this program.
    #[error("it holds a record of kind {kind} version {version}, which this program does not know")]
    Kind {
        /// The kind's number.
        kind: u32,
        /// The version.
        version: u32,
    },
    /// A record's payload does not follow its version.
    #[error("a record of kind {kind} version {version} is damaged: {problem}")]
    Payload {
        /// The kind's number.
        kind: u32,
        /// The version.
        version: u32,
        /// What is wrong with it.
        problem: String,
    },
    /// A record cannot be encoded.
    #[error("cannot encode a record: {0}")]
    Encode(postcard::Error),
}

/// A frozen version of a kind of record.
trait Frozen: Serialize + DeserializeOwned {
    /// The kind's number.
    const KIND: u32;
    /// The version, from 1.
    const VERSION: u32;
}

/// States the kind and the version of frozen types.
macro_rules! frozen {
    ($version:literal: $($kind:literal $name:ident),* $(,)?) => {
        $(impl crate::store::format::Frozen for $name {
            const KIND: u32 = $kind;
            const VERSION: u32 = $version;
        })*
    };
}
use frozen;

/// A record in layout 2.
#[derive(Debug, Serialize, Deserialize)]
struct Frame {
    kind: u32,
    version: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn of<T: Frozen>(frozen: &T) -> Result<Self, FormatError> {
        let payload = postcard::to_stdvec(frozen).map_err(FormatError::Encode)?;
        Ok(Self { kind: T::KIND, version: T::VERSION, payload })
    }

    fn read<T: Frozen>(&self) -> Result<T, FormatError> {
        let (read, rest) =
            postcard::take_from_bytes(&self.payload).map_err(|e| self.damaged(e.to_string()))?;
        if rest.is_empty() { Ok(read) } else { Err(self.damaged("it is too long".to_owned())) }
    }

    fn damaged(&self, problem: String) -> FormatError {
        FormatError::Payload { kind: self.kind, version: self.version, problem }
    }
}

/// Encodes records that are appended together, in the current layout.
///
/// # Errors
/// If a record cannot be encoded.
pub fn encode(records: &[Record]) -> Result<Vec<u8>, FormatError> {
    let frames = records.iter().map(freeze).collect::<Result<Vec<Frame>, _>>()?;
    postcard::to_stdvec(&frames).map_err(FormatError::Encode)
}

/// Encodes many records in the layout [`BLOCK`].
///
/// # Errors
/// If a record cannot be encoded.
pub fn encode_block(records: &[Record]) -> Result<Vec<u8>, FormatError> {
    block::encode(records)
}

/// Reads appends in order from the beginning. Remembers the studies read so far.
#[derive(Debug, Default)]
pub struct Decoder {
    choices: RecordedChoices,
    without_stages: bool,
}

impl Decoder {
    /// Leaves the stages of trials out, but not their keys.
    pub fn without_stages() -> Self {
        Self { without_stages: true, ..Self::default() }
    }

    /// Decodes the records of one append.
    ///
    /// # Errors
    /// If the bytes are not valid records.
    pub fn decode(&mut self, layout: u8, bytes: &[u8]) -> Result<Vec<Record>, FormatError> {
        let mut records = self.decode_whole(layout, bytes)?;
        if self.without_stages && layout != BLOCK {
            for record in &mut records {
                if let Record::TrialTrained { trained, .. } = record {
                    trained.stages = Vec::new();
                }
            }
        }
        Ok(records)
    }

    fn decode_whole(&mut self, layout: u8, bytes: &[u8]) -> Result<Vec<Record>, FormatError> {
        match layout {
            1 => {
                let thawed = |record: v1::Record| {
                    let (kind, version) = (record.kind(), 1);
                    thaw_v1(record, &mut self.choices).map_err(|problem| FormatError::Payload {
                        kind,
                        version,
                        problem,
                    })
                };
                list(bytes)?.into_iter().map(thawed).collect()
            }
            2 => {
                let frames: Vec<Frame> = list(bytes)?;
                frames.iter().map(|frame| thaw(frame, &mut self.choices)).collect()
            }
            BLOCK => block::decode(bytes, &mut self.choices, !self.without_stages),
            newer => Err(FormatError::Layout(newer)),
        }
    }
}

fn list<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, FormatError> {
    whole(bytes)
}

/// Reads a value that takes up all of the bytes.
fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    let (read, rest) = postcard::take_from_bytes(bytes).map_err(FormatError::List)?;
    if rest.is_empty() { Ok(read) } else { Err(FormatError::Trailing) }
}

//! Layout 3: many records in few bytes, which are read quickly. A journal that was written again
//! has them; appends of a running coordinator are in layout 2.
//!
//! A block is a list of items without a count: definitions and records. Each begins with its tag, a
//! byte ([`tag`]). Names of studies, passes, figures, targets and machines are defined once in a
//! block, before the first item that needs them; after that, items give their place among the
//! definitions of that kind, from 0. Trial numbers, ids of tasks and attempts, and running times
//! are differences from the last ones in the block, which begin at 0. [`packing`] describes
//! numbers. Definitions of figures, targets and machines are [postcard] of frozen types. A record
//! that is rare, or has a rare field, is a frame as in layout 2.
//!
//! The stages of a trial come last in its record, after their key and their size, so that a reader
//! that does not need them passes over them.
//!
//! [`packing`]: crate::packing

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use serde::{Deserialize, Serialize};

use self::reader::Reader;
use self::writer::Writer;
use super::choices::RecordedChoices;
use super::{FormatError, v1};
use crate::core::Record;

/// The tags of items.
mod tag {
    /// A frame of layout 2, with its size.
    pub const FRAME: u8 = 0;
    /// Defines the name of a study.
    pub const STUDY: u8 = 1;
    /// Defines the name of a pass.
    pub const PASS: u8 = 2;
    /// Defines which figures are known of a network.
    pub const NAMES: u8 = 3;
    /// Defines a target.
    pub const TARGET: u8 = 4;
    /// Defines a machine with what it measured with.
    pub const SETUP: u8 = 5;
    // Records.
    pub const PROPOSED: u8 = 16;
    pub const STARTED: u8 = 17;
    pub const SUCCEEDED: u8 = 18;
    pub const TRAINED: u8 = 19;
    pub const MEASURED: u8 = 20;
    pub const LOOKED_UP: u8 = 21;
    pub const COMPLETE: u8 = 22;
    pub const PRUNED: u8 = 23;
    pub const SCREENED_OUT: u8 = 24;
    pub const RUNG: u8 = 25;
    pub const PROMOTED: u8 = 26;
    pub const SCORED: u8 = 27;
    pub const INHERITS: u8 = 28;
}

/// What is the same in many measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Setup {
    device: v1::DeviceInfo,
    engine: String,
    engine_version: String,
    threads: u32,
    batch: u32,
    warmup_runs: u32,
}

/// What ids and times are differences from.
#[derive(Debug, Default)]
struct Last {
    number: u64,
    task: u64,
    attempt: u64,
    elapsed_ms: u64,
}

/// Encodes records as one block.
///
/// # Errors
/// If a record cannot be encoded.
pub fn encode(records: &[Record]) -> Result<Vec<u8>, FormatError> {
    let mut writer = Writer::default();
    records.iter().try_for_each(|record| writer.add(record))?;
    Ok(writer.finish())
}

/// Decodes a block. Without `stages`, the stages of trials are left out, but not their keys.
///
/// # Errors
/// If the bytes are no block.
pub fn decode(
    bytes: &[u8],
    choices: &mut RecordedChoices,
    stages: bool,
) -> Result<Vec<Record>, FormatError> {
    let mut reader = Reader::new(bytes, stages);
    let mut records = Vec::new();
    while !reader.is_at_end() {
        records.extend(reader.item(choices)?);
    }
    Ok(records)
}

//! The model file: a header, two sections and a checksum; docs/model-format.md describes the
//! layout. Equal models are written as equal bytes, and a file that can be read is equal, byte for
//! byte, to the file written from its model.

mod read;
mod write;

use crate::error::ModelError;
use crate::model::Model;

pub(crate) use read::Reader;
pub(crate) use write::Writer;

/// The format version that this engine writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"EDGESMTH";
/// Magic, version, length of the whole file.
const HEADER_BYTES: usize = 8 + 4 + 8;
const CHECKSUM_BYTES: usize = 4;
const INPUT_SECTION: [u8; 4] = *b"INPT";
const FP32_SECTION: [u8; 4] = *b"FP32";
const INT8_SECTION: [u8; 4] = *b"INT8";

impl Model {
    /// The model as a file. The model is not validated; the file of an invalid model cannot be
    /// read.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let length_at = bytes.len();
        bytes.extend_from_slice(&[0; 8]);
        write::sections(self, &mut bytes);
        let length = (bytes.len() + CHECKSUM_BYTES) as u64;
        bytes[length_at..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a file and validates the model in it.
    ///
    /// # Errors
    /// If the bytes are not a model file, are damaged, or hold an invalid model. Memory use is in
    /// proportion to the number of bytes, regardless of their content.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let truncated =
            |expected: u64| ModelError::Truncated { expected, found: bytes.len() as u64 };
        let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(if MAGIC.starts_with(bytes) {
                truncated(HEADER_BYTES as u64)
            } else {
                ModelError::WrongMagic
            });
        };
        if *magic != MAGIC {
            return Err(ModelError::WrongMagic);
        }
        let Some((version, rest)) = rest.split_first_chunk::<4>() else {
            return Err(truncated(HEADER_BYTES as u64));
        };
        let found = u32::from_le_bytes(*version);
        if found != FORMAT_VERSION {
            return Err(ModelError::UnsupportedVersion { found, supported: FORMAT_VERSION });
        }
        let Some((length, rest)) = rest.split_first_chunk::<8>() else {
            return Err(truncated(HEADER_BYTES as u64));
        };
        let (expected, found) = (u64::from_le_bytes(*length), bytes.len() as u64);
        if found < expected {
            return Err(truncated(expected));
        }
        if found > expected {
            return Err(ModelError::TrailingBytes { expected, found });
        }
        let Some((_, checksum)) = rest.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(truncated((HEADER_BYTES + CHECKSUM_BYTES) as u64));
        };
        let content = &bytes[..bytes.len() - CHECKSUM_BYTES];
        let (expected, found) = (u32::from_le_bytes(*checksum), crc32fast::hash(content));
        if expected != found {
            return Err(ModelError::WrongChecksum { expected, found });
        }
        let model = read::sections(content)?;
        model.validate()?;
        Ok(model)
    }
}

//! The model file: a header, sections and a checksum; docs/model-format.md describes the layout.
//! Equal models are written as equal bytes. A file of version 2 that this engine wrote is equal,
//! byte for byte, to the file written from its model; one of an older engine may be larger, because
//! it has weights one after the other that are packed now. Files of version 1 are read as well.

mod huffman;
mod packed;
mod read;
mod version1;
mod version2;
mod write;

use crate::error::ModelError;
use crate::model::{Model, Node};

pub use packed::Packing;
pub(crate) use read::Reader;
pub(crate) use version2::KNOWN_NOTES;
pub(crate) use write::Writer;

/// The format version that this engine writes. It reads this one and all before it.
pub const FORMAT_VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"EDGESMTH";
/// Magic, version, length of the whole file.
const HEADER_BYTES: usize = 8 + 4 + 8;
const CHECKSUM_BYTES: usize = 4;

/// A number of a tensor.
pub(crate) trait Number: Copy {
    /// Its code in the file.
    const CODE: u8;

    /// Bytes of one number.
    const BYTES: usize;

    /// From exactly [`BYTES`](Self::BYTES) bytes.
    fn read(bytes: &[u8]) -> Self;

    /// Appends its bytes.
    fn write(self, bytes: &mut Vec<u8>);

    /// Its bits, after zeros. Only the number 0 has none, and not the negative zero.
    fn pattern(self) -> u32;

    /// The number with these bits.
    fn of_pattern(pattern: u32) -> Self;
}

macro_rules! numbers {
    ($($number:ty: $code:literal,)+) => {
        $(impl Number for $number {
            const CODE: u8 = $code;
            const BYTES: usize = size_of::<$number>();

            fn read(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$number>()];
                array.copy_from_slice(bytes);
                Self::from_le_bytes(array)
            }

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn pattern(self) -> u32 {
                let mut word = [0; 4];
                word[..Self::BYTES].copy_from_slice(&self.to_le_bytes());
                u32::from_le_bytes(word)
            }

            fn of_pattern(pattern: u32) -> Self {
                <Self as Number>::read(&pattern.to_le_bytes()[..Self::BYTES])
            }
        })+
    };
}

numbers! {
    f32: 1,
    u8: 2,
    i8: 3,
    i32: 4,
    i16: 5,
}

/// Numbers with their sizes.
pub(crate) struct Tensor<T> {
    /// All sizes, outermost first.
    pub sizes: Vec<u32>,
    /// As many as the sizes say.
    pub values: Vec<T>,
    /// The real number of one step, for each place along the first axis; empty if the tensor is not
    /// quantized.
    pub scales: Vec<f32>,
}

/// How the weight of a layer is stored in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredTensor {
    /// All of them.
    pub numbers: u64,
    /// Those that are zero.
    pub zeros: u64,
    /// Bytes in the file, with sizes and scales.
    pub bytes: u64,
    /// `None` if the numbers stand one after the other.
    pub packing: Option<Packing>,
}

impl Model {
    /// How the weights of each node are stored in the file that [`Model::to_bytes`] writes. Nodes
    /// without weights have none. Biases do not count.
    #[must_use]
    pub fn stored_weights(&self) -> Vec<Vec<StoredTensor>> {
        let stored = |node: &Node| {
            let mut writer = Writer::new();
            node.layer.write(&mut writer);
            writer.into_weights()
        };
        self.nodes.iter().map(stored).collect()
    }

    /// The model as a file of the newest version. The model is not validated, and what an invalid
    /// model is written as means nothing.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let length_at = bytes.len();
        bytes.extend_from_slice(&[0; 8]);
        version2::write(self, &mut bytes);
        let length = (bytes.len() + CHECKSUM_BYTES) as u64;
        bytes[length_at..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Size of the model, bytes: what its file would have without notes, apart from the names of
    /// the classes. A study compares models by it, so what a file tells about its origin and its
    /// tests does not make it larger.
    #[must_use]
    pub fn counted_bytes(&self) -> u64 {
        let mut sections = Vec::new();
        version2::write_counted(self, &mut sections);
        (HEADER_BYTES + sections.len() + CHECKSUM_BYTES) as u64
    }

    /// Reads a file and validates the model in it.
    ///
    /// # Errors
    /// If the bytes are not a model file, are damaged, or hold an invalid model. Memory use is in
    /// proportion to the number of bytes, regardless of their content: a few hundred times as many
    /// at most.
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
        let version = u32::from_le_bytes(*version);
        if !(1..=FORMAT_VERSION).contains(&version) {
            let supported = FORMAT_VERSION;
            return Err(ModelError::UnsupportedVersion { found: version, supported });
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
        let file = Reader::new(content);
        let model = if version == 1 { version1::read(file)? } else { version2::read(file)? };
        model.validate()?;
        Ok(model)
    }
}

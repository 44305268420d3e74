//! Writes and reads weights as safetensors files: float32 arrays under the names that [`Weights`]
//! documents. Numpy, PyTorch and burn can read them, and users can supply their own teacher.
//! [`Weights::check`] checks whether weights fit a network.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::json;

use edgesmith_data::Normalization;
use edgesmith_graph::{Array, Graph, Weights};

/// Version of the names and meanings in the written files; stored in the metadata as
/// `edgesmith_format_version`.
pub const FORMAT_VERSION: u32 = 1;
const VERSION_KEY: &str = "edgesmith_format_version";
/// Metadata key of the names of the classes: a JSON list of strings in the order of the outputs.
pub const CLASSES_KEY: &str = "classes";
/// Metadata key of the structure of the network, as JSON.
const NETWORK_KEY: &str = "network";
/// Metadata keys of the normalisation of the images that the weights were trained on.
const MEAN_KEY: &str = "mean";
const STD_KEY: &str = "std";

/// Why weights cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are not a safetensors file, or are damaged.
    #[error("failed to read safetensors: {0}")]
    Format(#[from] SafeTensorError),
    /// The file was written by a later edgesmith, or its version is not a number.
    #[error(
        "failed to read safetensors: the file has format version {given:?}, this program reads up \
         to {FORMAT_VERSION}"
    )]
    Version {
        /// Version in the file.
        given: String,
    },
    /// An array has the wrong element type.
    #[error("failed to read safetensors: {name} has {given} values; convert them to F32")]
    ElementType {
        /// The array's name.
        name: String,
        /// Its element type.
        given: String,
    },
}

/// The file of `weights`. Equal arguments lead to equal bytes. `metadata` is stored in the header
/// next to the format version; if a key appears twice, the later value is kept.
pub fn to_bytes(weights: &Weights, metadata: &[(&str, String)]) -> Vec<u8> {
    // Not the crate's own writer: it keeps metadata in a hash map, whose order changes from run to
    // run.
    let mut notes: BTreeMap<&str, &str> = metadata.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let version = FORMAT_VERSION.to_string();
    notes.insert(VERSION_KEY, &version);
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!(notes));
    let mut offset = 0;
    for (name, array) in &weights.arrays {
        let end = offset + array.data.len() * size_of::<f32>();
        let entry = json!({"dtype": "F32", "shape": array.shape, "data_offsets": [offset, end]});
        header.insert(name.clone(), entry);
        offset = end;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    // Data begin at a multiple of eight bytes; the format pads the header with spaces.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(8 + header.len() + offset);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    let values = weights.arrays.values().flat_map(|array| &array.data);
    bytes.extend(values.flat_map(|value| value.to_le_bytes()));
    bytes
}

/// The metadata entry with the names of the classes; `None` if they have no names.
pub fn class_names_entry(names: &[String]) -> Option<(&'static str, String)> {
    (!names.is_empty()).then(|| (CLASSES_KEY, json!(names).to_string()))
}

/// The metadata entries with the normalisation of the images that a network reads, a number for
/// each channel.
pub fn normalization_entries(normalization: &Normalization) -> [(&'static str, String); 2] {
    let numbers =
        |values: &[f32]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let Normalization { mean, std } = normalization;
    [(MEAN_KEY, numbers(mean)), (STD_KEY, numbers(std))]
}

/// The normalisation of the images that a network of `channels` reads, in a file's metadata; `None`
/// if it has none.
///
/// # Errors
/// One sentence, if it is not a number for each channel, or a standard deviation is not above 0.
pub fn normalization(
    metadata: &BTreeMap<String, String>,
    channels: usize,
) -> Result<Option<Normalization>, String> {
    let read = |key: &str| {
        let Some(text) = metadata.get(key) else { return Ok(None) };
        let values: Result<Vec<f32>, _> = text.split(',').map(|v| v.trim().parse()).collect();
        let wanted = |values: &Vec<f32>| {
            let sound = |v: &f32| v.is_finite() && (key == MEAN_KEY || *v > 0.0);
            values.len() == channels && values.iter().all(sound)
        };
        values.ok().filter(wanted).map(Some).ok_or_else(|| {
            format!(
                "has {key} {text:?}; it must be {channels} numbers, one per channel, separated by \
                 commas"
            )
        })
    };
    Ok(read(MEAN_KEY)?.zip(read(STD_KEY)?).map(|(mean, std)| Normalization { mean, std }))
}

/// The metadata entry with the structure of the network that has the weights.
pub fn network_entry(graph: &Graph) -> (&'static str, String) {
    (NETWORK_KEY, json!(graph).to_string())
}

/// The structure in a file's metadata; `None` if it has none.
pub fn network(metadata: &BTreeMap<String, String>) -> Option<Result<Graph, serde_json::Error>> {
    metadata.get(NETWORK_KEY).map(|text| serde_json::from_str(text))
}

/// The names of the classes in a file's metadata; empty if it has none.
pub fn class_names(metadata: &BTreeMap<String, String>) -> Vec<String> {
    let text = metadata.get(CLASSES_KEY);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Reads the weights from a safetensors file, written here or by a user.
///
/// # Errors
/// If the bytes are not a valid safetensors file, have a later format version, or contain other
/// types than float32.
pub fn from_bytes(bytes: &[u8]) -> Result<Weights, ReadError> {
    read(bytes).map(|(weights, _)| weights)
}

/// Reads the weights and the metadata from a safetensors file.
///
/// # Errors
/// See [`from_bytes`].
pub fn read(bytes: &[u8]) -> Result<(Weights, BTreeMap<String, String>), ReadError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    if let Some(given) = header.metadata().as_ref().and_then(|notes| notes.get(VERSION_KEY))
        && !given.parse::<u32>().is_ok_and(|version| version <= FORMAT_VERSION)
    {
        return Err(ReadError::Version { given: given.clone() });
    }
    let mut weights = Weights::default();
    for (name, tensor) in SafeTensors::deserialize(bytes)?.tensors() {
        if tensor.dtype() != Dtype::F32 {
            return Err(ReadError::ElementType { name, given: format!("{:?}", tensor.dtype()) });
        }
        let (values, _) = tensor.data().as_chunks();
        let data = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        weights.arrays.insert(name, Array { shape: tensor.shape().to_vec(), data });
    }
    let notes = header.metadata().clone().unwrap_or_default();
    Ok((weights, notes.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use edgesmith_testing::{arbitrary_graph, random_weights};

    fn notes() -> Vec<(&'static str, String)> {
        vec![("study", "digits \"1\"".to_owned()), ("trial", "7".to_owned())]
    }

    fn tiny() -> Weights {
        let mut weights = Weights::default();
        weights.set("stem", "beta", vec![2], vec![0.5, -1.0]);
        weights.set("stem", "weight", vec![2, 1, 1, 1], vec![1.0, 2.0]);
        weights
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn weights_survive_a_round_trip(graph in arbitrary_graph(), seed: u64) {
            let weights = random_weights(&graph, seed);
            let bytes = to_bytes(&weights, &notes());
            prop_assert_eq!(from_bytes(&bytes).unwrap(), weights);
        }

        #[test]
        fn reading_a_damaged_file_never_panics(at in 0usize..400, byte: u8) {
            let mut bytes = to_bytes(&tiny(), &notes());
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = from_bytes(&bytes);
            prop_assert!(from_bytes(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn equal_arguments_lead_to_equal_bytes_with_the_metadata() {
        let bytes = to_bytes(&tiny(), &notes());
        assert_eq!(bytes, to_bytes(&tiny(), &notes()));
        let (header_len, header) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header_len % 8, 0);
        let kept = header.metadata().as_ref().unwrap();
        assert_eq!(kept["study"], "digits \"1\"");
        assert_eq!(kept["trial"], "7");
        assert_eq!(kept[VERSION_KEY], "1");
    }

    #[test]
    fn names_of_classes_survive_a_round_trip() {
        let names = ["bee", "a \"quoted\" ape, and more"].map(str::to_owned);
        let metadata: Vec<_> = class_names_entry(&names).into_iter().collect();
        let (_, read) = read(&to_bytes(&tiny(), &metadata)).unwrap();
        assert_eq!(class_names(&read), names);
        assert_eq!(class_names_entry(&[]), None);
        assert_eq!(class_names(&BTreeMap::new()), [""; 0]);
    }

    #[test]
    fn float32_files_of_other_programs_are_read() {
        let foreign = |dtype, bytes: &[u8]| {
            let view = safetensors::tensor::TensorView::new(dtype, vec![2], bytes).unwrap();
            safetensors::serialize([("stem.beta", view)], None).unwrap()
        };
        let floats: Vec<u8> = [0.5f32, -1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let weights = from_bytes(&foreign(Dtype::F32, &floats)).unwrap();
        assert_eq!(weights.get("stem", "beta").data, [0.5, -1.0]);
        let error = from_bytes(&foreign(Dtype::F16, &floats[..4])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read safetensors: stem.beta has F16 values; convert them to F32"
        );
    }

    #[test]
    fn later_versions_and_other_files_are_refused_in_one_sentence() {
        let bytes = to_bytes(&tiny(), &[]);
        let old = format!("{VERSION_KEY}\":\"1\"");
        let at = bytes.windows(old.len()).position(|w| w == old.as_bytes()).unwrap();
        let mut later = bytes.clone();
        later[at + old.len() - 2] = b'2';
        assert_eq!(
            from_bytes(&later).unwrap_err().to_string(),
            "failed to read safetensors: the file has format version \"2\", this program reads up \
             to 1"
        );
        let error = from_bytes(b"PK\x03\x04 this is a zip file").unwrap_err().to_string();
        assert!(error.starts_with("failed to read safetensors: "), "{error}");
        assert!(from_bytes(&[]).is_err());
    }
}

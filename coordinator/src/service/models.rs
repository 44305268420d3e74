//! Checks the networks that come with a study: their structure is in the request, and their numbers
//! are artifacts that were uploaded before.

use std::collections::BTreeMap;

use edgesmith_common::spec::{MAX_MODEL_BYTES, ModelFile, ModelFiles};
use edgesmith_common::{ArtifactHash, StudySpec};
use edgesmith_graph::Graph;
use serde::Deserialize;
use tonic::Status;

use super::status;
use crate::store::ArtifactStore;

/// Largest header of a file of weights, bytes.
const MAX_HEADER: u64 = 16 << 20;

/// The study of this file, with the networks of the space and of the teacher in `models`; empty
/// where none was sent.
///
/// # Errors
/// If the file has mistakes, the networks are not those that it names, or their weights were not
/// uploaded or are others.
pub fn study(
    text: &str,
    models: [&str; 2],
    artifacts: &ArtifactStore,
) -> Result<StudySpec, Status> {
    let invalid = |text: String| Status::invalid_argument(text);
    let bytes: usize = models.iter().map(|model| model.len()).sum();
    if bytes > MAX_MODEL_BYTES {
        return Err(invalid(format!(
            "the structures of the study's networks have {bytes} bytes; together at most \
             {MAX_MODEL_BYTES} are allowed"
        )));
    }
    let read = |model: &str| match model {
        "" => Ok(None),
        model => ModelFile::from_text(model).map(Some).map_err(invalid),
    };
    let (space, teacher) = (read(models[0])?, read(models[1])?);
    let files = ModelFiles { space: space.as_ref(), teacher: teacher.as_ref() };
    let spec = StudySpec::parse_with_models(text, files).map_err(|e| status::of_spec(&e))?;
    let named = spec.model().map(|model| &model.file);
    let teaching = spec.teacher_model().map(|model| &model.file);
    for (named, sent, what) in
        [(named, &space, "a network"), (teaching, &teacher, "a network that teaches")]
    {
        match (named, sent) {
            (Some(file), _) => weights(artifacts, file.weights, &file.network)?,
            (None, None) => {}
            (None, Some(_)) => {
                return Err(invalid(format!("{what} was sent, but the study names none")));
            }
        }
    }
    Ok(spec)
}

/// Checks that an artifact holds the weights of a network.
fn weights(artifacts: &ArtifactStore, hash: ArtifactHash, network: &Graph) -> Result<(), Status> {
    if !artifacts.claim(hash) {
        let text = format!("the network's weights {hash} were not uploaded; upload them first");
        return Err(Status::failed_precondition(text));
    }
    let unlike = |what: String| {
        let text = format!("the weights {hash} are not those of the network that was sent: {what}");
        Status::invalid_argument(text)
    };
    let header = header(artifacts, hash).map_err(unlike)?;
    let mut arrays: BTreeMap<&str, &Entry> =
        header.iter().map(|(name, entry)| (name.as_str(), entry)).collect();
    arrays.remove("__metadata__");
    for (_, parameter) in network.parameters() {
        let name = &*parameter.name;
        let entry = arrays.remove(name).ok_or_else(|| unlike(format!("they have no {name}")))?;
        if entry.dtype != "F32" || entry.shape != parameter.sizes() {
            let (dtype, is, needs) = (&entry.dtype, &entry.shape, parameter.sizes());
            return Err(unlike(format!(
                "{name} is {dtype} {is:?}, but the network has F32 {needs:?}"
            )));
        }
    }
    match arrays.keys().next() {
        Some(name) => Err(unlike(format!("the network has no {name}"))),
        None => Ok(()),
    }
}

/// An array of a safetensors file, or its metadata, which has neither.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    dtype: String,
    #[serde(default)]
    shape: Vec<usize>,
}

/// The header of a safetensors file: its length in eight bytes, then JSON.
fn header(
    artifacts: &ArtifactStore,
    hash: ArtifactHash,
) -> Result<BTreeMap<String, Entry>, String> {
    let mut reader = artifacts.reader(hash).map_err(|error| error.to_string())?;
    let mut read = |bytes: &mut [u8]| -> Result<(), String> {
        let mut filled = 0;
        while filled < bytes.len() {
            match reader.read_chunk(&mut bytes[filled..]).map_err(|error| error.to_string())? {
                0 => return Err("the file ends early".to_owned()),
                more => filled += more,
            }
        }
        Ok(())
    };
    let mut length = [0; 8];
    read(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(format!(
            "it is not a safetensors file, or its header is above {MAX_HEADER} bytes"
        ));
    }
    let mut text = vec![0; length as usize];
    read(&mut text)?;
    serde_json::from_slice(&text).map_err(|error| format!("it is not a safetensors file: {error}"))
}

#[cfg(test)]
mod tests {
    use edgesmith_common::spec::PortName;
    use edgesmith_graph::{Conv, GlobalAveragePool, GraphBuilder, Place, Role, Shape};

    use super::*;

    const STUDY: &str = "study.name = \"s\"\nbudget.trials = 1\ndata.source = \"digits\"\n\
                         objectives = [{ metric = \"validation_accuracy\" }]\n\
                         space = { kind = \"model\", model = \"net.onnx\", pixels = \"unit\" }\n";

    fn network() -> Graph {
        let mut builder = GraphBuilder::new();
        let image = builder.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
        let weight = builder.parameter("w", &[10, 1, 3, 3], Role::Weight).unwrap();
        let conv = Conv::dense(3, 1);
        let conv = builder.node("conv", conv, &[image], &[weight], Place::default()).unwrap();
        let pool = builder.node("pool", GlobalAveragePool, &[conv], &[], Place::default());
        builder.finish(&[pool.unwrap()]).unwrap()
    }

    /// A file with one array of zeros.
    fn file(name: &str, shape: &[usize]) -> Vec<u8> {
        let bytes = 4 * shape.iter().product::<usize>();
        let header = serde_json::json!({
            "__metadata__": { "format": "pt" },
            name: { "dtype": "F32", "shape": shape, "data_offsets": [0, bytes] },
        });
        let header = header.to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes());
        file.resize(file.len() + bytes, 0);
        file
    }

    fn sent(weights: ArtifactHash) -> String {
        let port = |name: &str| PortName { name: name.to_owned(), axes: vec![None] };
        let model = ModelFile {
            network: network(),
            weights,
            file: ArtifactHash::of(b"onnx"),
            inputs: vec![port("x")],
            outputs: vec![port("y")],
            classes: vec![],
            input_scale: 1.0,
        };
        model.to_text()
    }

    #[test]
    fn a_network_is_taken_with_its_weights_and_refused_without() {
        let directory = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(directory.path()).unwrap();
        let good = store.put(&file("w", &[10, 1, 3, 3])).unwrap();
        let spec = study(STUDY, [&sent(good), ""], &store).unwrap();
        assert_eq!(spec.training().unwrap().model.as_ref().unwrap().file.weights, good);
        assert_eq!(StudySpec::from_resolved(&spec.to_resolved()).unwrap(), spec);

        let refused = |text: &str, model: &str| study(text, [model, ""], &store).unwrap_err();
        let said = |error: Status| error.message().to_owned();
        let absent = refused(STUDY, &sent(ArtifactHash::of(b"x")));
        assert_eq!(absent.code(), tonic::Code::FailedPrecondition);
        assert!(said(absent).contains("were not uploaded"));
        for (bytes, text) in [
            (file("v", &[10, 1, 3, 3]), "they have no w"),
            (file("w", &[10, 1, 1, 1]), "w is F32 [10, 1, 1, 1], but the network has"),
            (b"short".to_vec(), "the file ends early"),
            (vec![255; 100], "not a safetensors file"),
        ] {
            let hash = store.put(&bytes).unwrap();
            let error = said(refused(STUDY, &sent(hash)));
            assert!(error.contains(text), "{error}");
        }
        let without = said(refused(STUDY, ""));
        assert!(without.contains("space.model") && without.contains("was not sent"), "{without}");
        let staged = STUDY.replace(
            "kind = \"model\", model = \"net.onnx\", pixels = \"unit\"",
            "resolution = 8, stem_width = 8, stages = [{ width = 8 }]",
        );
        assert!(said(refused(&staged, &sent(good))).contains("the study names none"));
        assert!(said(refused(STUDY, "{}")).contains("not the structure of a network"));
    }

    #[test]
    fn a_network_that_teaches_is_taken_with_its_weights_and_refused_without() {
        let directory = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(directory.path()).unwrap();
        let good = store.put(&file("w", &[10, 1, 3, 3])).unwrap();
        let staged = STUDY.replace(
            "kind = \"model\", model = \"net.onnx\", pixels = \"unit\"",
            "resolution = 8, stem_width = 8, stages = [{ width = 8 }]",
        );
        let taught = format!("{staged}teacher = {{ model = \"big.onnx\", pixels = \"raw\" }}\n");
        let taught = taught.replace("space = ", "recipe.alpha = 0.5\nspace = ");
        let spec = study(&taught, ["", &sent(good)], &store).unwrap();
        assert_eq!(spec.teacher_model().unwrap().file.weights, good);
        let refused = |text: &str, models: [&str; 2]| {
            study(text, models, &store).unwrap_err().message().to_owned()
        };
        let absent = sent(ArtifactHash::of(b"x"));
        for (text, models, said) in [
            (&taught, ["", &absent], "were not uploaded"),
            (&taught, ["", ""], "teacher.model: the network was not sent"),
            (&staged, ["", &sent(good)], "a network that teaches was sent, but the study names"),
        ] {
            let error = refused(text, models);
            assert!(error.contains(said), "{error}");
        }
        let long = " ".repeat(MAX_MODEL_BYTES);
        assert!(refused(&taught, [&sent(good), &long]).contains("together at most"));
    }
}

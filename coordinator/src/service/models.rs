//! Checks the networks that come with a study: their structure is in the request, and their numbers
//! are artifacts that were uploaded before.

use std::collections::BTreeMap;

use edgesmith_common::spec::{MAX_MODEL_BYTES, ModelFile, ModelFiles, OtherFile, OtherSource};
use edgesmith_common::{ArtifactHash, StudySpec};
use edgesmith_graph::Graph;
use edgesmith_proto::{optional_hash, v1};
use serde::Deserialize;
use tonic::Status;

use super::status;
use crate::store::ArtifactStore;

/// Largest header of a file of weights, bytes.
const MAX_HEADER: u64 = 16 << 20;

/// The structures of networks that were sent with a study; empty where none was.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent<'a> {
    /// Of the space.
    pub space: &'a str,
    /// Of the teacher.
    pub teacher: &'a str,
    /// Of each teacher beside the first, or its logits.
    pub others: &'a [v1::OtherTeacherFile],
}

/// The study of this file, with what was sent for it.
///
/// # Errors
/// If the file has mistakes, the networks are not those that it names, or their weights or logits
/// were not uploaded or are others.
pub fn study(text: &str, sent: Sent<'_>, artifacts: &ArtifactStore) -> Result<StudySpec, Status> {
    let invalid = |text: String| Status::invalid_argument(text);
    let others = sent.others.iter().map(|other| &*other.model);
    let bytes: usize = [sent.space, sent.teacher].into_iter().chain(others).map(str::len).sum();
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
    let (space, teacher) = (read(sent.space)?, read(sent.teacher)?);
    let other = |v1::OtherTeacherFile { model, logits }: &v1::OtherTeacherFile| {
        let logits = optional_hash(logits, "other_teachers.logits");
        let logits = logits.map_err(|error| status::of_convert(&error))?;
        let network = read(model)?.map(|file| OtherFile::Network(Box::new(file)));
        Ok(network.or(logits.map(OtherFile::Logits)))
    };
    let others = sent.others.iter().map(other).collect::<Result<Vec<_>, Status>>()?;
    let (space_file, teacher_file) = (space.as_ref(), teacher.as_ref());
    let files = ModelFiles { space: space_file, teacher: teacher_file, others: &others };
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
    // Of several files of logits without a network, the mean was uploaded.
    let averaged = spec.training().map_or(0, |work| work.logits_beside.len());
    for (place, sent) in others.iter().enumerate().skip(averaged) {
        match (spec.other_teachers().get(place).map(|other| &other.source), sent) {
            (Some(OtherSource::Network { model, .. }), _) => {
                weights(artifacts, model.file.weights, &model.file.network)?;
            }
            (Some(OtherSource::Logits(given)), _) => {
                if !artifacts.claim(given.file) {
                    let (hash, path) = (given.file, &given.path);
                    return Err(Status::failed_precondition(format!(
                        "the logits {hash} of {path} were not uploaded; upload them first"
                    )));
                }
            }
            (Some(OtherSource::Train { .. }) | None, None) => {}
            (Some(OtherSource::Train { .. }) | None, Some(_)) => {
                return Err(invalid(format!(
                    "a file was sent for teacher.others[{place}], but the study names none"
                )));
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
        let spec = study(STUDY, Sent { space: &sent(good), ..Sent::default() }, &store).unwrap();
        assert_eq!(spec.training().unwrap().model.as_ref().unwrap().file.weights, good);
        assert_eq!(StudySpec::from_resolved(&spec.to_resolved()).unwrap(), spec);

        let refused = |text: &str, model: &str| {
            study(text, Sent { space: model, ..Sent::default() }, &store).unwrap_err()
        };
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
        let spec =
            study(&taught, Sent { teacher: &sent(good), ..Sent::default() }, &store).unwrap();
        assert_eq!(spec.teacher_model().unwrap().file.weights, good);
        let refused = |text: &str, [space, teacher]: [&str; 2]| {
            let sent = Sent { space, teacher, others: &[] };
            study(text, sent, &store).unwrap_err().message().to_owned()
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

    #[test]
    fn files_of_other_teachers_are_taken_with_their_artifacts_and_refused_without() {
        let directory = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(directory.path()).unwrap();
        let good = store.put(&file("w", &[10, 1, 3, 3])).unwrap();
        let logits = store.put(b"logits").unwrap();
        let taught = STUDY.replace(
            "space = ",
            "recipe.alpha = 0.5\n[teacher]\nepochs = 3\n\
             others = [{ model = \"b.onnx\", pixels = \"raw\" }, { epochs = 2 }, \
             { logits = \"l.npy\" }]\n[space]\n",
        );
        let taught = taught.replace(
            "{ kind = \"model\", model = \"net.onnx\", pixels = \"unit\" }",
            "kind = \"model\"\nmodel = \"net.onnx\"\npixels = \"unit\"",
        );
        let network = |hash| v1::OtherTeacherFile { model: sent(hash), logits: Vec::new() };
        let given = |hash: ArtifactHash| v1::OtherTeacherFile {
            model: String::new(),
            logits: hash.as_bytes().to_vec(),
        };
        let none = v1::OtherTeacherFile::default;
        let own = sent(good);
        let submit = |others: &[v1::OtherTeacherFile]| {
            study(&taught, Sent { space: &own, teacher: "", others }, &store)
        };
        let spec = submit(&[network(good), none(), given(logits)]).unwrap();
        let others = &spec.training().unwrap().teacher.as_ref().unwrap().others;
        let OtherSource::Network { model, .. } = &others[0].source else { panic!("{others:?}") };
        assert_eq!(model.file.weights, good);
        let OtherSource::Logits(read) = &others[2].source else { panic!("{others:?}") };
        assert_eq!(read.file, logits);
        // Of files of logits alone only the mean is uploaded, as that of the teacher.
        let together = STUDY.replace(
            "space = ",
            "recipe.alpha = 0.5\nteacher = { logits = \"a.npy\", \
             others = [{ logits = \"b.npy\" }] }\nspace = ",
        );
        let absent = ArtifactHash::of(b"x");
        let together = |others: &[v1::OtherTeacherFile]| {
            study(&together, Sent { space: &own, teacher: "", others }, &store)
        };
        let spec = together(&[given(absent)]).unwrap();
        assert_eq!(spec.training().unwrap().logits_beside[0].given.file, absent);
        let error = together(&[given(absent), given(absent)]).unwrap_err();
        assert!(error.message().contains("teacher.others[1], but"), "{}", error.message());
        for (others, said) in [
            (vec![network(absent), none(), given(logits)], "were not uploaded"),
            (vec![network(good), none(), given(absent)], "of l.npy were not uploaded"),
            (vec![network(good), none()], "others[2].logits: the file was not sent"),
            (vec![none(), none(), given(logits)], "others[0].model: the network was not sent"),
            (
                vec![network(good), given(logits), given(logits)],
                "a file was sent for teacher.others[1], but the study names none",
            ),
            (
                vec![network(good), none(), given(logits), network(good)],
                "a file was sent for teacher.others[3], but the study names none",
            ),
        ] {
            let error = submit(&others).unwrap_err();
            assert!(error.message().contains(said), "{}", error.message());
        }
    }
}

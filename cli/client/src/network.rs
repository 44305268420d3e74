//! Reads the network of a study on a network of one's own: its structure, which travels with the
//! study, and its weights, which are uploaded.

use std::path::{Component, Path};

use anyhow::Context as _;
use edgesmith_common::ArtifactHash;
use edgesmith_common::spec::{ModelFile, PortName};
use edgesmith_console::invalid;
use edgesmith_data::files;
use edgesmith_graph::{Graph, Weights};
use edgesmith_onnx::read::{Port, PortAxis, ReadError};
use edgesmith_onnx::{Imported, ReadOptions};
use edgesmith_train::safetensors;

/// Largest file of a network, bytes.
const MAX_NETWORK: u64 = 2 << 30;

/// A network that is sent with a study.
pub struct Network {
    /// What travels with the study.
    pub file: ModelFile,
    /// Its weights: a safetensors file.
    pub weights: Vec<u8>,
}

/// What a file says.
struct Read {
    graph: Graph,
    weights: Weights,
    inputs: Vec<PortName>,
    outputs: Vec<PortName>,
    classes: Vec<String>,
}

impl Network {
    /// Reads a file: ONNX, whose tensors may be in files beside it, or the weights of a trial of a
    /// study on a user's network, which hold the structure too.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let failed = |e: String| invalid(format!("failed to read the network: {e}"));
        let bytes = files::read(path, MAX_NETWORK).map_err(|e| failed(e.to_string()))?;
        let shown = path.display();
        let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
        let read = if is_weights { of_weights(&bytes) } else { of_onnx(&bytes, path) };
        let mut read = read.map_err(|error| failed(format!("{shown}: {error:#}")))?;
        // Losses take the numbers before a softmax, and it changes no answer.
        let logits = read.graph.without_final_softmax();
        if let Some(graph) = logits.map_err(|error| failed(format!("{shown}: {error}")))? {
            read.graph = graph;
        }
        read.weights.check(&read.graph).map_err(|error| failed(format!("{shown}: {error}")))?;
        let weights = safetensors::to_bytes(&read.weights, &[]);
        let Read { graph, inputs, outputs, classes, .. } = read;
        let file = ModelFile {
            network: graph,
            weights: ArtifactHash::of(&weights),
            file: ArtifactHash::of(&bytes),
            inputs,
            outputs,
            classes,
        };
        Ok(Self { file, weights })
    }
}

/// Reads an ONNX file, and the files beside it that hold its tensors.
fn of_onnx(bytes: &[u8], path: &Path) -> anyhow::Result<Read> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let external = |name: &str| {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(format!("{name:?} is not in the network's folder; put it there"));
        }
        files::read(&folder.join(name), MAX_NETWORK).map_err(|error| error.to_string())
    };
    let options = ReadOptions { external: Some(&external), ..ReadOptions::default() };
    let read = edgesmith_onnx::read(bytes, &options).map_err(|errors| {
        // Commands take sizes on the command line. A study has no place for them.
        for problem in &errors.problems {
            if let ReadError::FreeSizes { input, sizes, .. } = problem {
                return anyhow::anyhow!(
                    "its input {input:?} has free sizes ({sizes}); export it with fixed ones"
                );
            }
        }
        errors.into()
    });
    let Imported { graph, weights, inputs, outputs, about, .. } = read?;
    let port = |port: Port| PortName {
        axes: port
            .axes
            .iter()
            .map(|axis| match axis {
                PortAxis::Of(axis) => Some(*axis),
                PortAxis::Batch(_) | PortAxis::One => None,
            })
            .collect(),
        name: port.name,
    };
    let metadata = about.metadata.into_iter().collect();
    Ok(Read {
        inputs: inputs.into_iter().map(port).collect(),
        outputs: outputs.into_iter().map(port).collect(),
        classes: safetensors::class_names(&metadata),
        graph,
        weights,
    })
}

/// Reads a file of weights whose metadata has the structure.
fn of_weights(bytes: &[u8]) -> anyhow::Result<Read> {
    let (weights, metadata) = safetensors::read(bytes)?;
    let graph = safetensors::network(&metadata);
    let graph = graph.context(
        "its metadata has no network; use the weights of a trial of a study on a network of one's \
         own, or an ONNX file",
    )??;
    let port = |id: edgesmith_graph::ValueId| PortName {
        name: graph.value(id).name.to_string(),
        axes: std::iter::once(None)
            .chain((0..=graph.shape(id).space().len() as u32).map(Some))
            .collect(),
    };
    let inputs = graph.inputs().map(port).collect();
    let outputs = graph.outputs().iter().copied().map(port).collect();
    let classes = safetensors::class_names(&metadata);
    Ok(Read { inputs, outputs, classes, weights, graph })
}

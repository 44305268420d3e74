//! Reads the network of a study on a network of one's own: its structure, which travels with the
//! study, and its weights, which are uploaded.

use std::path::Path;

use anyhow::Context as _;
use edgesmith_common::ArtifactHash;
use edgesmith_common::spec::{ModelFile, PortName};
use edgesmith_console::invalid;
use edgesmith_data::files;
use edgesmith_graph::{Graph, Weights};
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
    /// Reads a file: the weights of a trial of a study on a user's network, which hold the structure
    /// too.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let failed = |e: String| invalid(format!("failed to read the network: {e}"));
        let bytes = files::read(path, MAX_NETWORK).map_err(|e| failed(e.to_string()))?;
        let shown = path.display();
        let read = of_weights(&bytes).map_err(|error| failed(format!("{shown}: {error:#}")))?;
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

/// Reads a file of weights whose metadata has the structure.
fn of_weights(bytes: &[u8]) -> anyhow::Result<Read> {
    let (weights, metadata) = safetensors::read(bytes)?;
    let graph = safetensors::network(&metadata);
    let graph = graph.context(
        "its metadata has no network; use the weights of a trial of a study \
                               on a network of one's own, or an ONNX file",
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

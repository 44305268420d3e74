//! Reads the networks that a study names, its own one and its teacher: their structure, which
//! travels with the study, and their weights, which are uploaded.

use std::path::{Component, Path};

use anyhow::Context as _;
use edgesmith_common::ArtifactHash;
use edgesmith_common::spec::{ImageSize, ModelFile, NamedModel, PortName};
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
    /// Reads a file that a study in `folder` names: ONNX, whose tensors may be in files beside it,
    /// or the weights of a trial of a study on a user's network, which hold the structure too. A
    /// network that reads images of any size gets those of the study. `table` is the table of the
    /// study file that names it.
    pub fn read(named: &NamedModel, folder: &Path, table: &str) -> anyhow::Result<Self> {
        let path = &folder.join(&named.path);
        let failed = |e: String| invalid(format!("failed to read the network: {e}"));
        let bytes = files::read(path, MAX_NETWORK).map_err(|e| failed(e.to_string()))?;
        let shown = path.display();
        let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
        let read =
            if is_weights { of_weights(&bytes) } else { of_onnx(&bytes, path, named.image, table) };
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
fn of_onnx(bytes: &[u8], path: &Path, image: ImageSize, table: &str) -> anyhow::Result<Read> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let external = |name: &str| {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(format!("{name:?} is not in the network's folder; put it there"));
        }
        files::read(&folder.join(name), MAX_NETWORK).map_err(|error| error.to_string())
    };
    let mut options = ReadOptions { external: Some(&external), ..ReadOptions::default() };
    let mut read = edgesmith_onnx::read(bytes, &options);
    if let Err(errors) = &read
        && let [ReadError::FreeSizes { input, sizes, known, .. }] = &errors.problems[..]
    {
        let shape = of_images(known.as_deref(), image).with_context(|| {
            let wanted = match image.side {
                Some(side) => format!("they do not fit images of {side}x{side}"),
                None => format!(
                    "the study does not say how large images are; write resolution in [{table}]"
                ),
            };
            format!("its input {input:?} has free sizes ({sizes}), and {wanted}")
        })?;
        options.input_shapes.insert(input.clone(), shape);
        read = edgesmith_onnx::read(bytes, &options);
    }
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

/// The shape of an input of square images with one example, if the sizes that the file fixes,
/// `known`, allow it. The channels are where the file fixes them, or else first. A side that it
/// fixes counts more than that of the study's images, which are resized to it.
fn of_images(known: Option<&[Option<u32>]>, image: ImageSize) -> Option<Vec<u32>> {
    let &[_, second, third, fourth] = known? else { return None };
    let fits = |fixed: Option<u32>, size: u32| fixed.is_none_or(|fixed| fixed == size);
    let mut squares = [(second, [third, fourth], true), (fourth, [second, third], false)];
    squares.sort_by_key(|(channels, ..)| channels.is_none());
    squares.into_iter().find_map(|(channels, sides, first)| {
        let side = sides[0].or(sides[1]).or(image.side)?;
        let channels = match (channels, image.channels) {
            (Some(fixed), Some(has)) if fixed != has => return None,
            (fixed, has) => fixed.or(has)?,
        };
        let shape = if first { [1, channels, side, side] } else { [1, side, side, channels] };
        sides.iter().all(|fixed| fits(*fixed, side)).then(|| shape.to_vec())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_sizes_are_those_of_the_studys_images() {
        let image = ImageSize { channels: Some(3), side: Some(32) };
        let shape = |known: &[u32]| {
            let known: Vec<Option<u32>> =
                known.iter().map(|size| (*size > 0).then_some(*size)).collect();
            of_images(Some(&known), image)
        };
        assert_eq!(shape(&[0, 3, 0, 0]), Some(vec![1, 3, 32, 32]));
        assert_eq!(shape(&[0, 0, 0, 3]), Some(vec![1, 32, 32, 3]));
        assert_eq!(shape(&[0, 0, 0, 0]), Some(vec![1, 3, 32, 32]));
        assert_eq!(shape(&[8, 3, 48, 0]), Some(vec![1, 3, 48, 48]));
        // Not square, of other channels, and no images.
        for none in [&[1, 3, 0, 0][..2], &[1, 1, 0, 0], &[0, 3, 0, 0, 0]] {
            assert_eq!(shape(none), None, "{none:?}");
        }
        let unknown = ImageSize { side: None, ..image };
        assert_eq!(of_images(Some(&[None, Some(3), None, None]), unknown), None);
        assert_eq!(of_images(None, image), None);
    }
}

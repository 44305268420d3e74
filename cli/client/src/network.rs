//! Reads the networks that a study names, its own one and its teacher: their structure, which
//! travels with the study, and their weights, which are uploaded.

use std::path::{Component, Path};

use anyhow::Context as _;
use edgesmith_common::ArtifactHash;
use edgesmith_common::spec::{ImageSize, ModelFile, NamedModel, Pixels, PortName};
use edgesmith_console::invalid;
use edgesmith_data::{Normalization, files};
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
    weights: Weights,
    /// What the weights read for a pixel, if the file says so.
    pixels: Option<Normalization>,
}

/// What a file says.
struct Read {
    graph: Graph,
    weights: Weights,
    inputs: Vec<PortName>,
    outputs: Vec<PortName>,
    classes: Vec<String>,
    pixels: Option<Normalization>,
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
        let Read { graph, weights, inputs, outputs, classes, pixels } = read;
        let file = ModelFile {
            network: graph,
            weights: ArtifactHash::of(&safetensors::to_bytes(&weights, &[])),
            file: ArtifactHash::of(&bytes),
            inputs,
            outputs,
            classes,
            input_scale: 1.0,
        };
        Ok(Self { file, weights, pixels })
    }

    /// Its weights: a safetensors file.
    pub fn weights(&self) -> Vec<u8> {
        safetensors::to_bytes(&self.weights, &[])
    }

    /// Lets the weights read numbers near 1 for pixels that the network reads as the study's
    /// `table` says. The network computes the same. Without it, weights that multiply bytes are so
    /// small that the first steps of an optimizer such as Adam, which are equally large for all
    /// weights, would destroy them.
    ///
    /// # Errors
    /// If the file says that its weights read other numbers.
    pub fn scale_inputs(&mut self, pixels: &Pixels, table: &str) -> anyhow::Result<()> {
        let now = match &self.pixels {
            Some(expected) => scale_between(pixels, expected).ok_or_else(|| {
                let Normalization { mean, std } = expected;
                invalid(format!(
                    "failed to use the network: its weights read (byte / 255 - mean) / std with \
                     other numbers than the study says; write mean = {mean:?} and std = {std:?} in \
                     [{table}], without pixels"
                ))
            })?,
            None => 1.0,
        };
        self.file.input_scale = now;
        let Some(parameters) = self.file.network.input_weights() else { return Ok(()) };
        let scale = pixels.magnitude() as f32;
        for parameter in parameters {
            self.weights.scale(&self.file.network, parameter, scale / now);
        }
        self.file.input_scale = scale;
        self.file.weights = ArtifactHash::of(&self.weights());
        Ok(())
    }
}

/// By which power of two the numbers of `pixels` are divided to be those of `expected`; `None` if
/// they differ in something else. Stored numbers have the digits of fp32.
fn scale_between(pixels: &Pixels, expected: &Normalization) -> Option<f32> {
    let Normalization { mean, std } = expected;
    let (first, to) = (std.first()?, pixels.std.first()?);
    let scale = (f64::from(*first) / to).log2().round().exp2();
    let is_near = |a: f64, b: f32| (a - f64::from(b)).abs() <= 1e-5 * a.abs().max(1e-3);
    let same = pixels.mean.iter().zip(mean).all(|(a, b)| is_near(*a, *b))
        && pixels.std.iter().zip(std).all(|(a, b)| is_near(a * scale, *b));
    same.then_some(scale as f32)
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
        pixels: None,
    })
}

/// The shape of an input of square images with one example, if the sizes that the file fixes,
/// `known`, allow it. The channels are where the file fixes as many as the images have, or any, or
/// else first. A side that it fixes counts more than that of the study's images, which are resized
/// to it.
fn of_images(known: Option<&[Option<u32>]>, image: ImageSize) -> Option<Vec<u32>> {
    let &[_, second, third, fourth] = known? else { return None };
    let fits = |fixed: Option<u32>, size: u32| fixed.is_none_or(|fixed| fixed == size);
    let (first, last) = ((second, [third, fourth]), (fourth, [second, third]));
    // How well the channels fit there.
    let place = |(channels, _): (Option<u32>, _)| match channels {
        fixed if fixed == image.channels => 2,
        Some(_) => 1,
        None => 0,
    };
    let is_first = place(first) >= place(last);
    let (channels, sides) = if is_first { first } else { last };
    let side = sides[0].or(sides[1]).or(image.side)?;
    let channels = channels.or(image.channels)?;
    let shape = if is_first { [1, channels, side, side] } else { [1, side, side, channels] };
    sides.iter().all(|fixed| fits(*fixed, side)).then(|| shape.to_vec())
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
    let channels = graph.inputs().next().map_or(0, |input| graph.shape(input).channels() as usize);
    let pixels = safetensors::normalization(&metadata, channels)
        .map_err(|error| anyhow::anyhow!("its metadata {error}"))?;
    Ok(Read { inputs, outputs, classes, pixels, weights, graph })
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{Array, Conv, GraphBuilder, Place, Role, Shape};

    use super::*;

    /// The weights of a convolution that reads images of one channel, with their structure.
    fn file(metadata: Vec<(&'static str, String)>) -> (tempfile::TempDir, std::path::PathBuf) {
        let mut builder = GraphBuilder::new();
        let image = builder.input("image", Shape::new(1, &[2, 2]).unwrap()).unwrap();
        let weight = builder.parameter("w", &[1, 1, 1, 1], Role::Weight).unwrap();
        let bias = builder.parameter("b", &[1], Role::Bias).unwrap();
        let conv = Conv::dense(1, 1);
        let conv = builder.node("conv", conv, &[image], &[weight, bias], Place::default());
        let graph = builder.finish(&[conv.unwrap()]).unwrap();
        let mut weights = Weights::default();
        let array =
            |shape: &[usize], number: f32| Array { shape: shape.to_vec(), data: vec![number] };
        weights.arrays.insert("w".to_owned(), array(&[1, 1, 1, 1], 0.004));
        weights.arrays.insert("b".to_owned(), array(&[1], 0.5));
        let metadata = [metadata, vec![safetensors::network_entry(&graph)]].concat();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("net.safetensors");
        std::fs::write(&path, safetensors::to_bytes(&weights, &metadata)).unwrap();
        (directory, path)
    }

    fn read(path: &Path) -> Network {
        let image = ImageSize { channels: None, side: None };
        let named = NamedModel { path: path.to_str().unwrap().to_owned(), image };
        Network::read(&named, Path::new(""), "space").unwrap()
    }

    fn pixels(mean: f64, std: f64) -> Pixels {
        Pixels { mean: vec![mean], std: vec![std] }
    }

    fn numbers(network: &Network) -> (f32, f32, f32) {
        let of = |name: &str| network.weights.arrays[name].data[0];
        assert_eq!(network.file.weights, ArtifactHash::of(&network.weights()));
        (network.file.input_scale, of("w"), of("b"))
    }

    #[test]
    fn weights_that_multiply_bytes_are_scaled() {
        let (_directory, path) = file(vec![]);
        let mut network = read(&path);
        network.scale_inputs(&pixels(0.0, 1.0 / 255.0), "space").unwrap();
        assert_eq!(numbers(&network), (128.0, 0.004 * 128.0, 0.5));
        let mut network = read(&path);
        network.scale_inputs(&pixels(0.45, 0.225), "space").unwrap();
        assert_eq!(numbers(&network), (1.0, 0.004, 0.5));
    }

    #[test]
    fn weights_of_a_study_read_what_they_were_trained_on() {
        let trained = Normalization { mean: vec![0.0], std: vec![128.0 / 255.0] };
        let entries = safetensors::normalization_entries(&trained).to_vec();
        let (_directory, path) = file(entries);
        let mut network = read(&path);
        network.scale_inputs(&pixels(0.0, 1.0 / 255.0), "space").unwrap();
        assert_eq!(numbers(&network), (128.0, 0.004, 0.5));
        let error = network.scale_inputs(&pixels(0.45, 0.225), "space").unwrap_err().to_string();
        assert!(error.contains("write mean = [0.0] and std = [0.5019608]"), "{error}");
        let mut network = read(&path);
        network.scale_inputs(&pixels(0.0, 0.5019608), "space").unwrap();
        assert_eq!(numbers(&network), (1.0, 0.004, 0.5));
    }

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
        // Which channels it should have is said later.
        assert_eq!(shape(&[0, 1, 0, 0]), Some(vec![1, 1, 32, 32]));
        // A vector, a sequence, and not square.
        for none in [&[0, 3][..], &[0, 3, 0], &[0, 3, 0, 0, 0], &[0, 3, 24, 48]] {
            assert_eq!(shape(none), None, "{none:?}");
        }
        let unknown = ImageSize { side: None, ..image };
        assert_eq!(of_images(Some(&[None, Some(3), None, None]), unknown), None);
        assert_eq!(of_images(None, image), None);
    }
}

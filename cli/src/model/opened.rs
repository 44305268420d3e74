//! A network that commands look into or run, wherever it comes from.

use std::path::Path;
use std::str::FromStr;

use edgesmith_client::{Connection, Coordinator};
use edgesmith_console::invalid;
use edgesmith_data::files;
use edgesmith_edge_runtime::{Array, Model};
use edgesmith_graph::Graph;
use edgesmith_onnx::ReadOptions;
use edgesmith_onnx::read::PortAxis;
use edgesmith_search_space::with_stages;
use edgesmith_train::safetensors;
use edgesmith_worker::export::{imported_integer_model, imported_model, lift};
use serde::Deserialize;

use super::{FileKind, ModelName, Pixels, Port, Stored};

/// Largest size of a network's file, and of the files beside it, bytes.
const MAX_FILE: u64 = 4 << 30;

/// Which network, and what its file leaves open.
#[derive(Debug, clap::Args)]
pub struct Reading {
    /// The network: a file that ends in .onnx or .edge, a trial as STUDY/NUMBER, or the teacher of
    /// a study as STUDY/teacher
    #[arg(value_name = "MODEL")]
    pub model: ModelName,
    /// Sizes of an input that an ONNX file leaves open, as NAME=1,3,224,224; again for each input
    #[arg(long = "input-shape", value_name = "NAME=SIZES")]
    pub input_shapes: Vec<InputShape>,
    /// Run an ONNX file that was quantized (with QuantizeLinear and DequantizeLinear) in integers
    /// where it has scales, and not as the fp32 network that it stands for
    #[arg(long)]
    pub int8: bool,
}

/// The sizes of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputShape {
    name: String,
    sizes: Vec<u32>,
}

/// A network, ready to look into.
pub struct Opened {
    /// Its file, or which network of a study it is.
    pub words: String,
    /// Size of its file, bytes.
    pub bytes: u64,
    /// Its layers, with their stages; or why they cannot be listed.
    pub graph: Result<Graph, String>,
    /// What it reads.
    pub inputs: Vec<Port>,
    /// What it answers.
    pub outputs: Vec<Port>,
    /// The names of its classes; empty if it has none or they are not known.
    pub class_names: Vec<String>,
    /// How it reads the pixels of images; `None` if it does not say.
    pub pixels: Option<Pixels>,
    /// What the engine runs, or why it does not.
    pub model: Result<Model, String>,
}

impl Opened {
    /// Reads a network.
    pub async fn open(reading: &Reading, connection: &Connection) -> anyhow::Result<Self> {
        if let Some(shape) = reading.input_shapes.first()
            && !matches!(reading.model, ModelName::File(_, FileKind::Onnx))
        {
            return Err(invalid(format!(
                "the sizes of inputs are fixed here; leave out --input-shape {}",
                shape.name
            )));
        }
        if reading.int8 && !matches!(reading.model, ModelName::File(_, FileKind::Onnx)) {
            return Err(invalid(
                "only an ONNX file can be run in fp32 or in integers; leave out --int8",
            ));
        }
        match &reading.model {
            ModelName::File(path, FileKind::Onnx) => {
                Self::onnx(path, &reading.input_shapes, reading.int8)
            }
            ModelName::File(path, FileKind::Edge) => {
                let bytes = read(path)?;
                let failed = |error| invalid(format!("failed to read {}: {error}", path.display()));
                let model = Model::from_bytes(&bytes).map_err(|error| failed(error.to_string()))?;
                let mut names = model.notes.classes.clone();
                if names.is_empty() {
                    names = names_beside(path)?;
                }
                Self::edge(path.display().to_string(), bytes.len(), model, names)
            }
            ModelName::Stored { study, network } => {
                let coordinator = Coordinator::connect(connection).await?;
                let stored = Stored::fetch(&coordinator, study, *network).await?;
                let (words, names) = (stored.words.clone(), stored.class_names.clone());
                Self::edge(words, stored.model.len(), stored.measured()?, names)
            }
        }
    }

    /// What the engine runs.
    ///
    /// # Errors
    /// If it does not run the network.
    pub fn engine_model(&self) -> anyhow::Result<&Model> {
        self.model
            .as_ref()
            .map_err(|reason| invalid(format!("the engine does not run {}: {reason}", self.words)))
    }

    fn onnx(path: &Path, shapes: &[InputShape], int8: bool) -> anyhow::Result<Self> {
        let words = path.display().to_string();
        let bytes = read(path)?;
        let beside = |name: &str| {
            let path = path.parent().unwrap_or(Path::new("")).join(name);
            files::read(&path, MAX_FILE).map_err(|error| error.to_string())
        };
        let options = ReadOptions {
            input_shapes: shapes.iter().map(|s| (s.name.clone(), s.sizes.clone())).collect(),
            external: Some(&beside),
            ..ReadOptions::default()
        };
        let imported = edgesmith_onnx::read(&bytes, &options)
            .map_err(|errors| invalid(format!("failed to read {words}: {errors}")))?;
        let port = |port: &edgesmith_onnx::read::Port, value| {
            let shape = imported.graph.shape(value).sizes();
            let mut made =
                Port { name: port.name.clone(), sizes: vec![], channels: 0, bytes: false };
            for axis in &port.axes {
                match axis {
                    PortAxis::Batch(_) => {}
                    PortAxis::Of(of) => {
                        if *of == 0 {
                            made.channels = made.sizes.len();
                        }
                        made.sizes.push(shape[*of as usize] as usize);
                    }
                    PortAxis::One => made.sizes.push(1),
                }
            }
            made
        };
        let inputs = imported.inputs.iter().zip(imported.graph.inputs());
        let outputs = imported.outputs.iter().zip(imported.graph.outputs().iter().copied());
        let inputs = inputs.map(|(described, value)| port(described, value)).collect();
        let outputs = outputs.map(|(described, value)| port(described, value)).collect();
        let about = &imported.about;
        let mut entries = about.metadata.iter();
        let class_names = entries.find(|(key, _)| key == safetensors::CLASSES_KEY);
        let class_names = class_names.and_then(|(_, names)| serde_json::from_str(names).ok());
        // Files of this program normalise the pixels inside.
        let pixels = (about.producer == "edgesmith").then_some(Pixels::Raw);
        let model = if int8 {
            imported_integer_model(&imported).ok_or_else(|| {
                invalid(format!(
                    "{words} has no QuantizeLinear with a scale, so nothing says how to run it in \
                     integers; quantize it first, or leave out --int8"
                ))
            })?
        } else {
            imported_model(&imported)
        };
        Ok(Self {
            words,
            bytes: bytes.len() as u64,
            graph: Ok(with_stages(imported.graph)),
            inputs,
            outputs,
            class_names: class_names.unwrap_or_default(),
            pixels,
            model: model.map_err(|error| error.to_string()),
        })
    }

    fn edge(
        words: String,
        bytes: usize,
        model: Model,
        class_names: Vec<String>,
    ) -> anyhow::Result<Self> {
        let values = model.validate()?;
        let port = |name: &str, sizes: &[u32], order: &[u32], bytes| Port {
            name: name.to_owned(),
            sizes: order.iter().map(|&axis| sizes[axis as usize] as usize).collect(),
            channels: order.iter().position(|&axis| axis == 0).unwrap_or(0),
            bytes,
        };
        let inputs = model.inputs.iter().map(|input| {
            let bytes = matches!(input.array, Array::Bytes(_));
            port(&input.name, input.shape.sizes(), &input.order, bytes)
        });
        let outputs = model.outputs.iter().map(|output| {
            port(&output.name, values.of(output.value).sizes(), &output.order, false)
        });
        let (inputs, outputs): (Vec<Port>, Vec<Port>) = (inputs.collect(), outputs.collect());
        let pixels = inputs[0].bytes.then_some(Pixels::Raw);
        let graph = lift(&model).map(|lifted| with_stages(lifted.graph));
        let graph = graph.map_err(|error| error.to_string());
        let bytes = bytes as u64;
        Ok(Self { words, bytes, graph, inputs, outputs, class_names, pixels, model: Ok(model) })
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    files::read(path, MAX_FILE)
        .map_err(|error| invalid(format!("failed to read the network: {error}")))
}

/// The names of the classes in the file that `export` writes beside an edge file; none without it.
fn names_beside(edge: &Path) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Names {
        classes: Vec<String>,
    }
    let mut beside = edge.as_os_str().to_owned();
    beside.push(".json");
    let beside = Path::new(&beside);
    if !beside.exists() {
        return Ok(Vec::new());
    }
    let text = files::read_text(beside, MAX_FILE).map_err(|error| invalid(error.to_string()))?;
    let names: Names = serde_json::from_str(&text).map_err(|error| {
        invalid(format!("failed to read the names of the classes in {}: {error}", beside.display()))
    })?;
    Ok(names.classes)
}

impl FromStr for InputShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || "write the name of an input and its sizes, as x=1,3,224,224".to_owned();
        let (name, sizes) = text.rsplit_once('=').ok_or_else(wanted)?;
        let sizes: Vec<u32> = sizes
            .split([',', 'x'])
            .map(|size| size.trim().parse().ok().filter(|&size| size > 0).ok_or_else(wanted))
            .collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), sizes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_inputs_are_read() {
        let shape: InputShape = "x=1,3,224,224".parse().unwrap();
        assert_eq!((&*shape.name, &shape.sizes[..]), ("x", &[1, 3, 224, 224][..]));
        assert_eq!("input:0=1x8".parse::<InputShape>().unwrap().name, "input:0");
        for wrong in ["x", "x=", "x=1,0", "x=1,-1", "x=a"] {
            assert!(wrong.parse::<InputShape>().unwrap_err().contains("x=1,3,224,224"));
        }
    }

    #[test]
    fn names_of_classes_are_read_beside_an_edge_file() {
        let directory = tempfile::tempdir().unwrap();
        let edge = directory.path().join("m.edge");
        assert_eq!(names_beside(&edge).unwrap(), Vec::<String>::new());
        let beside = directory.path().join("m.edge.json");
        std::fs::write(&beside, r#"{"version": 1, "classes": ["ape", "bee"]}"#).unwrap();
        assert_eq!(names_beside(&edge).unwrap(), ["ape", "bee"]);
        std::fs::write(&beside, "{}").unwrap();
        assert!(names_beside(&edge).unwrap_err().to_string().contains("m.edge.json"));
    }
}

//! A network that commands look into or run, wherever it comes from.

use std::path::Path;

use edgesmith_client::{Connection, Coordinator};
use edgesmith_console::invalid;
use edgesmith_edge_runtime::{Array, Model};
use edgesmith_graph::Graph;
use edgesmith_search_space::with_stages;
use edgesmith_worker::export::{imported_integer_model, imported_model, lift};

use super::file::{EdgeFile, OnnxFile};
use super::{FileKind, InputShape, ModelName, Pixels, Port, Stored};

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
        if !matches!(reading.model, ModelName::File(_, FileKind::Onnx)) {
            refuse_shapes(&reading.input_shapes)?;
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
                let EdgeFile { bytes, model, class_names } = EdgeFile::read(path)?;
                Self::edge(path.display().to_string(), bytes.len(), model, class_names)
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

    /// Reads an ONNX file.
    pub fn onnx(path: &Path, shapes: &[InputShape], int8: bool) -> anyhow::Result<Self> {
        let words = path.display().to_string();
        let OnnxFile { bytes, imported, class_names, pixels } = OnnxFile::read(path, shapes)?;
        let port = |port, value| Port::of_file(port, imported.graph.shape(value));
        let inputs = imported.inputs.iter().zip(imported.graph.inputs());
        let outputs = imported.outputs.iter().zip(imported.graph.outputs().iter().copied());
        let inputs = inputs.map(|(described, value)| port(described, value)).collect();
        let outputs = outputs.map(|(described, value)| port(described, value)).collect();
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
            bytes,
            graph: Ok(with_stages(imported.graph)),
            inputs,
            outputs,
            class_names,
            pixels,
            model: model.map_err(|error| error.to_string()),
        })
    }

    /// What is known of a model of the engine, whose file has so many bytes.
    ///
    /// # Errors
    /// If the model is not valid.
    pub fn edge(
        words: String,
        bytes: usize,
        model: Model,
        class_names: Vec<String>,
    ) -> anyhow::Result<Self> {
        let values = model.validate()?;
        let inputs = model.inputs.iter().map(|input| {
            let bytes = matches!(input.array, Array::Bytes(_));
            Port::of_model(&input.name, input.shape.sizes(), &input.order, bytes)
        });
        let outputs = model.outputs.iter().map(|output| {
            Port::of_model(&output.name, values.of(output.value).sizes(), &output.order, false)
        });
        let (inputs, outputs): (Vec<Port>, Vec<Port>) = (inputs.collect(), outputs.collect());
        let pixels = inputs[0].bytes.then_some(Pixels::Raw);
        let graph = lift(&model).map(|lifted| with_stages(lifted.graph));
        let graph = graph.map_err(|error| error.to_string());
        let bytes = bytes as u64;
        Ok(Self { words, bytes, graph, inputs, outputs, class_names, pixels, model: Ok(model) })
    }
}

/// Refuses sizes for inputs whose sizes are fixed.
pub fn refuse_shapes(shapes: &[InputShape]) -> anyhow::Result<()> {
    match shapes.first() {
        None => Ok(()),
        Some(shape) => Err(invalid(format!(
            "the sizes of inputs are fixed here; leave out --input-shape {}",
            shape.name
        ))),
    }
}

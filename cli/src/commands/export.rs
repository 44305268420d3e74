//! `edgesmith export`.

mod file;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use edgesmith_client::{Connection, Coordinator};
use edgesmith_console::{invalid, number, print_text};
use edgesmith_edge_runtime::Model;
use edgesmith_train::safetensors;
use edgesmith_worker::export::{Lifted, lift, onnx};
use serde_json::{Value, json};

use crate::model::{
    FileKind, InputShape, ModelName, PixelArgs, Pixels, Stored, StoredName, refuse_shapes,
};
use crate::output::json;

/// Arguments: which network, and how to write it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The network: a file that ends in .onnx or .edge, a trial as STUDY/NUMBER, or the teacher of
    /// a study as STUDY/teacher
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// The trial, if MODEL is the name of a study: the form that earlier versions had
    #[arg(hide = true, allow_negative_numbers = true, value_parser = number::whole(0..=u32::MAX))]
    pub number: Option<u32>,
    /// What to write
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// File to write; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Sizes of an input that an ONNX file leaves open, as NAME=1,3,224,224; again for each input
    #[arg(long = "input-shape", value_name = "NAME=SIZES")]
    pub input_shapes: Vec<InputShape>,
    /// Write an ONNX file that was quantized (with QuantizeLinear and DequantizeLinear) to an edge
    /// file in integers where it has scales, and not as the fp32 network that it stands for
    #[arg(long)]
    pub int8: bool,
    #[command(flatten)]
    pub pixels: PixelArgs,
    #[command(flatten)]
    pub connection: Connection,
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// ONNX in fp32, batch normalisation folded.
    Onnx,
    /// ONNX with QuantizeLinear and DequantizeLinear; for int8 trials, and files with integers.
    OnnxInt8,
    /// Float weights after pruning, batch normalisation not folded; for networks of studies.
    Safetensors,
    /// The file of the edge runtime: the one that was measured, or an ONNX file's network in fp32.
    Edge,
}

/// Writes a network to a file.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let name = named(&args.model, args.number)?;
    refuse_terminal(&args.output, std::io::stdout().is_terminal())?;
    if args.int8
        && !(matches!(name, ModelName::File(_, FileKind::Onnx))
            && args.format == ExportFormat::Edge)
    {
        return Err(invalid(
            "--int8 is for edge files that are made of ONNX files; leave it out here",
        ));
    }
    let exported = match &name {
        ModelName::File(path, kind) => file::export(path, *kind, &args)?,
        ModelName::Stored { study, network } => {
            refuse_shapes(&args.input_shapes)?;
            stored(study, *network, &args).await?
        }
    };
    let Exported { bytes, class_names } = exported;
    if is_stdout(&args.output) {
        let mut out = std::io::stdout().lock();
        out.write_all(&bytes)?;
        return Ok(out.flush()?);
    }
    write(&args.output, &bytes)?;
    let mut said = format!("{} ({} bytes)\n", args.output.display(), bytes.len());
    if args.format == ExportFormat::Edge && !class_names.is_empty() {
        let beside = names_file(&args.output);
        write(&beside, names_document(&name, &class_names).as_bytes())?;
        said.push_str(&format!("{} (names of the classes)\n", beside.display()));
    }
    print_text(&said)
}

/// A file to write.
struct Exported {
    bytes: Vec<u8>,
    /// The names of the network's classes; empty if it has none.
    class_names: Vec<String>,
}

/// The file of a network of a study.
async fn stored(study: &str, network: StoredName, args: &Args) -> anyhow::Result<Exported> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let stored = Stored::fetch(&coordinator, study, network).await?;
    let words = stored.words.clone();
    // The file that was measured normalises pixels.
    Pixels::known(&words, Some(&Pixels::Raw), &args.pixels)?;
    let class_names = stored.class_names.clone();
    let mut metadata = vec![("study", study.to_owned()), network_entry(network)];
    metadata.extend(safetensors::class_names_entry(&class_names));
    let bytes = match args.format {
        ExportFormat::Edge => stored.model,
        ExportFormat::Safetensors => stored.weights()?,
        ExportFormat::Onnx => onnx::of_study(&lifted(&stored.float()?)?, &metadata),
        ExportFormat::OnnxInt8 => {
            let model = stored.measured()?;
            if !model.has_integers() {
                let is_fp32 = no_integers(&words, &model);
                return Err(invalid(format!(
                    "{is_fp32}; export it with --format onnx, or choose an int8 trial"
                )));
            }
            onnx::of_study(&lifted(&model)?, &metadata)
        }
    };
    Ok(Exported { bytes, class_names })
}

/// Why a model without integers makes no int8 file. Its arithmetic is fp32, even if its weights are
/// levels.
fn no_integers(words: &str, model: &Model) -> String {
    if model.runs_by_reference() {
        format!("the arithmetic of {words} is fp32 (its values are rounded to levels)")
    } else if model.is_quantized() {
        format!("the arithmetic of {words} is fp32 (its weights are held in levels)")
    } else {
        format!("{words} is fp32")
    }
}

/// Which network is meant.
fn named(model: &str, number: Option<u32>) -> anyhow::Result<ModelName> {
    if let Some(number) = number {
        let network = StoredName::Trial(number);
        return Ok(ModelName::Stored { study: model.to_owned(), network });
    }
    model.parse().map_err(|wanted| invalid(format!("{model:?} does not name a network; {wanted}")))
}

/// How a file says which network it is.
fn network_entry(network: StoredName) -> (&'static str, String) {
    match network {
        StoredName::Trial(number) => ("trial", number.to_string()),
        StoredName::Teacher => ("network", "teacher".to_owned()),
    }
}

/// A model as a graph.
fn lifted(model: &Model) -> anyhow::Result<Lifted> {
    lift(model).context("failed to read the model as a graph")
}

fn is_stdout(output: &Path) -> bool {
    output == Path::new("-")
}

/// Refuses to write a binary file to a terminal.
fn refuse_terminal(output: &Path, terminal: bool) -> anyhow::Result<()> {
    if is_stdout(output) && terminal {
        return Err(invalid(
            "the file is binary, and standard output is a terminal; name a file with -o, or send \
             it to another program with |",
        ));
    }
    Ok(())
}

fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(file, bytes).with_context(|| format!("failed to write {}", file.display()))
}

/// Where the names of the classes go as well, for programs that do not read edge files.
fn names_file(edge: &Path) -> PathBuf {
    let mut name = edge.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

fn names_document(name: &ModelName, class_names: &[String]) -> String {
    let mut document = json!({ "version": json::VERSION, "classes": class_names });
    if let ModelName::Stored { study, network } = name {
        let (key, number) = match network {
            StoredName::Trial(number) => ("trial", Value::from(*number)),
            StoredName::Teacher => ("network", "teacher".into()),
        };
        document["study"] = study.as_str().into();
        document[key] = number;
    }
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use edgesmith_edge_runtime as edge;

    use super::*;

    #[test]
    fn a_file_without_integers_is_called_fp32_only_if_it_is() {
        let said = |layer: edge::Layer| {
            let inputs = vec![edge::ValueId(0)];
            let model = Model {
                inputs: Vec::new(),
                nodes: vec![edge::Node { inputs, layer, output: edge::Element::Fp32 }],
                outputs: Vec::new(),
                rounding: edge::Rounding::Once,
                notes: edge::Notes::default(),
            };
            no_integers("net.edge", &model)
        };
        assert_eq!(said(edge::Map { function: edge::Function::Tanh }.into()), "net.edge is fp32");
        let weight = vec![1_i16, -2];
        let linear = edge::Linear { in_features: 2, out_features: 1, weight, bias: vec![0.5] };
        let leveled = edge::Leveled {
            layer: edge::LeveledLayer::Linear(linear),
            bits: 8,
            scales: vec![0.1],
            zero_points: vec![3],
        };
        let text = "the arithmetic of net.edge is fp32 (its weights are held in levels)";
        assert_eq!(said(leveled.into()), text);
        let round = edge::Round { scale: 1.0, zero_point: 0, last: 65535 };
        assert!(said(round.into()).ends_with("is fp32 (its values are rounded to levels)"));
    }

    #[test]
    fn only_a_pipe_gets_a_binary_file() {
        let (stdout, file) = (Path::new("-"), Path::new("./-"));
        let error = refuse_terminal(stdout, true).unwrap_err().to_string();
        assert!(error.contains("standard output is a terminal; name a file with -o"), "{error}");
        assert!(refuse_terminal(stdout, false).is_ok() && refuse_terminal(file, true).is_ok());
        assert!(!is_stdout(file));
    }

    #[test]
    fn names_of_classes_stand_beside_an_edge_file() {
        assert_eq!(names_file(Path::new("out/m.edge")), Path::new("out/m.edge.json"));
        let document = |model: &str| -> Value {
            let names = ["ape".to_owned(), "bee".to_owned()];
            serde_json::from_str(&names_document(&named(model, None).unwrap(), &names)).unwrap()
        };
        let expected =
            json!({"version": 1, "study": "photos", "trial": 7, "classes": ["ape", "bee"]});
        assert_eq!(document("photos/7"), expected);
        assert_eq!(document("m.onnx"), json!({"version": 1, "classes": ["ape", "bee"]}));
    }
}

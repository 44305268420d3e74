//! `edgesmith export`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use edgesmith_client::{Connection, Coordinator};
use edgesmith_console::{invalid, number, print_text};
use edgesmith_edge_runtime::Model;
use edgesmith_train::safetensors;
use edgesmith_worker::export::{Lifted, lift, onnx};
use serde_json::json;

use crate::model::{ModelName, Stored, StoredName};
use crate::output::json;

/// Arguments: which network, and how to write it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The network: a trial as STUDY/NUMBER, or the teacher of a study as STUDY/teacher
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
    #[command(flatten)]
    pub connection: Connection,
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// ONNX in fp32, batch normalisation folded.
    Onnx,
    /// ONNX with QuantizeLinear and DequantizeLinear; for int8 trials.
    OnnxInt8,
    /// Float weights after pruning, batch normalisation not folded.
    Safetensors,
    /// The edge-runtime file that was measured.
    Edge,
}

/// Writes a network to a file.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let (study, network) = named(&args.model, args.number)?;
    let coordinator = Coordinator::connect(&args.connection).await?;
    let stored = Stored::fetch(&coordinator, &study, network).await?;
    refuse_terminal(&args.output, std::io::stdout().is_terminal())?;
    let words = stored.words.clone();
    let class_names = stored.class_names.clone();
    let mut metadata = vec![("study", study.clone()), network_entry(network)];
    metadata.extend(safetensors::class_names_entry(&class_names));
    let bytes = match args.format {
        ExportFormat::Edge => stored.model,
        ExportFormat::Safetensors => stored.weights()?,
        ExportFormat::Onnx => onnx_file(&stored.float()?, &metadata)?,
        ExportFormat::OnnxInt8 => {
            let model = stored.measured()?;
            if !model.has_integers() {
                return Err(invalid(format!(
                    "{words} is fp32; export it with --format onnx, or choose an int8 trial"
                )));
            }
            onnx_file(&model, &metadata)?
        }
    };
    if is_stdout(&args.output) {
        let mut out = std::io::stdout().lock();
        out.write_all(&bytes)?;
        return Ok(out.flush()?);
    }
    write(&args.output, &bytes)?;
    let mut said = format!("{} ({} bytes)\n", args.output.display(), bytes.len());
    if args.format == ExportFormat::Edge && !class_names.is_empty() {
        let beside = names_file(&args.output);
        write(&beside, names_document(&study, network, &class_names).as_bytes())?;
        said.push_str(&format!("{} (names of the classes)\n", beside.display()));
    }
    print_text(&said)
}

/// The study and which of its networks.
fn named(model: &str, number: Option<u32>) -> anyhow::Result<(String, StoredName)> {
    if let Some(number) = number {
        return Ok((model.to_owned(), StoredName::Trial(number)));
    }
    match model.parse() {
        Ok(ModelName::Stored { study, network }) => Ok((study, network)),
        Ok(ModelName::File(..)) => Err(invalid(format!(
            "{model} is a file; name a trial as STUDY/NUMBER, or a teacher as STUDY/teacher"
        ))),
        Err(wanted) => Err(invalid(format!("{model:?} does not name a network; {wanted}"))),
    }
}

/// How a file says which network it is.
fn network_entry(network: StoredName) -> (&'static str, String) {
    match network {
        StoredName::Trial(number) => ("trial", number.to_string()),
        StoredName::Teacher => ("network", "teacher".to_owned()),
    }
}

/// The ONNX file of a model.
fn onnx_file(model: &Model, metadata: &[(&str, String)]) -> anyhow::Result<Vec<u8>> {
    let lifted = lift(model).context("failed to read the model as a graph")?;
    let Lifted { graph, weights, quantization, normalization } = lifted;
    Ok(onnx::to_bytes(&graph, &weights, quantization.as_ref(), &normalization, metadata))
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

fn names_document(study: &str, network: StoredName, class_names: &[String]) -> String {
    let mut document = json!({
        "version": json::VERSION, "study": study, "classes": class_names,
    });
    match network {
        StoredName::Trial(number) => document["trial"] = number.into(),
        StoredName::Teacher => document["network"] = "teacher".into(),
    }
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let text =
            names_document("photos", StoredName::Trial(7), &["ape".to_owned(), "bee".to_owned()]);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected =
            json!({"version": 1, "study": "photos", "trial": 7, "classes": ["ape", "bee"]});
        assert_eq!(read, expected);
    }
}

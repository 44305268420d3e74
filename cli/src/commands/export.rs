//! `edgesmith export`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use edgesmith_client::{Connection, Coordinator, from_status};
use edgesmith_console::{invalid, number, print_text};
use edgesmith_data::Normalization;
use edgesmith_edge_runtime::{InputSpec, Model, Network};
use edgesmith_search_space::Precision;
use edgesmith_train::safetensors;
use edgesmith_worker::export::{Lifted, float_model, lift, onnx};
use edgesmith_worker::session::artifacts;
use serde_json::json;

use crate::commands::trials;
use crate::output::json;

/// Arguments: which network, and how to write it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    /// Trial number
    #[arg(allow_negative_numbers = true, value_parser = number::whole(0..=u32::MAX))]
    pub number: u32,
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

/// Writes a trial's network to a file.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let (_, spec) = coordinator.study(&args.study).await?;
    let row = trials::fetch(&coordinator, &args.study, args.number, &spec).await?;
    let Some(values) = &row.values else {
        return Err(invalid(format!(
            "trial {} of {} is {}, so it has no network to export",
            args.number,
            args.study,
            row.state.name()
        )));
    };
    let mut client = coordinator.artifacts();
    let mut fetch = async |hash| artifacts::download(&mut client, hash).await.map_err(from_status);
    let (Some(trained), Some(candidate), Some(work)) =
        (values.trained(), &row.candidate, spec.training())
    else {
        return Err(invalid(format!(
            "trial {} of {} was not trained here, so it has no network to export",
            args.number, args.study
        )));
    };
    refuse_terminal(&args.output, std::io::stdout().is_terminal())?;
    let weights = fetch(trained.weights).await;
    // Names are an extra: a model file is written even if the weights cannot be read.
    let read = weights.as_ref().ok().and_then(|file| safetensors::read(file).ok());
    let class_names = read.map(|(_, notes)| safetensors::class_names(&notes)).unwrap_or_default();
    let mut metadata = vec![("study", args.study.clone()), ("trial", args.number.to_string())];
    metadata.extend(safetensors::class_names_entry(&class_names));
    let bytes = match args.format {
        ExportFormat::Edge => fetch(trained.model).await?,
        ExportFormat::Safetensors => weights?,
        ExportFormat::Onnx => {
            let measured = Model::from_bytes(&fetch(trained.model).await?)?;
            let model = match &measured.network {
                Network::Fp32(_) => measured,
                // The measured model has integers only; its weights have the real numbers.
                Network::Int8 { .. } => {
                    let weights = safetensors::from_bytes(&weights?)?;
                    let graph = candidate.pruned_graph(work.space.data())?;
                    weights.check(&graph)?;
                    let InputSpec { mean, std, .. } = measured.input;
                    float_model(&graph, &weights, &Normalization { mean, std })?
                }
            };
            onnx_file(&model, &metadata)?
        }
        ExportFormat::OnnxInt8 => {
            if candidate.recipe.precision != Precision::Int8 {
                return Err(invalid(format!(
                    "trial {} is {}; export it with --format onnx, or choose an int8 trial",
                    args.number,
                    candidate.recipe.precision.name()
                )));
            }
            onnx_file(&Model::from_bytes(&fetch(trained.model).await?)?, &metadata)?
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
        write(&beside, names_document(&args.study, args.number, &class_names).as_bytes())?;
        said.push_str(&format!("{} (names of the classes)\n", beside.display()));
    }
    print_text(&said)
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

/// Where the names of the classes go that an edge file has no room for.
fn names_file(edge: &Path) -> PathBuf {
    let mut name = edge.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

fn names_document(study: &str, trial: u32, class_names: &[String]) -> String {
    let document = json!({
        "version": json::VERSION, "study": study, "trial": trial, "classes": class_names,
    });
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
        let text = names_document("photos", 7, &["ape".to_owned(), "bee".to_owned()]);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected =
            json!({"version": 1, "study": "photos", "trial": 7, "classes": ["ape", "bee"]});
        assert_eq!(read, expected);
    }
}

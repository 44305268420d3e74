//! `edgesmith export`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use edgesmith_client::{Connection, Coordinator, from_status};
use edgesmith_console::{invalid, print_text};
use edgesmith_edge_runtime::{InputSpec, Model};
use edgesmith_search_space::Precision;
use edgesmith_worker::data::Normalization;
use edgesmith_worker::export::{float_model, onnx, safetensors};
use edgesmith_worker::session::artifacts;

use crate::commands::trials;

/// Arguments: which network, and how to write it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    /// Trial number
    pub number: u32,
    /// What to write
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// File to write
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
    let metadata = [("study", args.study.clone()), ("trial", args.number.to_string())];
    let bytes = match args.format {
        ExportFormat::Edge => fetch(trained.model).await?,
        ExportFormat::Safetensors => fetch(trained.weights).await?,
        ExportFormat::Onnx => {
            let weights = safetensors::from_bytes(&fetch(trained.weights).await?)?;
            let plan = candidate.pruned_plan(work.space.data())?;
            weights.check(&plan)?;
            let model = Model::from_bytes(&fetch(trained.model).await?)?;
            let InputSpec { mean, std, .. } = model.input;
            let model = float_model(&plan, &weights, &Normalization { mean, std });
            onnx::to_bytes(&model, &metadata)
        }
        ExportFormat::OnnxInt8 => {
            if candidate.recipe.precision != Precision::Int8 {
                return Err(invalid(format!(
                    "trial {} is {}; export it with --format onnx, or choose an int8 trial",
                    args.number,
                    candidate.recipe.precision.name()
                )));
            }
            onnx::to_bytes(&Model::from_bytes(&fetch(trained.model).await?)?, &metadata)
        }
    };
    std::fs::write(&args.output, &bytes)
        .with_context(|| format!("failed to write {}", args.output.display()))?;
    print_text(&format!("{} ({} bytes)\n", args.output.display(), bytes.len()))
}

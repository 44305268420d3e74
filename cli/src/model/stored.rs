//! A network in the results of a study: a trial, or the teacher.

use anyhow::Context as _;
use edgesmith_client::{Coordinator, TrialRow};
use edgesmith_common::{ArtifactHash, StudySpec, TrainedTrial, TrialValues};
use edgesmith_console::invalid;
use edgesmith_data::Normalization;
use edgesmith_edge_runtime::{InputSpec, Model};
use edgesmith_graph::Graph;
use edgesmith_proto::v1;
use edgesmith_train::safetensors;
use edgesmith_worker::export::float_model;
use edgesmith_worker::session::artifacts;
use tonic::Code;

use super::StoredName;
use crate::commands::trials;

/// A trained network of a study, with its files.
pub struct Stored {
    /// In words, such as `trial 26 of digits`.
    pub words: String,
    /// The bytes of the edge-runtime file that was measured.
    pub model: Vec<u8>,
    /// The names of the classes; empty if they have none or cannot be read.
    pub class_names: Vec<String>,
    /// The bytes of the file of float weights, or why it could not be read.
    weights: anyhow::Result<Vec<u8>>,
    /// The network that has these weights.
    graph: Graph,
}

impl Stored {
    /// Reads a network from a coordinator.
    pub async fn fetch(
        coordinator: &Coordinator,
        study: &str,
        network: StoredName,
    ) -> anyhow::Result<Self> {
        let (status, spec) = coordinator.study(study).await?;
        let (words, hashes, graph) = match network {
            StoredName::Trial(number) => {
                let row = trials::fetch(coordinator, study, number, &spec).await?;
                let words = format!("trial {number} of {study}");
                let (hashes, graph) = trial(&words, &row, &spec)?;
                (words, hashes, graph)
            }
            StoredName::Teacher => {
                let words = format!("the teacher of {study}");
                let (hashes, graph) = teacher(&words, &status, &spec)?;
                (words, hashes, graph)
            }
        };
        let again = match network {
            StoredName::Trial(number) => {
                format!("`edgesmith trial {study} {number} --rerun` makes it again")
            }
            StoredName::Teacher => {
                format!("`edgesmith retry {study} --teacher` trains the teacher again")
            }
        };
        let mut client = coordinator.artifacts();
        let mut fetch = async |hash| {
            artifacts::download(&mut client, hash).await.map_err(|status| {
                let lost = matches!(status.code(), Code::NotFound | Code::DataLoss);
                let error = coordinator.failed(status);
                if lost {
                    error.context(format!("a file of {words} is lost; without a backup, {again}"))
                } else {
                    error
                }
            })
        };
        let weights = fetch(hashes.weights).await;
        let model = fetch(hashes.model).await?;
        // Names are an extra: a model file is read even if the weights cannot be read.
        let read = weights.as_ref().ok().and_then(|file| safetensors::read(file).ok());
        let class_names = read.map(|(_, notes)| safetensors::class_names(&notes));
        Ok(Self { words, model, class_names: class_names.unwrap_or_default(), weights, graph })
    }

    /// The bytes of the file of float weights, as trained: after pruning, batch normalisation not
    /// folded.
    pub fn weights(self) -> anyhow::Result<Vec<u8>> {
        self.weights
    }

    /// The model that was measured.
    pub fn measured(&self) -> anyhow::Result<Model> {
        Ok(Model::from_bytes(&self.model)?)
    }

    /// The model in fp32: the one that was measured, or its float weights if that is quantized.
    pub fn float(self) -> anyhow::Result<Model> {
        let measured = self.measured()?;
        if !measured.is_quantized() {
            return Ok(measured);
        }
        let (weights, notes) = safetensors::read(&self.weights?)?;
        // A pruned shuffle or slice depends on which channels are left, so the file says it.
        let graph = safetensors::network(&notes).transpose()?.unwrap_or(self.graph);
        weights.check(&graph)?;
        let image = measured.image().context("its model does not read one image of bytes")?;
        let InputSpec { mean, std, .. } = image;
        Ok(float_model(&graph, &weights, &Normalization { mean, std })?)
    }
}

/// Where the files of a network are.
struct Hashes {
    model: ArtifactHash,
    weights: ArtifactHash,
}

fn trial(words: &str, row: &TrialRow, spec: &StudySpec) -> anyhow::Result<(Hashes, Graph)> {
    let Some(values) = &row.values else {
        let state = row.state.name();
        return Err(invalid(format!("{words} is {state}, so it has no network yet")));
    };
    let (Some(trained), Some(candidate), Some(work)) =
        (TrialValues::trained(values), &row.candidate, spec.training())
    else {
        return Err(invalid(format!("{words} was not trained here, so it has no network")));
    };
    let graph = candidate.pruned_graph(work.space.data())?;
    Ok((Hashes { model: trained.model, weights: trained.weights }, graph))
}

fn teacher(
    words: &str,
    status: &v1::StudyStatus,
    spec: &StudySpec,
) -> anyhow::Result<(Hashes, Graph)> {
    let work = spec.training();
    let named = work.and_then(|work| Some((work, work.teacher.as_ref()?)));
    let Some((work, teacher)) = named else {
        return Err(invalid(format!("{} has no teacher", spec.name)));
    };
    let Some(trained) = status.teacher.as_ref().and_then(|teacher| teacher.trained.clone()) else {
        return Err(invalid(format!("{words} is not trained yet")));
    };
    let trained = TrainedTrial::try_from(trained);
    let trained =
        trained.with_context(|| format!("failed to read {words} from the coordinator's answer"))?;
    let graph = teacher.architecture.graph(work.space.data())?;
    Ok((Hashes { model: trained.model, weights: trained.weights }, graph))
}

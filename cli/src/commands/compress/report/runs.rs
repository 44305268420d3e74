//! What the file of the best result computes in: integers, fp32 or by reference, and which of its
//! layers are left in fp32 for what reason.

use edgesmith_client::Coordinator;
use edgesmith_common::StudyName;
use edgesmith_edge_runtime::{Layer, Model, Session};
use edgesmith_graph::Graph;
use edgesmith_search_space::Arithmetic;
use edgesmith_worker::export::{Lifted, lift};
use serde_json::{Value, json};

use crate::commands::inspect;
use crate::model::{Computed, Form, Stored, StoredName, Why, arithmetic, named};
use crate::output::counted;

/// Most layers in fp32 that are named.
const MOST_FP32: usize = 8;

/// What a file computes in.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    pub(super) arithmetic: Arithmetic,
    pub(super) layers: Computed,
    /// What the engine allocates besides the model, bytes; `None` if it is not known.
    pub(super) memory: Option<u64>,
    /// Whether weights are levels that become fp32.
    pub(super) levels: bool,
    /// Its layers in fp32, if others are in integers; empty if they are not known.
    pub(super) fp32: Vec<InFp32>,
}

/// A layer in fp32 of a network that is partly in integers.
#[derive(Debug, Clone)]
pub(super) struct InFp32 {
    /// Its name in the network as it came, if that has it.
    pub(super) layer: String,
    pub(super) operation: String,
    pub(super) why: Why,
}

impl Runs {
    /// Of a trial of a study on this network.
    pub(super) async fn of(
        coordinator: &Coordinator,
        study: &StudyName,
        trial: u32,
        network: &Graph,
    ) -> anyhow::Result<Self> {
        let name = StoredName::Trial(trial);
        let stored = Stored::fetch(coordinator, study.as_str(), name).await?;
        Ok(Self::of_model(&stored.measured()?, network))
    }

    fn of_model(model: &Model, network: &Graph) -> Self {
        let (arithmetic, layers) = (arithmetic(model), Computed::of(model));
        let levels = model.nodes.iter().any(|node| matches!(node.layer, Layer::Leveled(_)));
        let memory = Session::new(model).ok().map(|session| session.peak_memory_bytes() as u64);
        let fp32 = if model.has_integers() { in_fp32(model, network) } else { Vec::new() };
        Self { arithmetic, layers, memory, levels, fp32 }
    }

    /// What computes a result, where that is not plain: after an empty line. `asked`: whether the
    /// recipe quantizes.
    pub(super) fn words(&self, asked: bool) -> String {
        let Computed { integers, fp32, conversions } = self.layers;
        match self.arithmetic {
            Arithmetic::Reference => {
                "\nIt runs by reference: no engine on a device computes with these bits, so the \
                 arithmetic is fp32 with every value rounded to its levels. The file has this \
                 accuracy and this size. It has no latency.\n"
            }
            Arithmetic::Fp32 if self.levels => {
                "\nOnly weights are quantized: they are levels in the file and become fp32 when it \
                 is loaded. A latency is that of fp32 arithmetic.\n"
            }
            Arithmetic::Fp32 if asked => {
                "\nNo weights are quantized: the recipe leaves all layers that have some in fp32.\n"
            }
            Arithmetic::Integers if fp32 > 0 => {
                let s = if integers == 1 { "s" } else { "" };
                return format!(
                    "\n{integers} of its layers compute{s} in integers and {fp32} in fp32, with {} \
                     between them.\n{}",
                    counted(conversions, "conversion"),
                    self.fp32_words()
                );
            }
            Arithmetic::Fp32 | Arithmetic::Integers => "",
        }
        .to_owned()
    }

    /// The layers in fp32, in a line.
    fn fp32_words(&self) -> String {
        let layer =
            |InFp32 { layer, operation, why }: &InFp32| format!("{layer} ({operation}: {why})");
        let named: Vec<String> = self.fp32.iter().take(MOST_FP32).map(layer).collect();
        if named.is_empty() {
            return String::new();
        }
        let more = match self.fp32.len() - named.len() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!("In fp32: {}{more}.\n", named.join(", "))
    }
}

/// The layers of a model in fp32, with their names in the network that it was made of.
fn in_fp32(model: &Model, network: &Graph) -> Vec<InFp32> {
    let Ok(Lifted { graph, .. }) = lift(model) else { return Vec::new() };
    let forms = Form::of(&graph, model).unwrap_or_default();
    let named = named(&graph, network).into_iter().zip(forms);
    let in_fp32 = named.filter_map(|((id, layer), (_, form))| match form {
        Form::Integers => None,
        Form::Fp32(why) => {
            let operation = inspect::words(&graph, graph.node(id));
            Some(InFp32 { layer, operation, why })
        }
    });
    in_fp32.collect()
}

pub(super) fn in_json(layers: &[InFp32]) -> Vec<Value> {
    let layer = |InFp32 { layer, operation, why }: &InFp32| {
        let why = why.name();
        json!({ "layer": layer, "operation": operation, "fp32_because": why })
    };
    layers.iter().map(layer).collect()
}

//! `edgesmith inspect`: what a network is made of and what it costs, without running it.

use edgesmith_client::Connection;
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, invalid, print};
use edgesmith_edge_runtime::Target;
use edgesmith_graph::{Graph, Node, Op, Operation as _};
use serde::Serialize;
use serde_json::json;

use crate::model::{Opened, Reading};
use crate::output::json;

/// Most letters of a layer's name in the table.
const MAX_NAME: usize = 40;

/// Arguments: the network.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub reading: Reading,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub connection: Connection,
}

/// Prints what a network is made of.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let opened = Opened::open(&args.reading, &args.connection).await?;
    let graph = opened.graph.clone().map_err(|reason| {
        invalid(format!("failed to list the layers of {}: {reason}", opened.words))
    })?;
    print(&Inspection { opened, graph }, args.format)
}

struct Inspection {
    opened: Opened,
    graph: Graph,
}

/// A layer as it runs: a node with what is computed along with it.
struct Layer {
    name: String,
    operation: String,
    output: String,
    macs: u64,
    parameters: u64,
    stage: Option<u32>,
}

impl Inspection {
    fn layers(&self) -> Vec<Layer> {
        let graph = &self.graph;
        let (fused, parameters) = (graph.fused(), graph.shipped_parameters());
        let clips = graph.absorbed_clips();
        let mut layers = Vec::new();
        for (id, node) in graph.nodes().filter(|(id, _)| !fused[id.index()]) {
            let mut operation = words(graph, node);
            if let Some((clip, _)) = clips[id.index()] {
                operation.push_str(" + ");
                operation.push_str(&words(graph, graph.node(clip)));
            }
            layers.push(Layer {
                name: graph.value(node.output).name.to_string(),
                operation,
                output: graph.shape(node.output).to_string(),
                macs: graph.macs(node),
                parameters: parameters[id.index()],
                stage: node.place.stage,
            });
        }
        layers
    }

    /// Bytes of the engine's plan; `None` if it does not run the network.
    fn peak_memory(&self) -> Option<u64> {
        let model = self.opened.model.as_ref().ok()?;
        Some(model.plan(Target::Host).ok()?.bytes())
    }
}

impl Output for Inspection {
    fn table(&self) -> String {
        let Opened { words, bytes, model, class_names, .. } = &self.opened;
        let cost = self.graph.cost();
        let columns = [
            ("layer", Align::Left),
            ("operation", Align::Left),
            ("output", Align::Left),
            ("MACs", Align::Right),
            ("parameters", Align::Right),
            ("stage", Align::Right),
        ];
        let figure = |n: u64| if n == 0 { "–".to_owned() } else { table::count(n) };
        let row = |layer: Layer| {
            let stage = layer.stage.map_or_else(|| "–".to_owned(), |stage| (stage + 1).to_string());
            vec![
                shortened(&layer.name),
                layer.operation,
                layer.output,
                figure(layer.macs),
                figure(layer.parameters),
                stage,
            ]
        };
        let rows: Vec<Vec<String>> = self.layers().into_iter().map(row).collect();
        let mut text = format!("{words}\n\n");
        text.push_str(&table::render(&columns, &rows));
        text.push('\n');
        let mut say = |name: &str, what: String| text.push_str(&format!("{name:<12}{what}\n"));
        for port in &self.opened.inputs {
            say("input", port.to_string());
        }
        for port in &self.opened.outputs {
            say("output", port.to_string());
        }
        if !class_names.is_empty() {
            say("classes", class_names.join(", "));
        }
        say("MACs", table::count(cost.macs));
        say("parameters", table::count(cost.parameters));
        say("file", table::bytes(*bytes));
        match (model, self.peak_memory()) {
            (Ok(_), Some(peak)) => say("memory", format!("{} while it runs", table::bytes(peak))),
            (Ok(_), None) => say("memory", "more than the engine's limit".to_owned()),
            (Err(reason), _) => say("not run", reason.clone()),
        }
        text
    }

    fn json(&self) -> impl Serialize {
        let Opened { words, bytes, model, class_names, inputs, outputs, .. } = &self.opened;
        let cost = self.graph.cost();
        let layer = |layer: Layer| {
            let mut json = json!({
                "name": layer.name, "operation": layer.operation, "output": layer.output,
                "macs": layer.macs, "parameters": layer.parameters,
            });
            if let Some(stage) = layer.stage {
                json["stage"] = (stage + 1).into();
            }
            json
        };
        let layers: Vec<_> = self.layers().into_iter().map(layer).collect();
        let port = |port: &crate::model::Port| json!({ "name": port.name, "shape": port.sizes });
        let mut document = json!({
            "version": json::VERSION, "model": words, "layers": layers,
            "inputs": inputs.iter().map(port).collect::<Vec<_>>(),
            "outputs": outputs.iter().map(port).collect::<Vec<_>>(),
            "macs": cost.macs, "parameters": cost.parameters, "file_bytes": bytes,
        });
        if !class_names.is_empty() {
            document["classes"] = class_names.as_slice().into();
        }
        if let Some(peak) = self.peak_memory() {
            document["peak_memory_bytes"] = peak.into();
        }
        if let Err(reason) = model {
            document["not_run"] = reason.as_str().into();
        }
        document
    }
}

/// An operation with the settings that people look for.
fn words(graph: &Graph, node: &Node) -> String {
    let by = |sizes: &[u32]| {
        let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
        sizes.join("x")
    };
    let window = |kernel: &[u32], strides: Vec<u32>| {
        let mut text = by(kernel);
        if strides.iter().any(|&stride| stride != 1) {
            text.push_str(" /");
            let even = strides.iter().all(|stride| *stride == strides[0]);
            text.push_str(&if even { strides[0].to_string() } else { by(&strides) });
        }
        text
    };
    let weight = || &graph.parameter(node.parameters[0]).shape;
    let kind = node.op.kind().replace('_', " ");
    match &node.op {
        Op::Conv(conv) => {
            let channels = graph.shape(node.inputs[0]).channels();
            let strides = conv.axes.iter().map(|axis| axis.stride).collect();
            let window = window(&weight()[2..], strides);
            match conv.parts(channels) {
                1 => format!("conv {window}"),
                parts if parts == channels => format!("depthwise conv {window}"),
                parts => format!("conv {window} in {parts} groups"),
            }
        }
        Op::ConvTranspose(conv) => {
            let strides = conv.axes.iter().map(|axis| axis.stride).collect();
            format!("{kind} {}", window(&weight()[2..], strides))
        }
        Op::MaxPool(pool) => {
            let strides = pool.axes.iter().map(|axis| axis.stride).collect();
            format!("{kind} {}", window(&pool.kernel, strides))
        }
        Op::AveragePool(pool) => {
            let strides = pool.axes.iter().map(|axis| axis.stride).collect();
            format!("{kind} {}", window(&pool.kernel, strides))
        }
        Op::Map(map) => variant(&map.function),
        Op::Binary(binary) => variant(&binary.function),
        Op::Reduce(reduce) => format!("{kind} {}", variant(&reduce.function)),
        Op::Clip(clip) if *clip == edgesmith_graph::Clip::RELU => "relu".to_owned(),
        Op::Clip(clip) if *clip == edgesmith_graph::Clip::RELU6 => "relu6".to_owned(),
        _ => kind,
    }
}

/// A name that leaves room for the other columns. Some exporters join the names of all operations
/// that became one.
fn shortened(name: &str) -> String {
    if name.chars().count() <= MAX_NAME {
        return name.to_owned();
    }
    name.chars().take(MAX_NAME - 1).chain(['…']).collect()
}

/// The name of an enum's variant in small letters, without its settings: `hard swish`.
fn variant(of: &impl std::fmt::Debug) -> String {
    let name = format!("{of:?}");
    let name = name.split([' ', '{', '(']).next().unwrap_or_default();
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::Function;

    use super::*;

    #[test]
    fn long_names_are_shortened() {
        assert_eq!(shortened("conv1"), "conv1");
        let short = shortened(&"model/relu;".repeat(20));
        assert!(short.starts_with("model/relu;model") && short.ends_with('…'), "{short}");
        assert_eq!(short.chars().count(), MAX_NAME);
    }

    #[test]
    fn functions_have_their_names() {
        assert_eq!(variant(&Function::HardSwish), "hard swish");
        assert_eq!(variant(&Function::Power { exponent: 2.0 }), "power");
    }
}

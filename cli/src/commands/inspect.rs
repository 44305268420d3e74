//! `edgesmith inspect`: what a network is made of, what it costs and where it comes from. It runs
//! only the test vectors of the file, and only if asked.

use std::collections::BTreeMap;

use edgesmith_client::Connection;
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, invalid, print};
use edgesmith_edge_runtime as edge;
use edgesmith_edge_runtime::{
    Array, Input, Model, Normalization, Session, StoredTensor, Target, TestResult,
};
use edgesmith_graph::{Graph, Node, Op, Operation as _};
use serde::Serialize;
use serde_json::json;

use crate::model::{Computed, Form, Opened, Port, Reading};
use crate::output::{counted, json, layers_in_words};

/// Arguments: the network.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub reading: Reading,
    /// Run the test vectors in the file of an edge model, and fail if an output differs
    #[arg(long)]
    pub check: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub connection: Connection,
}

/// Prints what a network is made of.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let opened = Opened::open(&args.reading, &args.connection).await?;
    let tests = if args.check { Some(check(&opened)?) } else { None };
    let differ = tests.as_ref().is_some_and(|tests| !tests.iter().all(TestResult::passes));
    let words = opened.words.clone();
    print(&Inspection { opened, tests }, args.format)?;
    anyhow::ensure!(!differ, "{words} does not compute on this machine what its file says");
    Ok(())
}

/// Runs the test vectors of a network's file.
fn check(opened: &Opened) -> anyhow::Result<Vec<TestResult>> {
    let model = opened.engine_model()?;
    if model.notes.tests.is_empty() {
        return Err(invalid(format!(
            "{} has no test vectors; files of trials and teachers that this version writes have them",
            opened.words
        )));
    }
    Ok(Session::new(model)?.check(&model.notes)?)
}

struct Inspection {
    opened: Opened,
    /// What came of the test vectors, if they were run.
    tests: Option<Vec<TestResult>>,
}

/// A layer as it runs: a node with what is computed along with it.
struct Layer {
    name: String,
    operation: String,
    output: String,
    macs: u64,
    parameters: u64,
    stage: Option<u32>,
    /// How its weight is stored; `None` without one, and if it is not known.
    stored: Option<StoredTensor>,
    /// What it computes in; `None` if the model has no integers, or if it is not known.
    form: Option<Form>,
}

impl Inspection {
    fn layers(&self, graph: &Graph) -> Vec<Layer> {
        let (parameters, clips) = (graph.shipped_parameters(), graph.absorbed_clips());
        let mut stored = self.stored();
        if stored.len() != graph.nodes().filter(|(_, node)| graph.has_weight(node)).count() {
            stored.clear();
        }
        let mut stored = stored.into_iter();
        let forms = self.opened.model.as_ref().ok().filter(|model| model.has_integers());
        let mut forms =
            forms.and_then(|model| Form::of(graph, model)).unwrap_or_default().into_iter();
        let mut layers = Vec::new();
        for (id, node) in graph.layers() {
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
                stored: if graph.has_weight(node) { stored.next() } else { None },
                form: forms.next().map(|(_, form)| form),
            });
        }
        layers
    }

    /// How the weights of layers are stored in the order of the network, if any is packed.
    fn stored(&self) -> Vec<StoredTensor> {
        let Ok(model) = &self.opened.model else { return Vec::new() };
        let stored = model.nodes.iter().zip(model.stored_weights());
        let stored = stored.filter(|(node, _)| !matches!(node.layer, edge::Layer::Constant(_)));
        let stored: Vec<StoredTensor> = stored.flat_map(|(_, weights)| weights).collect();
        let packed = stored.iter().any(|weight| weight.packing.is_some());
        if packed { stored } else { Vec::new() }
    }

    /// How the bytes of each input are normalised; `None` if it is in fp32.
    fn normalizations<'a>(&'a self) -> Vec<Option<&'a Normalization>> {
        let Ok(model) = &self.opened.model else { return vec![None; self.opened.inputs.len()] };
        let of = |input: &'a Input| match &input.array {
            Array::Bytes(normalization) => Some(normalization),
            Array::Fp32 => None,
        };
        model.inputs.iter().map(of).collect()
    }

    /// What came of the test vectors; `None` if the file has none.
    fn tests(&self) -> Option<String> {
        let count = self.opened.model.as_ref().ok()?.notes.tests.len();
        match &self.tests {
            None if count == 0 => None,
            None => Some(format!("{}, not run (--check)", counted(count, "test vector"))),
            Some(results) => Some(said(results)),
        }
    }

    /// Bytes of the engine's plan; `None` if it does not run the network.
    fn peak_memory(&self) -> Option<u64> {
        let model = self.opened.model.as_ref().ok()?;
        Some(model.plan(Target::Host).ok()?.bytes())
    }
}

impl Output for Inspection {
    fn table(&self) -> String {
        let Opened { words, bytes, graph, model, class_names, .. } = &self.opened;
        let mut columns = vec![
            ("layer", Align::Left),
            ("operation", Align::Left),
            ("output", Align::Left),
            ("MACs", Align::Right),
            ("parameters", Align::Right),
            ("stage", Align::Right),
        ];
        let figure = |n: u64| if n == 0 { "–".to_owned() } else { table::count(n) };
        let integers = model.as_ref().is_ok_and(Model::has_integers);
        if integers {
            columns.push(("computes in", Align::Left));
        }
        let packed = !self.stored().is_empty();
        if packed {
            columns.push(("weights that are not 0, and how they are stored", Align::Left));
        }
        let row = |layer: Layer| {
            let stage = layer.stage.map_or_else(|| "–".to_owned(), |stage| (stage + 1).to_string());
            let mut row = vec![
                layer.name,
                layer.operation,
                layer.output,
                figure(layer.macs),
                figure(layer.parameters),
                stage,
            ];
            if integers {
                row.push(layer.form.map_or_else(|| "–".to_owned(), |form| form.to_string()));
            }
            if packed {
                row.push(layer.stored.map_or_else(|| "–".to_owned(), |stored| storage(&stored)));
            }
            row
        };
        let mut text = format!("{words}\n\n");
        match graph {
            Ok(graph) => {
                let rows: Vec<Vec<String>> = self.layers(graph).into_iter().map(row).collect();
                text.push_str(&table::render(&columns, &rows));
            }
            Err(reason) => text.push_str(&format!("its layers cannot be listed: {reason}\n")),
        }
        text.push('\n');
        let mut say = |name: &str, what: String| text.push_str(&format!("{name:<12}{what}\n"));
        for (port, normalization) in self.opened.inputs.iter().zip(self.normalizations()) {
            say("input", port.to_string());
            if let Some(Normalization { mean, std, .. }) = normalization {
                say(
                    "",
                    format!("(byte / 255 - mean) / std, mean {}, std {}", list(mean), list(std)),
                );
            }
        }
        for port in &self.opened.outputs {
            say("output", port.to_string());
        }
        if !class_names.is_empty() {
            say("classes", class_names.join(", "));
        }
        if let Ok(graph) = graph {
            say("layers", layers_in_words(graph));
            let cost = graph.cost();
            say("MACs", table::count(cost.macs));
            say("parameters", table::count(cost.parameters));
        }
        if let Some(model) = model.as_ref().ok().filter(|model| model.has_integers()) {
            let Computed { integers, fp32, conversions } = Computed::of(model);
            let (layers, s) = (counted(integers, "layer"), if conversions == 1 { "s" } else { "" });
            let text =
                format!("{layers} in integers, {fp32} in fp32, {conversions} that convert{s}");
            say("engine", text);
        }
        if model.as_ref().is_ok_and(Model::runs_by_reference) {
            say("engine", "by reference: fp32, with values rounded to levels".to_owned());
        }
        let counted = model.as_ref().ok().filter(|model| !model.notes.provenance.is_empty());
        say(
            "file",
            match counted.map(Model::counted_bytes) {
                Some(counted) => {
                    let (bytes, counted) = (table::bytes(*bytes), table::bytes(counted));
                    format!("{bytes}, {counted} without origin and test vectors")
                }
                None => table::bytes(*bytes),
            },
        );
        if let Ok(Model { notes, .. }) = model {
            let pairs = [("picture", &notes.preprocessing), ("origin", &notes.provenance)];
            for (name, pairs) in pairs {
                for (at, (key, text)) in pairs.iter().enumerate() {
                    say(
                        if at == 0 { name } else { "" },
                        format!("{} {text}", key.replace('_', " ")),
                    );
                }
            }
        }
        if let Some(tests) = self.tests() {
            say("check", tests);
        }
        match (model, self.peak_memory()) {
            (Ok(_), Some(peak)) => say("memory", format!("{} while it runs", table::bytes(peak))),
            (Ok(_), None) => say("memory", "more than the engine's limit".to_owned()),
            (Err(reason), _) => say("not run", reason.clone()),
        }
        text
    }

    fn json(&self) -> impl Serialize {
        let Opened { words, bytes, graph, model, class_names, inputs, outputs, .. } = &self.opened;
        let layer = |layer: Layer| {
            let mut json = json!({
                "name": layer.name, "operation": layer.operation, "output": layer.output,
                "macs": layer.macs, "parameters": layer.parameters,
            });
            if let Some(stage) = layer.stage {
                json["stage"] = (stage + 1).into();
            }
            if let Some(form) = layer.form {
                json["computes_in"] = form.name().into();
                if let Form::Fp32(why) = form {
                    json["fp32_because"] = why.name().into();
                }
            }
            if let Some(stored) = layer.stored {
                let StoredTensor { numbers, zeros, bytes, packing } = stored;
                json["stored"] = json!({
                    "weights": numbers, "zeros": zeros, "bytes": bytes,
                    "packing": packing.map(|packing| packing.to_string()),
                });
            }
            json
        };
        let port = |port: &Port| json!({ "name": port.name, "shape": port.sizes });
        let input = |(of, normalization): (&Port, Option<&Normalization>)| {
            let mut json = port(of);
            json["holds"] = if of.bytes { "bytes" } else { "fp32" }.into();
            json["channels_axis"] = of.channels.into();
            if let Some(Normalization { mean, std, .. }) = normalization {
                json["mean"] = mean.as_slice().into();
                json["std"] = std.as_slice().into();
            }
            json
        };
        let mut document = json!({
            "version": json::VERSION, "model": words,
            "inputs": inputs.iter().zip(self.normalizations()).map(input).collect::<Vec<_>>(),
            "outputs": outputs.iter().map(port).collect::<Vec<_>>(),
            "file_bytes": bytes,
        });
        match graph {
            Ok(graph) => {
                let cost = graph.cost();
                document["layers"] = self.layers(graph).into_iter().map(layer).collect();
                document["macs"] = cost.macs.into();
                document["parameters"] = cost.parameters.into();
            }
            Err(reason) => document["not_listed"] = reason.as_str().into(),
        }
        if !class_names.is_empty() {
            document["classes"] = class_names.as_slice().into();
        }
        if let Ok(model) = model {
            let notes = &model.notes;
            document["counted_bytes"] = model.counted_bytes().into();
            document["engine_layers"] = json!(Computed::of(model));
            let pairs =
                [("preprocessing", &notes.preprocessing), ("provenance", &notes.provenance)];
            for (name, pairs) in pairs.into_iter().filter(|(_, pairs)| !pairs.is_empty()) {
                document[name] = json!(pairs.iter().cloned().collect::<BTreeMap<_, _>>());
            }
            if !notes.tests.is_empty() {
                document["tests"] = json!({ "count": notes.tests.len() });
            }
        }
        if let Some(results) = &self.tests {
            let result = |result: &TestResult| {
                let TestResult { difference, tolerance } = result;
                json!({ "difference": difference, "tolerance": tolerance, "passes": result.passes() })
            };
            document["tests"]["results"] = results.iter().map(result).collect();
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

/// How many of a layer's weights are not 0, and how they are stored.
fn storage(stored: &StoredTensor) -> String {
    let StoredTensor { numbers, zeros, bytes, packing } = stored;
    let density = 100.0 * (numbers - zeros) as f64 / (*numbers).max(1) as f64;
    let packing = packing.map_or_else(|| "plain".to_owned(), |packing| packing.to_string());
    format!("{density:.1} % in {}, {packing}", table::bytes(*bytes))
}

/// An operation with the settings that people look for.
pub fn words(graph: &Graph, node: &Node) -> String {
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

/// What came of test vectors, in words.
fn said(results: &[TestResult]) -> String {
    let differs = |(at, result): (usize, &TestResult)| {
        let TestResult { difference, tolerance } = result;
        let text = format!("{} by {difference} ({tolerance} allowed)", at + 1);
        (!result.passes()).then_some(text)
    };
    let differ: Vec<String> = results.iter().enumerate().filter_map(differs).collect();
    if let ([_], []) = (results, &differ[..]) {
        return "its 1 test vector passes".to_owned();
    }
    let count = results.len();
    if differ.is_empty() {
        return format!("all {count} test vectors pass");
    }
    let (vectors, s) = (counted(count, "test vector"), if differ.len() == 1 { "s" } else { "" });
    format!("{} of {vectors} differ{s}: number {}", differ.len(), differ.join(", "))
}

/// `0.485, 0.456`
fn list(numbers: &[f32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
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

    /// A table that holds something else than the function that it names.
    #[test]
    fn a_model_whose_layers_cannot_be_listed_is_checked() {
        let bytes = edge::Element::Uint8(edge::Quantization { scale: 0.1, zero_point: 0 });
        let (function, tables) = (Some(edge::Function::Tanh), (0..=255).rev().collect());
        let layer = edge::Table { function, tables }.into();
        let mut model = Model {
            inputs: vec![Input {
                name: "x".to_owned(),
                shape: edge::Shape::new(&[4]).unwrap(),
                order: vec![0],
                array: Array::Fp32,
                element: bytes,
            }],
            nodes: vec![edge::Node { inputs: vec![edge::ValueId(0)], layer, output: bytes }],
            outputs: vec![edge::Output::new("y", edge::ValueId(1), 1)],
            rounding: edge::Rounding::Once,
            notes: edge::Notes::default(),
        };
        model.add_tests(1 << 10).unwrap();
        let opened = Opened::edge("net.edge".to_owned(), 7, model, vec![]).unwrap();
        let reason = opened.graph.clone().unwrap_err();
        let tests = Some(check(&opened).unwrap());
        let inspection = Inspection { opened, tests };
        let text = inspection.table();
        assert!(text.contains(&format!("its layers cannot be listed: {reason}")), "{text}");
        assert!(text.contains("all 4 test vectors pass"), "{text}");
        let document = serde_json::to_value(inspection.json()).unwrap();
        assert_eq!(document["not_listed"], reason.as_str());
        assert_eq!(document["tests"]["count"], 4);
        assert_eq!((document.get("layers"), document.get("macs")), (None, None));
    }

    #[test]
    fn packed_weights_are_shown_with_their_density() {
        let fp32 = edge::Element::Fp32;
        let model = |weight: Vec<f32>| {
            let linear =
                edge::Linear { in_features: 100, out_features: 2, weight, bias: vec![0.5; 2] };
            Model {
                inputs: vec![Input {
                    name: "x".to_owned(),
                    shape: edge::Shape::new(&[100]).unwrap(),
                    order: vec![0],
                    array: Array::Fp32,
                    element: fp32,
                }],
                nodes: vec![edge::Node {
                    inputs: vec![edge::ValueId(0)],
                    layer: linear.into(),
                    output: fp32,
                }],
                outputs: vec![edge::Output::new("y", edge::ValueId(1), 1)],
                rounding: edge::Rounding::Once,
                notes: edge::Notes::default(),
            }
        };
        let shown = |weight: Vec<f32>| {
            let opened = Opened::edge("net.edge".to_owned(), 7, model(weight), vec![]).unwrap();
            let inspection = Inspection { opened, tests: None };
            (inspection.table(), serde_json::to_value(inspection.json()).unwrap())
        };
        let (text, document) = shown((1..=200).map(|i| i as f32).collect());
        assert!(!text.contains("stored"), "{text}");
        assert_eq!(document["layers"][0].get("stored"), None);
        let weight = (0..200).map(|i| if i % 4 == 0 { i as f32 + 1.0 } else { 0.0 }).collect();
        let (text, document) = shown(weight);
        assert!(text.contains("25.0 % in 219 B, sparse (gaps), Huffman"), "{text}");
        let stored = json!({
            "weights": 200, "zeros": 150, "bytes": 219, "packing": "sparse (gaps), Huffman",
        });
        assert_eq!(document["layers"][0]["stored"], stored);
    }

    #[test]
    fn test_vectors_that_differ_are_numbered() {
        let result = |difference| TestResult { difference, tolerance: 0.5 };
        assert_eq!(said(&[result(0.0), result(0.5)]), "all 2 test vectors pass");
        assert_eq!(said(&[result(0.0)]), "its 1 test vector passes");
        let one = "1 of 2 test vectors differs: number 1 by 0.75 (0.5 allowed)";
        assert_eq!(said(&[result(0.75), result(0.0)]), one);
        assert_eq!(
            said(&[result(0.0), result(0.75), result(f32::NAN)]),
            "2 of 3 test vectors differ: number 2 by 0.75 (0.5 allowed), 3 by NaN (0.5 allowed)"
        );
    }

    #[test]
    fn functions_have_their_names() {
        assert_eq!(variant(&Function::HardSwish), "hard swish");
        assert_eq!(variant(&Function::Power { exponent: 2.0 }), "power");
    }
}

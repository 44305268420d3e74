//! Times training: images per second, on networks for three image sizes.
//!
//! `worker/train/src/throughput.rs` times the steps. `tests/compare_pytorch.py` reads the nodes
//! printed with `--format json` and trains the same networks in PyTorch.

use std::num::NonZeroUsize;
use std::time::Duration;

use edgesmith_common::spec::TrainingSpec;
use edgesmith_compress::{Calibration, Scheme, fold};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, invalid, number, print};
use edgesmith_graph::{Graph, Groups, Op, Operation as _, Quantization};
use edgesmith_search_space::{Activation, Architecture, DataShape, Operation, Skip, Stage};
use edgesmith_train::{Cores, Throughput, TrainDevice, fresh_weights};
use edgesmith_worker::slots;
use serde::Serialize;

const CLASSES: u32 = 10;

/// Arguments: which networks are trained, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Networks, separated by commas: plain-8, inverted-8, plain-28, inverted-28, separable-28,
    /// plain-32, inverted-32 [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub networks: Vec<String>,
    /// Numbers of threads for one training, each in turn; one more thread prepares the batches
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1",
          allow_negative_numbers = true, value_parser = threads)]
    pub threads: Vec<NonZeroUsize>,
    /// Numbers of images in a step, each in turn; a GPU needs many to be busy
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "64",
          allow_negative_numbers = true, value_parser = number::whole(2..=4096_u32))]
    pub batch_size: Vec<u32>,
    /// Seconds that each training is timed
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0,
          allow_negative_numbers = true, value_parser = number::above_zero)]
    pub seconds: f64,
    /// Device that trains: flex, or wgpu if the program is built with it
    #[arg(long, default_value = "flex")]
    pub backend: String,
    /// Train with simulated quantization to 8 bits: batch normalisation is folded, and the scales
    /// learn along
    #[arg(long)]
    pub quantized: bool,
    /// How to print; json contains the layers of each network
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

/// Reads a number of threads.
fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let count = number::whole(1..=1024_u32)(text)?;
    Ok(NonZeroUsize::new(count as usize).expect("at least 1"))
}

/// A network with its name.
struct Candidate {
    name: &'static str,
    channels: u32,
    architecture: Architecture,
}

/// One network, trained with one number of threads and one batch size.
#[derive(Debug, Serialize)]
struct Row<'a> {
    network: &'static str,
    architecture: String,
    threads: usize,
    batch_size: u32,
    steps: u64,
    seconds: f64,
    images_per_second: f64,
    parameters: u64,
    image: Vec<u32>,
    nodes: Vec<Node>,
    #[serde(skip)]
    graph: &'a Graph,
}

/// One node of a network, for comparisons that train the same network elsewhere.
#[derive(Debug, Serialize)]
struct Node {
    kind: &'static str,
    /// The values that it reads: 0 is the image, `i + 1` the output of node `i`.
    inputs: Vec<usize>,
    /// Of the output.
    channels: u32,
    /// The node itself, where that is more than its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
}

/// What a node is besides its kind.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Settings {
    Conv { kernel: u32, stride: u32, depthwise: bool },
    Clip { low: f32, high: Option<f32> },
}

/// All rows of a run.
#[derive(Debug, Serialize)]
struct Timed<'a> {
    version: u32,
    quantized: bool,
    optimizer: &'static str,
    label_smoothing: f64,
    weight_decay: f64,
    learning_rate: f64,
    rows: Vec<Row<'a>>,
}

/// Times everything and prints the result.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let all = candidates();
    let chosen: Vec<&Candidate> = match &args.networks[..] {
        [] => all.iter().collect(),
        names => names
            .iter()
            .map(|name| {
                all.iter().find(|candidate| candidate.name == name).ok_or_else(|| {
                    let known: Vec<&str> = all.iter().map(|candidate| candidate.name).collect();
                    invalid(format!("unknown network {name:?}; use {}", known.join(", ")))
                })
            })
            .collect::<anyhow::Result<_>>()?,
    };
    let seconds = Duration::try_from_secs_f64(args.seconds).map_err(|_| {
        invalid(format!("--seconds {} is not a valid time; use 3, for example", args.seconds))
    })?;
    let device = TrainDevice::parse(&args.backend).map_err(|error| invalid(error.to_string()))?;
    let mut graphs = Vec::new();
    for candidate in chosen {
        let shape = DataShape { channels: candidate.channels, classes: CLASSES };
        let graph = candidate.architecture.graph(shape)?;
        let (graph, quantization) = if args.quantized {
            let (folded, quantization) = quantized(&graph)?;
            (folded, Some(quantization))
        } else {
            (graph, None)
        };
        graphs.push((candidate, graph, quantization));
    }
    let mut rows = Vec::new();
    for (candidate, graph, quantization) in &graphs {
        for &threads in &args.threads {
            for &batch_size in &args.batch_size {
                let cores = Cores::new(threads)?;
                let training = Throughput::usual_training(batch_size);
                let trained = (graph, quantization.as_ref());
                let timed = Throughput::measure(trained, &training, device, &cores, seconds)?;
                rows.push(Row {
                    network: candidate.name,
                    architecture: candidate.architecture.to_string(),
                    threads: threads.get(),
                    batch_size,
                    steps: timed.steps,
                    seconds: timed.took.as_secs_f64(),
                    images_per_second: timed.images_per_second(),
                    parameters: graph.cost().parameters,
                    image: image(graph),
                    nodes: nodes(graph),
                    graph,
                });
            }
        }
    }
    // These are the same in every row; only the batch size differs.
    let TrainingSpec { label_smoothing, weight_decay, learning_rate, .. } =
        Throughput::usual_training(2);
    let timed = Timed {
        version: 2,
        quantized: args.quantized,
        optimizer: "adamw",
        label_smoothing,
        weight_decay,
        learning_rate,
        rows,
    };
    print(&timed, args.format)
}

/// The same network with batch normalisation folded, and scales for 8 bits. They are those of one
/// image and of random weights, because the time of a step does not depend on them.
fn quantized(graph: &Graph) -> anyhow::Result<(Graph, Quantization)> {
    let (graph, weights) = fold(graph, &fresh_weights(graph, [1; 32]));
    let mut calibration = Calibration::new(&graph, &weights);
    calibration.observe(vec![0.5; graph.input().elements() as usize])?;
    let quantization = calibration.finish((0.0, 1.0), &Scheme::default())?;
    Ok((graph, quantization))
}

impl Output for Timed<'_> {
    fn table(&self) -> String {
        let columns = [
            ("network", Align::Left),
            ("threads", Align::Right),
            ("batch", Align::Right),
            ("images/s", Align::Right),
            ("MACs", Align::Right),
            ("parameters", Align::Right),
            ("layers", Align::Left),
        ];
        let cells: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                vec![
                    row.network.to_owned(),
                    row.threads.to_string(),
                    row.batch_size.to_string(),
                    format!("{:.0}", row.images_per_second),
                    table::count(row.graph.total_macs()),
                    table::count(row.parameters),
                    row.architecture.clone(),
                ]
            })
            .collect();
        table::render(&columns, &cells)
    }

    fn json(&self) -> impl Serialize {
        self
    }
}

/// Plain, separable and inverted-residual networks for images like those of the digits, of
/// Fashion-MNIST and of CIFAR-10.
fn candidates() -> Vec<Candidate> {
    let conv = Operation::Conv;
    let inverted = |expansion| Operation::InvertedResidual { expansion };
    let stage = |operation, kernel, width, stride| Stage {
        depth: 2,
        width,
        kernel,
        operation,
        stride,
        activation: Activation::Relu,
        squeeze: 0,
        skip: Skip::Add,
    };
    let candidate = |name, channels, resolution, stages| Candidate {
        name,
        channels,
        architecture: Architecture { resolution, stem_width: 16, stages },
    };
    let three = |operation| {
        vec![stage(operation, 3, 24, 1), stage(operation, 3, 48, 2), stage(operation, 3, 96, 2)]
    };
    // Workers choose their number of slots with this network.
    let (architecture, data) = slots::timed_network();
    vec![
        candidate("plain-8", 1, 8, vec![stage(conv, 3, 24, 1), stage(conv, 3, 48, 2)]),
        candidate(
            "inverted-8",
            1,
            8,
            vec![stage(inverted(3), 3, 24, 1), stage(inverted(3), 3, 48, 2)],
        ),
        candidate("plain-28", 1, 28, vec![stage(conv, 3, 24, 2), stage(conv, 3, 48, 2)]),
        Candidate { name: "inverted-28", channels: data.channels, architecture },
        candidate(
            "separable-28",
            1,
            28,
            vec![stage(Operation::Separable, 5, 32, 1), stage(Operation::Separable, 3, 64, 2)],
        ),
        candidate("plain-32", 3, 32, three(conv)),
        candidate("inverted-32", 3, 32, three(inverted(4))),
    ]
}

/// Channels, rows and columns of the input.
fn image(graph: &Graph) -> Vec<u32> {
    std::iter::once(graph.input().channels()).chain(graph.input().space().to_vec()).collect()
}

/// The nodes of a network of a space.
fn nodes(graph: &Graph) -> Vec<Node> {
    let node = |node: &edgesmith_graph::Node| {
        let settings = if let Op::Conv(conv) = &node.op {
            Some(Settings::Conv {
                kernel: graph.parameter(node.parameters[0]).shape[2],
                stride: conv.axes[0].stride,
                depthwise: conv.groups == Groups::PerChannel,
            })
        } else if let Op::Clip(clip) = &node.op {
            let high = clip.high.is_finite().then_some(clip.high);
            Some(Settings::Clip { low: clip.low, high })
        } else {
            None
        };
        Node {
            kind: node.op.kind(),
            inputs: node.inputs.iter().map(|input| input.index()).collect(),
            channels: graph.shape(node.output).channels(),
            settings,
        }
    };
    graph.nodes().map(|(_, of)| node(of)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_network() {
        let mut command = <crate::Args as clap::CommandFactory>::command();
        let help = command.find_subcommand_mut("train").unwrap().render_long_help().to_string();
        for candidate in candidates() {
            assert!(help.contains(candidate.name), "{} is not in {help}", candidate.name);
        }
    }

    #[test]
    fn every_network_trains_on_every_number_of_threads() {
        let spec = Throughput::usual_training(4);
        for candidate in candidates() {
            let shape = DataShape { channels: candidate.channels, classes: CLASSES };
            let graph = candidate.architecture.graph(shape).unwrap();
            for cores in [Cores::one(), Cores::new(2.try_into().unwrap()).unwrap()] {
                let enough = Duration::from_nanos(1);
                let flex = TrainDevice::Flex;
                let (folded, quantization) = quantized(&graph).unwrap();
                for trained in [(&graph, None), (&folded, Some(&quantization))] {
                    let timed = Throughput::measure(trained, &spec, flex, &cores, enough).unwrap();
                    assert_eq!(timed.steps, 1, "{}", candidate.name);
                    assert!(timed.took > Duration::ZERO);
                }
            }
        }
    }
}

//! `edgesmith sensitivity`: what quantizing or pruning each layer of a network alone would cost,
//! worst first, and what follows for its recipe.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use edgesmith_client::{Connection, Coordinator, read_data};
use edgesmith_common::spec::DataFile;
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, invalid, number, print, start};
use edgesmith_data::{Dataset, ImageSet, Normalization};
use edgesmith_edge_runtime::InputSpec;
use edgesmith_graph::{Graph, Weights};
use edgesmith_worker::export::lift;
use edgesmith_worker::sensitivity::{Asked, Effect, Layer, Sensitivity, sensitivity};
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::evaluate;
use crate::model::{EdgeFile, FileKind, ModelName, OnnxFile, Opened, PixelArgs, Pixels, Stored};
use crate::output::{counted, json, stages};

/// A loss of accuracy that matters, as a share of images.
const MATTERS: f64 = 0.005;
/// Chance on fewer images is so wide that a great loss hides in it.
const ENOUGH_IMAGES: usize = 100;

/// Arguments: the network, the data, and what is tried.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The network: a file that ends in .onnx or .edge, a trial as STUDY/NUMBER, or the teacher of
    /// a study as STUDY/teacher
    #[arg(value_name = "MODEL")]
    pub model: ModelName,
    /// File whose data are used: a study file, or one that has only the data table
    #[arg(long, value_name = "DATA.toml")]
    pub data: PathBuf,
    /// Validation images that the network is compared on, at most
    #[arg(long, value_name = "N", default_value_t = 1000, allow_negative_numbers = true,
          value_parser = number::whole(1..=1_000_000_u32))]
    pub images: u32,
    /// Training images for the ranges of integers, at most
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true,
          value_parser = number::whole(1..=10_000_u32))]
    pub examples: u32,
    /// Share of its channels that a layer loses when it is pruned
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, allow_negative_numbers = true)]
    pub share: f64,
    /// Base directory of relative data paths in the study [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    #[command(flatten)]
    pub pixels: PixelArgs,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub connection: Connection,
}

/// Changes each layer alone, and prints what that costs.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if !(args.share > 0.0 && args.share < 1.0) {
        return Err(invalid(format!("--share {} must be above 0 and below 1", args.share)));
    }
    let network = Network::open(&args).await?;
    let data = read_data(&args.data)?;
    let shutdown = start::shutdown_on_signal()?;
    let words = network.words.clone();
    let (share, most) = (args.share, [args.images, args.examples].map(|n| n as usize));
    let root = args.data_root.unwrap_or_else(|| PathBuf::from("."));
    let asking = tokio::task::spawn_blocking(move || {
        let (judged, calibration) = network.images(&data, &root, most)?;
        let Network { graph, weights, normalization, .. } = &network;
        let (calibration, judged) = (&calibration, &judged);
        let asked = Asked { graph, weights, normalization, calibration, judged, share };
        let mut told = None;
        let found = sensitivity(asked, &mut |done, all| {
            if told.replace(done) != Some(done) {
                eprintln!("{done}/{all} layers");
            }
            if shutdown.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        anyhow::Ok((judged.len(), found))
    });
    let (images, found) = asking.await??;
    print(&Answer { words, images, share, found }, args.format)
}

/// A network with its weights.
struct Network {
    words: String,
    graph: Graph,
    weights: Weights,
    normalization: Normalization,
    class_names: Vec<String>,
}

impl Network {
    async fn open(args: &Args) -> anyhow::Result<Self> {
        let (model, class_names, words) = match &args.model {
            ModelName::File(path, FileKind::Onnx) => return Self::onnx(path, &args.pixels),
            ModelName::File(path, FileKind::Edge) => {
                let EdgeFile { model, class_names, .. } = EdgeFile::read(path)?;
                (model, class_names, path.display().to_string())
            }
            ModelName::Stored { study, network } => {
                let coordinator = Coordinator::connect(&args.connection).await?;
                let stored = Stored::fetch(&coordinator, study, *network).await?;
                let (names, words) = (stored.class_names.clone(), stored.words.clone());
                (stored.float()?, names, words)
            }
        };
        if model.is_quantized() {
            return Err(invalid(format!(
                "{words} is quantized already; name the network that it was made of"
            )));
        }
        let Some(InputSpec { mean, std, .. }) = model.image() else {
            return Err(invalid(format!("{words} does not read one image of bytes")));
        };
        Pixels::known(&words, Some(&Pixels::Raw), &args.pixels)?;
        let lifted = lift(&model)?;
        let (graph, weights) = (lifted.graph, lifted.weights);
        let normalization = Normalization { mean, std };
        Ok(Self { words, graph, weights, normalization, class_names })
    }

    fn onnx(path: &Path, args: &PixelArgs) -> anyhow::Result<Self> {
        let opened = Opened::onnx(path, &[], false)?;
        let pixels = Pixels::of(&opened, args)?;
        let normalization = match &opened.inputs[..] {
            [port] => pixels.normalization(port)?,
            ports => {
                return Err(invalid(format!(
                    "{} reads {} inputs, and images are one",
                    opened.words,
                    ports.len()
                )));
            }
        };
        let OnnxFile { imported, class_names, .. } = OnnxFile::read(path, &[])?;
        let graph = imported.graph.without_final_softmax()?.unwrap_or(imported.graph);
        let (words, weights) = (opened.words, imported.weights);
        Ok(Self { words, graph, weights, normalization, class_names })
    }

    /// Validation images to compare on, with the labels in the network's order, and training
    /// images.
    fn images(
        &self,
        file: &DataFile,
        root: &Path,
        [judged, calibration]: [usize; 2],
    ) -> anyhow::Result<(ImageSet, ImageSet)> {
        let shape = file.shape;
        let (reads, given) = (self.graph.input().channels(), shape.channels);
        if reads != given {
            return Err(invalid(format!(
                "{} reads pictures of {}, but the data have {given}",
                self.words,
                counted(reads, "channel")
            )));
        }
        let names = edgesmith_data::class_names(&file.data.source, root)?;
        let answers = self.graph.output().elements() as usize;
        let labels =
            evaluate::labels(&self.words, answers, &self.class_names, shape.classes, &names)?;
        let data = Dataset::load(&file.data, shape, file.seed, root)?;
        let calibration = data.train.for_calibration(calibration, file.seed);
        let step = data.validation.len().div_ceil(judged).max(1);
        let judged: Vec<usize> = (0..data.validation.len()).step_by(step).collect();
        let mut judged = data.validation.subset(&judged);
        for label in &mut judged.labels {
            *label = u16::try_from(labels[usize::from(*label)]).unwrap_or(u16::MAX);
        }
        Ok((judged, calibration))
    }
}

struct Answer {
    words: String,
    images: usize,
    share: f64,
    found: Sensitivity,
}

impl Answer {
    /// The layers that lose most come first.
    fn worst_first(&self) -> Vec<&Layer> {
        let mut layers: Vec<&Layer> = self.found.layers.iter().collect();
        let noise = |layer: &&Layer| layer.quantized.signal_to_noise_db;
        layers.sort_by(|a, b| {
            a.quantized
                .accuracy
                .total_cmp(&b.quantized.accuracy)
                .then_with(|| noise(a).total_cmp(&noise(b)))
        });
        layers
    }

    fn lost(&self, effect: &Effect) -> f64 {
        self.found.accuracy - effect.accuracy
    }

    /// Whether a loss is more than [`MATTERS`], and more than twice what it is by chance where so
    /// many images changed their class: the images that were right and those that were wrong would
    /// do so equally often.
    fn matters(&self, effect: &Effect) -> bool {
        let chance = (effect.changed as f64).sqrt() / self.images.max(1) as f64;
        // Accuracies are shares of images, so a loss of exactly as much is a little more or less.
        self.lost(effect) > MATTERS.max(2.0 * chance) + 1e-9
    }

    /// The layers that lose much in integers.
    fn fragile(&self) -> Vec<&Layer> {
        let mut all = self.worst_first();
        all.retain(|layer| self.matters(&layer.quantized));
        all
    }

    /// The layers that lose little without some of their channels.
    fn robust(&self) -> Vec<&Layer> {
        let mut all = self.worst_first();
        all.retain(|layer| layer.pruned.as_ref().is_some_and(|p| !self.matters(&p.effect)));
        all
    }

    /// What follows for a recipe.
    fn advice(&self) -> String {
        let images = counted(self.images, "image");
        if self.images < ENOUGH_IMAGES {
            return format!(
                "No advice for a recipe: on {images}, a large loss may be chance. Use \
                 {ENOUGH_IMAGES} or more with --images.\n"
            );
        }
        let quoted = |layers: Vec<&Layer>| -> String {
            let names: Vec<String> =
                layers.iter().map(|layer| format!("{:?}", layer.name)).collect();
            names.join(", ")
        };
        let (fragile, robust) = (self.fragile(), self.robust());
        let mut text = String::new();
        let points = MATTERS * 100.0;
        if fragile.is_empty() {
            let _ = writeln!(
                text,
                "No layer alone loses more than {points} points in integers, or than chance on \
                 {images}: quantize all of them."
            );
        } else {
            let _ = writeln!(
                text,
                "In integers these lose more than {points} points alone, and more than chance on \
                 {images}. Try to keep them in fp32, with\n  mixed = [{}]\nin the step that \
                 quantizes.",
                quoted(fragile)
            );
        }
        let share = format!("{:.0} %", self.share * 100.0);
        if self.found.layers.iter().all(|layer| layer.pruned.is_none()) {
            text.push_str("No channel of the network may be removed.\n");
        } else if robust.is_empty() {
            let _ = writeln!(
                text,
                "Every layer loses more than {points} points with {share} of its channels gone, so \
                 prune by less, or fine-tune afterwards."
            );
        } else {
            let _ = writeln!(
                text,
                "These may lose {share} of their channels for at most {points} points each, or for \
                 no more than chance on {images}: {}.",
                quoted(robust)
            );
        }
        text
    }
}

impl Output for Answer {
    fn table(&self) -> String {
        let mut text = format!(
            "{} on {}: {} in fp32. Each layer is changed alone, and nothing is trained.\n\n",
            self.words,
            counted(self.images, "validation image"),
            table::percent(self.found.accuracy)
        );
        let columns = [
            ("layer", Align::Left),
            ("MACs", Align::Right),
            ("weights", Align::Right),
            ("int8", Align::Right),
            ("changed", Align::Right),
            ("noise, dB", Align::Right),
            ("channels", Align::Right),
            ("pruned", Align::Right),
            ("changed", Align::Right),
            ("noise, dB", Align::Right),
        ];
        let points = |effect: &Effect| stages::points(-self.lost(effect));
        let noise = |effect: &Effect| format!("{:.1}", effect.signal_to_noise_db);
        let rows: Vec<Vec<String>> = self
            .worst_first()
            .iter()
            .map(|layer| {
                let mut row = vec![
                    layer.name.clone(),
                    table::count(layer.macs),
                    table::count(layer.parameters),
                    points(&layer.quantized),
                    layer.quantized.changed.to_string(),
                    noise(&layer.quantized),
                ];
                row.extend(match &layer.pruned {
                    Some(pruned) => [
                        format!("{} of {}", pruned.kept, pruned.of),
                        points(&pruned.effect),
                        pruned.effect.changed.to_string(),
                        noise(&pruned.effect),
                    ],
                    None => ["-"; 4].map(str::to_owned),
                });
                row
            })
            .collect();
        text.push_str(&table::render(&columns, &rows));
        text.push('\n');
        text.push_str(&self.advice());
        text
    }

    fn json(&self) -> impl Serialize {
        let effect = |effect: &Effect| {
            let noise = effect.signal_to_noise_db;
            let noise = if noise.is_finite() { Value::from(noise) } else { Value::Null };
            json!({
                "validation_accuracy": effect.accuracy, "images_changed": effect.changed,
                "signal_to_noise_db": noise,
            })
        };
        let layers: Vec<Value> = self
            .worst_first()
            .iter()
            .map(|layer| {
                let pruned = layer.pruned.as_ref().map(|pruned| {
                    let mut document = effect(&pruned.effect);
                    document["channels_kept"] = pruned.kept.into();
                    document["channels"] = pruned.of.into();
                    document
                });
                json!({
                    "layer": layer.name, "macs": layer.macs, "weights": layer.parameters,
                    "int8": effect(&layer.quantized), "pruned": pruned,
                })
            })
            .collect();
        let advice = (self.images >= ENOUGH_IMAGES).then(|| {
            let names = |layers: Vec<&Layer>| -> Vec<String> {
                layers.iter().map(|layer| layer.name.clone()).collect()
            };
            json!({
                "keep_in_fp32": names(self.fragile()), "may_lose_channels": names(self.robust()),
            })
        });
        json!({
            "version": json::VERSION, "model": self.words, "advice": advice, "images": self.images,
            "share": self.share, "validation_accuracy": self.found.accuracy, "layers": layers,
        })
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_worker::sensitivity::Pruned;

    use super::*;

    fn answer(effects: &[(&str, f64, Option<f64>)]) -> Answer {
        let effect = |accuracy| Effect { accuracy, changed: 4, signal_to_noise_db: 30.0 };
        let layers = effects.iter().map(|&(name, int8, pruned)| Layer {
            name: name.to_owned(),
            macs: 1000,
            parameters: 10,
            quantized: effect(int8),
            pruned: pruned.map(|accuracy| Pruned { kept: 4, of: 8, effect: effect(accuracy) }),
        });
        let found = Sensitivity { accuracy: 0.9, layers: layers.collect() };
        Answer { words: "net.onnx".to_owned(), images: 100, share: 0.5, found }
    }

    #[test]
    fn the_worst_layer_comes_first_and_advice_names_it() {
        let table = answer(&[("a", 0.9, Some(0.898)), ("b", 0.8, Some(0.5)), ("c", 0.87, None)]);
        let text = table.table();
        let rows: Vec<&str> = text.lines().skip(3).take(3).collect();
        assert!(rows[0].starts_with("b ") && rows[2].starts_with("a "), "{text}");
        assert!(rows[0].contains("-10.00 points") && rows[0].contains("4 of 8"), "{text}");
        assert!(text.contains("mixed = [\"b\"]"), "{text}");
        assert!(
            text.contains("0.5 points each, or for no more than chance on 100 images: \"a\"."),
            "{text}"
        );
        let advice = serde_json::to_value(table.json()).unwrap()["advice"].clone();
        assert_eq!(advice, json!({ "keep_in_fp32": ["b"], "may_lose_channels": ["a"] }));
        let fine = answer(&[("a", 0.9, Some(0.7))]).table();
        assert!(fine.contains("quantize all of them"), "{fine}");
        assert!(fine.contains("Every layer loses more than"), "{fine}");
        // No change has no sign.
        assert!(fine.contains("  0.00 points  "), "{fine}");
    }

    #[test]
    fn a_loss_matters_if_it_is_large_and_beyond_chance() {
        let answer = answer(&[]);
        let matters = |lost: f64, changed| {
            let accuracy = answer.found.accuracy - lost;
            answer.matters(&Effect { accuracy, changed, signal_to_noise_db: 30.0 })
        };
        assert!(!matters(0.005, 0) && matters(0.0051, 0));
        // Where 4 of 100 images change, two standard deviations are 4 of them.
        assert!(!matters(0.04, 4) && matters(0.041, 4));
    }

    #[test]
    fn names_of_layers_are_whole() {
        let long = "model/relu;".repeat(20);
        let text = answer(&[(&long, 0.9, None)]).table();
        assert!(text.contains(&format!("\n{long}  1.0 k")), "{text}");
    }

    #[test]
    fn there_is_no_advice_from_a_few_images() {
        let few = Answer { images: 5, ..answer(&[("a", 0.9, Some(0.7))]) };
        assert!(serde_json::to_value(few.json()).unwrap()["advice"].is_null());
        let few = few.table();
        assert!(few.contains("No advice for a recipe: on 5 images"), "{few}");
        assert!(few.contains("-20.00 points") && !few.contains("quantize all of them"), "{few}");
    }
}

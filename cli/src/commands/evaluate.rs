//! `edgesmith evaluate`: the figures of a network on the data of a study.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use edgesmith_client::{Connection, Coordinator, read_data};
use edgesmith_common::spec::DataFile;
use edgesmith_common::{Figures, Split};
use edgesmith_console::{ListFormat, Output, invalid, print, start};
use edgesmith_data::{Dataset, class_names};
use edgesmith_edge_runtime::Numbers;
use edgesmith_worker::evaluate::{Classifier, evaluate_classifier};
use serde::Serialize;
use serde_json::json;

use crate::model::{Opened, PixelArgs, Pixels, Reading};
use crate::output::{counted, json};

/// Arguments: the network, and the data.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub data: DataArgs,
    /// The output that has one number per class, if the network has several
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// Which part of the data
    #[arg(long, value_enum, default_value = "test")]
    pub split: Part,
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

/// Whose data.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct DataArgs {
    /// The data of this study of a coordinator
    #[arg(long, value_name = "STUDY")]
    pub study: Option<String>,
    /// File whose data are used: a study file, or one that has only the data table
    #[arg(long, value_name = "DATA.toml")]
    pub data: Option<PathBuf>,
}

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The images that the search compares networks on.
    Validation,
    /// Held-out images.
    Test,
}

/// Runs a network on all images of a part and prints its figures.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let opened = Opened::open(&args.reading, &args.connection).await?;
    let pixels = Pixels::of(&opened, &args.pixels)?;
    let data = match (&args.data.study, &args.data.data) {
        (Some(study), _) => {
            let (_, spec) = Coordinator::connect(&args.connection).await?.study(study).await?;
            DataFile::of(&spec).ok_or_else(|| {
                invalid(format!("{study} is a study over a table; it has no images"))
            })?
        }
        (None, Some(file)) => read_data(file)?,
        (None, None) => unreachable!("one of both is required"),
    };
    let output = chosen_output(&opened, args.output.as_deref())?;
    let shutdown = start::shutdown_on_signal()?;
    let root = args.data_root.unwrap_or_else(|| PathBuf::from("."));
    let words = opened.words.clone();
    let evaluating = tokio::task::spawn_blocking(move || {
        let pause = &mut || {
            if shutdown.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        evaluate(&opened, &pixels, output, &data, args.split, &root, pause)
    });
    let (images, figures) = evaluating.await??;
    print(&Evaluated { words, split: args.split, images, figures }, args.format)
}

/// The place of the output that has the classes.
pub fn chosen_output(opened: &Opened, name: Option<&str>) -> anyhow::Result<usize> {
    let names: Vec<&str> = opened.outputs.iter().map(|port| &*port.name).collect();
    let place = match name {
        Some(name) => names.iter().position(|known| *known == name),
        None if names.len() == 1 => Some(0),
        None => None,
    };
    place.ok_or_else(|| {
        let all = names.join(", ");
        invalid(match name {
            Some(name) => format!("{} has no output {name:?}; it has {all}", opened.words),
            None => {
                format!("{} has several outputs; choose one with --output: {all}", opened.words)
            }
        })
    })
}

/// How many images there are, and the figures on them.
pub fn evaluate(
    opened: &Opened,
    pixels: &Pixels,
    output: usize,
    data: &DataFile,
    split: Part,
    root: &Path,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> anyhow::Result<(usize, Figures)> {
    let model = opened.engine_model()?;
    let [port] = &opened.inputs[..] else {
        let inputs = opened.inputs.len();
        return Err(invalid(format!("{} reads {inputs} inputs, and images are one", opened.words)));
    };
    let shape = data.shape;
    let (channels, size) = pixels.picture(port)?;
    if channels != shape.channels as usize {
        let given = shape.channels;
        return Err(invalid(format!(
            "{} reads pictures of {}, but the data have {given}",
            opened.words,
            counted(channels, "channel")
        )));
    }
    let names = class_names(&data.data.source, root)?;
    let answers = opened.outputs[output].elements();
    let labels = labels(&opened.words, answers, &opened.class_names, shape.classes, &names)?;
    let images = Dataset::load(&data.data, shape, data.seed, root)?;
    let (set, part) = match split {
        Part::Validation => (&images.validation, Split::Validation),
        Part::Test => (&images.test, Split::Test),
    };
    let prepare = |image: &[u8]| {
        if port.bytes {
            let planes: Vec<f32> = image.iter().map(|&byte| f32::from(byte)).collect();
            let arranged = port.arranged(&planes);
            Numbers::Bytes(arranged.into_iter().map(|byte| byte as u8).collect())
        } else {
            Numbers::Fp32(port.arranged(&pixels.numbers(image, channels)))
        }
    };
    let classifier = Classifier { model, output, size, labels: &labels, prepare: &prepare };
    Ok((set.len(), evaluate_classifier(&classifier, set, part, pause)?))
}

/// For each class of the data, its place in the network's output: by name if both have names, else
/// by number.
pub fn labels(
    words: &str,
    answers: usize,
    network: &[String],
    classes: u32,
    data: &[String],
) -> anyhow::Result<Vec<usize>> {
    if answers != classes as usize {
        return Err(invalid(format!(
            "{words} tells {answers} classes apart, but the data have {classes}"
        )));
    }
    if network.is_empty() || data.is_empty() {
        return Ok((0..answers).collect());
    }
    let place = |name: &String| network.iter().position(|known| known == name);
    let places: Option<Vec<usize>> = data.iter().map(place).collect();
    places.filter(|places| places.len() == answers).ok_or_else(|| {
        invalid(format!(
            "the classes of {words} are {}, but those of the data are {}",
            network.join(", "),
            data.join(", ")
        ))
    })
}

struct Evaluated {
    words: String,
    split: Part,
    images: usize,
    figures: Figures,
}

impl Output for Evaluated {
    fn table(&self) -> String {
        let mut text = format!("{} on {}\n", self.words, counted(self.images, "image"));
        for (of, value) in self.figures.iter() {
            text.push_str(&format!("{:<24}{value:.4}\n", of.to_string()));
        }
        text
    }

    fn json(&self) -> impl Serialize {
        let figures: serde_json::Map<String, serde_json::Value> =
            self.figures.iter().map(|(of, value)| (of.to_string(), value.into())).collect();
        let split = self.split.to_possible_value().expect("no part is hidden");
        json!({
            "version": json::VERSION, "model": self.words, "split": split.get_name(),
            "images": self.images, "figures": figures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_matched_by_name() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let of = |network: &[&str], data: &[&str]| {
            let said = labels("net.onnx", 2, &names(network), 2, &names(data));
            said.map_err(|error| error.to_string())
        };
        assert_eq!(of(&[], &["ape", "bee"]), Ok(vec![0, 1]));
        assert_eq!(of(&["ape", "bee"], &[]), Ok(vec![0, 1]));
        assert_eq!(of(&["bee", "ape"], &["ape", "bee"]), Ok(vec![1, 0]));
        let error = of(&["bee", "cat"], &["ape", "bee"]).unwrap_err();
        assert!(error.contains("bee, cat") && error.contains("ape, bee"), "{error}");
        let error = labels("net.onnx", 10, &[], 2, &[]).unwrap_err().to_string();
        assert!(error.contains("10 classes") && error.contains("have 2"), "{error}");
    }
}

//! `edgesmith run`: runs a network on an image or on arrays of numbers.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use edgesmith_client::Connection;
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, invalid, print, print_text};
use edgesmith_data::arrays::{self, NumberArray};
use edgesmith_data::{files, read_image};
use edgesmith_edge_runtime::{Session, Tensor};
use serde::Serialize;
use serde_json::json;

use crate::model::{Examples, Opened, PixelArgs, Pixels, Reading};
use crate::output::json;

/// Largest size of a file of arrays, bytes.
const MAX_ARRAYS: u64 = 4 << 30;
/// How many classes people see.
const BEST: usize = 5;

/// Arguments: the network, and what it runs on.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub reading: Reading,
    /// What it runs on: an image (PNG or JPEG), or NumPy's arrays (.npy; .npz with an array for
    /// each input by name, or one called `input`)
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Where the outputs go: .npy for one, .npz for any number by name [default: the terminal]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub pixels: PixelArgs,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs a network and prints or writes its outputs.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let opened = Opened::open(&args.reading, &args.connection).await?;
    if let Some(output) = &args.output {
        check_output(output, opened.outputs.len())?;
    }
    let model = opened.engine_model()?;
    let examples = read_inputs(&args.input, &opened, &args.pixels)?;
    let mut session = Session::new(model)?;
    let arrays = run_examples(&mut session, &opened, &examples)?;
    match &args.output {
        Some(file) => {
            let bytes = match arrays.as_slice() {
                [(_, array)] if has_ending(file, "npy") => arrays::write_npy(array),
                _ => arrays::write_npz(&arrays)?,
            };
            let failed = || format!("failed to write {}", file.display());
            std::fs::write(file, &bytes).with_context(failed)?;
            print_text(&format!("{} ({} bytes)\n", file.display(), bytes.len()))
        }
        None => {
            let Opened { words, class_names, .. } = opened;
            print(&Outputs { words, class_names, arrays }, args.format)
        }
    }
}

/// Refuses an output file of a kind that cannot hold the outputs, before anything runs.
fn check_output(file: &Path, outputs: usize) -> anyhow::Result<()> {
    let name = file.display();
    if has_ending(file, "npz") || has_ending(file, "npy") && outputs == 1 {
        return Ok(());
    }
    Err(invalid(if has_ending(file, "npy") {
        format!("the network has {outputs} outputs, and {name} has room for one; name a .npz file")
    } else {
        format!("{name} is neither a .npy nor a .npz file; name one that ends so")
    }))
}

/// The numbers for each input of the network, in its order, from a file.
fn read_inputs(file: &Path, opened: &Opened, pixels: &PixelArgs) -> anyhow::Result<Vec<Examples>> {
    let name = file.display();
    let inputs = &opened.inputs;
    let arrays = has_ending(file, "npz") || has_ending(file, "npy");
    if arrays && Pixels::given(pixels)?.is_some() {
        return Err(invalid(format!(
            "{name} has what the network reads; leave out --mean, --std and --raw-pixels, which are \
             for images"
        )));
    }
    let read = || files::read(file, MAX_ARRAYS).map_err(|error| invalid(format!("{error}")));
    let damaged = |error: arrays::ArrayError| invalid(format!("failed to read {name}: {error}"));
    if has_ending(file, "npz") {
        let mut arrays = arrays::read_npz(&read()?).map_err(damaged)?;
        let all: Vec<Examples> = inputs
            .iter()
            .map(|port| {
                let named = |wanted: &str| arrays.iter().position(|(name, _)| name == wanted);
                let place = named(&port.name);
                let place = place.or_else(|| named("input").filter(|_| inputs.len() == 1));
                match place {
                    Some(place) => port.examples(arrays.swap_remove(place).1),
                    None => {
                        let known: Vec<&str> = arrays.iter().map(|(name, _)| &**name).collect();
                        Err(invalid(format!(
                            "{name} has no array {:?}, which the network reads; it has {}",
                            port.name,
                            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                        )))
                    }
                }
            })
            .collect::<anyhow::Result<_>>()?;
        let counts = all.iter().map(|examples| examples.count);
        if counts.clone().min() != counts.max() {
            return Err(invalid(format!(
                "the arrays in {name} have different numbers of examples"
            )));
        }
        return Ok(all);
    }
    let [port] = &inputs[..] else {
        let names: Vec<&str> = inputs.iter().map(|port| &*port.name).collect();
        return Err(invalid(format!(
            "the network reads {} arrays; give them in a .npz file, by the names {}",
            inputs.len(),
            names.join(", ")
        )));
    };
    if has_ending(file, "npy") {
        return Ok(vec![port.examples(arrays::read_npy(&read()?).map_err(damaged)?)?]);
    }
    let pixels = Pixels::of(opened, pixels)?;
    let (channels, size) = pixels.picture(port)?;
    let bytes = read_image(file, channels, size).map_err(|error| invalid(error.to_string()))?;
    let numbers = port.arranged(&pixels.numbers(&bytes, channels));
    Ok(vec![Examples { count: 1, axis: false, numbers }])
}

/// Runs all examples, and returns the arrays of the outputs with their names.
fn run_examples(
    session: &mut Session,
    opened: &Opened,
    inputs: &[Examples],
) -> anyhow::Result<Vec<(String, NumberArray)>> {
    let count = inputs.first().map_or(1, |examples| examples.count);
    let axis = inputs.iter().any(|examples| examples.axis);
    let mut outputs: Vec<Vec<f32>> = vec![Vec::new(); opened.outputs.len()];
    let bytes: Vec<Vec<u8>> = opened
        .inputs
        .iter()
        .zip(inputs)
        .map(|(port, examples)| {
            let byte = |number: &f32| *number as u8;
            if port.bytes { examples.numbers.iter().map(byte).collect() } else { Vec::new() }
        })
        .collect();
    for example in 0..count {
        let tensors: Vec<Tensor> = opened
            .inputs
            .iter()
            .zip(inputs)
            .zip(&bytes)
            .map(|((port, examples), bytes)| {
                let place = example * port.elements()..(example + 1) * port.elements();
                if port.bytes {
                    Tensor::Bytes(&bytes[place])
                } else {
                    Tensor::Fp32(&examples.numbers[place])
                }
            })
            .collect();
        session.run_on(&tensors)?;
        outputs.iter_mut().zip(session.outputs()).for_each(|(all, one)| all.extend(one));
    }
    let ports = opened.outputs.iter().zip(outputs);
    Ok(ports.map(|(port, all)| (port.name.clone(), port.array(all, count, axis))).collect())
}

fn has_ending(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

/// What a network computed.
struct Outputs {
    words: String,
    class_names: Vec<String>,
    arrays: Vec<(String, NumberArray)>,
}

/// A class of an example with its share.
struct Answer {
    class: String,
    share: f64,
}

impl Outputs {
    /// The classes of each example, likeliest first, if the only output is one number per class.
    fn answers(&self) -> Option<Vec<Vec<Answer>>> {
        let [(_, NumberArray { shape, numbers })] = &self.arrays[..] else { return None };
        let classes = *shape.last().filter(|&&classes| classes > 1)?;
        let vectors = shape.iter().filter(|&&size| size != 1).count() <= 1 || shape.len() == 2;
        if !vectors || !(self.class_names.is_empty() || self.class_names.len() == classes) {
            return None;
        }
        let of = |logits: &[f32]| {
            let mut answers: Vec<Answer> = shares(logits)
                .into_iter()
                .enumerate()
                .map(|(class, share)| Answer {
                    class: self.class_names.get(class).cloned().unwrap_or(class.to_string()),
                    share,
                })
                .collect();
            answers.sort_by(|a, b| b.share.total_cmp(&a.share));
            answers
        };
        // Without names, the numbers may be something else, such as the result of a regression.
        (!self.class_names.is_empty()).then(|| numbers.chunks_exact(classes).map(of).collect())
    }
}

/// The share of each class. Outputs that are shares already stay as they are.
fn shares(outputs: &[f32]) -> Vec<f64> {
    let sum: f64 = outputs.iter().map(|&share| f64::from(share)).sum();
    if (sum - 1.0).abs() < 1e-3 && outputs.iter().all(|share| (0.0..=1.0).contains(share)) {
        return outputs.iter().map(|&share| f64::from(share)).collect();
    }
    let most = outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let parts: Vec<f64> = outputs.iter().map(|&logit| f64::from(logit - most).exp()).collect();
    let sum: f64 = parts.iter().sum();
    parts.into_iter().map(|part| part / sum).collect()
}

impl Output for Outputs {
    fn table(&self) -> String {
        if let Some(answers) = self.answers() {
            let columns =
                [("example", Align::Right), ("class", Align::Left), ("share", Align::Right)];
            let rows = answers.iter().enumerate().flat_map(|(example, answers)| {
                answers.iter().take(BEST).map(move |Answer { class, share }| {
                    vec![example.to_string(), class.clone(), table::percent(*share)]
                })
            });
            return table::render(&columns, &rows.collect::<Vec<_>>());
        }
        let mut text = String::new();
        for (name, NumberArray { shape, numbers }) in &self.arrays {
            let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
            text.push_str(&format!("{name} {}\n", sizes.join("x")));
            let row = shape.last().copied().unwrap_or(1).max(1);
            for row in numbers.chunks(row) {
                let row: Vec<String> = row.iter().map(ToString::to_string).collect();
                text.push_str(&format!("  {}\n", row.join(" ")));
            }
        }
        text
    }

    fn json(&self) -> impl Serialize {
        let output = |(name, array): &(String, NumberArray)| json!({ "name": name, "shape": array.shape, "numbers": array.numbers });
        let outputs: Vec<_> = self.arrays.iter().map(output).collect();
        let mut document =
            json!({ "version": json::VERSION, "model": self.words, "outputs": outputs });
        if let Some(answers) = self.answers() {
            let answer = |answer: &Answer| json!({ "class": answer.class, "share": answer.share });
            let of = |answers: &Vec<Answer>| answers.iter().map(answer).collect::<Vec<_>>();
            document["answers"] = answers.iter().map(of).collect::<Vec<_>>().into();
        }
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(shape: &[usize], numbers: &[f32], classes: &[&str]) -> Outputs {
        let array = NumberArray { shape: shape.to_vec(), numbers: numbers.to_vec() };
        Outputs {
            words: "net.onnx".to_owned(),
            class_names: classes.iter().map(|class| (*class).to_owned()).collect(),
            arrays: vec![("logits".to_owned(), array)],
        }
    }

    #[test]
    fn classes_are_listed_with_their_shares() {
        let text = outputs(&[1, 2], &[0.0, 3f32.ln()], &["ape", "bee"]).table();
        assert_eq!(
            text,
            "example  class    share\n      0  bee    75.00 %\n      0  ape    25.00 %\n"
        );
        // Outputs that are shares already stay.
        assert_eq!(shares(&[0.25, 0.75]), [0.25, 0.75]);
        assert_eq!(shares(&[1000.0, 1000.0]), [0.5, 0.5]);
        let two = outputs(&[2, 2], &[0.0, 1.0, 1.0, 0.0], &["ape", "bee"]).answers().unwrap();
        assert_eq!([&*two[0][0].class, &*two[1][0].class], ["bee", "ape"]);
    }

    #[test]
    fn numbers_without_classes_are_printed_as_they_are() {
        assert_eq!(outputs(&[2, 1], &[0.5, -1.0], &[]).table(), "logits 2x1\n  0.5\n  -1\n");
        let maps = outputs(&[1, 2, 2, 2], &[0.0; 8], &["ape", "bee"]);
        assert!(maps.answers().is_none());
    }

    #[test]
    fn an_output_file_has_room_for_all_outputs() {
        let check = |file: &str, outputs| check_output(Path::new(file), outputs);
        assert!(check("o.npy", 1).is_ok() && check("o.npz", 3).is_ok());
        let error = check("o.npy", 2).unwrap_err().to_string();
        assert!(error.contains("2 outputs") && error.contains(".npz"), "{error}");
        assert!(check("o.txt", 1).unwrap_err().to_string().contains("o.txt"));
    }
}

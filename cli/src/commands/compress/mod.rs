//! `edgesmith compress`: compresses one network by a recipe, or searches the recipe. It is a study
//! on that network, which starts from it as it is, in this process.

mod report;
mod study;
mod terms;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use edgesmith_client::{Coordinator, read_data};
use edgesmith_common::spec::{DataFile, MeasurementSpec};
use edgesmith_common::{DeviceClass, Figures, Metric, StudyName, Target, quoted};
use edgesmith_console::{ListFormat, invalid, number, print, start, table};
use edgesmith_search_space::{Cost, Precision};
use edgesmith_train::safetensors;
use edgesmith_worker::export::{Lifted, lift, onnx};
use edgesmith_worker::probe::{device_info, measure};

use self::report::Report;
use self::study::{Composed, Recipe};
use crate::commands::evaluate::{self, Part};
use crate::commands::search::{Local, Running};
use crate::commands::validate;
use crate::limits::{Limit, NONE_KEEPS};
use crate::model::{EdgeFile, FileKind, ModelName, Opened, PixelArgs, Pixels, Stored, StoredName};

/// Arguments: the network, what is done to it, and what runs that.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["recipe", "auto"]))]
pub struct Args {
    /// The network: a file that ends in .onnx or .edge, a trial as STUDY/NUMBER, or the teacher of
    /// a study as STUDY/teacher, of a study in the data directory
    #[arg(value_name = "MODEL")]
    pub model: ModelName,
    /// File whose data are used, and if they are there its training, measurement, teacher and seed:
    /// a study file, or one with nothing but these tables. The objectives are accuracy, and latency
    /// and size where they have no limit
    #[arg(long, value_name = "DATA.toml")]
    pub data: PathBuf,
    /// File with the steps, as `[[recipe.steps]]` of a study. Settings that are lists are searched
    #[arg(long, value_name = "R.toml")]
    pub recipe: Option<PathBuf>,
    /// Search a recipe that keeps these limits, such as 'accuracy_drop<=0.005' 'latency_ms<=3'
    /// 'model_bytes<=20000'
    #[arg(long, value_name = "LIMIT", num_args = 1..)]
    pub auto: Vec<Limit>,
    /// Recipes to try [default: 1 if nothing is to be chosen, else 24]
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = number::whole(1..=1_000_000_u32))]
    pub trials: Option<u32>,
    /// Name of the study [default: from the names of the network and of the recipe]
    #[arg(long)]
    pub name: Option<StudyName>,
    /// File for the best result: .edge, as it was measured, or .onnx
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub pixels: PixelArgs,
    #[command(flatten)]
    pub local: Local,
}

/// Recipes that are tried if something is to be chosen.
const TRIALS: u32 = 24;

/// Compresses the network, and shows the result.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let recipe = match &args.recipe {
        Some(file) => Recipe::read(file)?,
        None => Recipe::automatic(),
    };
    let output = args.output.as_deref().map(kind_of_output).transpose()?;
    if let Some(limit) = args.auto.iter().find(|limit| limit.elsewhere().is_some()) {
        return Err(invalid(format!(
            "{limit}: the latency is measured on this machine, with the engine on one thread; write \
             latency_ms, or use a study for other devices"
        )));
    }
    let data = read_data(&args.data)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => study::name(&args.model, args.recipe.as_deref())?,
    };
    let running = Running {
        local: &args.local,
        source: recipe.source().to_owned(),
        command: command(&args),
        terms: terms::OPTIONS,
        shows_front: match args.format {
            ListFormat::Table => |trials| trials > 1,
            ListFormat::Json => |_| false,
        },
    };
    let prepare = async |coordinator: &Coordinator| {
        let network = Network::open(coordinator, &args, &name).await?;
        let mut composed = Composed {
            name: &name,
            data: &args.data,
            recipe: &recipe,
            network: &network.file,
            pixels: &network.file_pixels,
            limits: &[],
            accuracy: 0.0,
        };
        // Mistakes are told before the network is evaluated.
        let checked = composed.submission(1)?;
        if let Some(hint) = composed.unused_teacher()? {
            eprintln!("{hint}");
        }
        // A file of logits has to fit the data before the study begins.
        let work = checked.spec.training();
        if work.is_some_and(|work| work.logits.is_some() || !work.logits_beside.is_empty()) {
            let root = args.local.data_root.as_deref().unwrap_or(Path::new("."));
            // Its path is relative to no file any more.
            validate::check_files(&checked.spec, Path::new(""), &args.data, root)?;
        }
        let own = network.figures(&data, &args).await?;
        composed.accuracy = own.validation_accuracy().context("its accuracy was not measured")?;
        composed.limits = &args.auto;
        let submission = composed.submission(1)?;
        let choices = submission.spec.space.size();
        let most = args.trials.unwrap_or(TRIALS);
        let trials = u32::try_from(choices).unwrap_or(u32::MAX).min(most);
        let submission = if trials == 1 { submission } else { composed.submission(trials)? };
        if submission.spec.targets().is_empty() {
            eprintln!(
                "latency is no objective, because not all recipes give a network that has one; at \
                 the end the best result is timed, if an engine computes it"
            );
        }
        anyhow::Ok((submission, own))
    };
    let then = async |coordinator: &Coordinator, original: Figures| {
        let mut report = Report::of(coordinator, &name, original, &args.auto).await?;
        if let Some(trial) = report.untimed() {
            report.set_latency(timed(coordinator, &name, trial, &data.measurement).await?);
        }
        print(&report, args.format)?;
        match (&args.output, output, report.best()) {
            (Some(file), Some(kind), Some(trial)) => {
                write(coordinator, &name, trial, file, kind).await?;
            }
            (_, _, None) => anyhow::bail!("no recipe gave a result; the reasons are above"),
            _ => {}
        }
        let kept = report.keeps_limits();
        anyhow::Ok(if kept { ExitCode::SUCCESS } else { ExitCode::from(NONE_KEEPS) })
    };
    running.run(prepare, then).await
}

/// A network as the ONNX file that a study names, and what that reads for a pixel. The study
/// normalises pixels as the network does, so no layers of the file have to.
fn written(lifted: Lifted, class_names: &[String]) -> (Vec<u8>, Option<Pixels>) {
    let mut lifted = Lifted { quantization: None, ..lifted };
    let normalization = match &mut lifted.interface.inputs[..] {
        [input] => input.normalization.take(),
        _ => None,
    };
    let entries: Vec<_> = safetensors::class_names_entry(class_names).into_iter().collect();
    let pixels = normalization.map(|n| Pixels::Normalized { mean: n.mean, std: n.std });
    (onnx::of_lifted(&lifted, &entries), pixels)
}

/// The network that is compressed.
struct Network {
    opened: Opened,
    /// What it reads for a pixel.
    pixels: Pixels,
    /// The ONNX file that the study names.
    file: PathBuf,
    /// What that reads for a pixel.
    file_pixels: Pixels,
}

impl Network {
    async fn open(
        coordinator: &Coordinator,
        args: &Args,
        name: &StudyName,
    ) -> anyhow::Result<Self> {
        let (opened, written) = match &args.model {
            ModelName::File(path, FileKind::Onnx) => {
                let opened = Opened::onnx(path, &[], false)?;
                let pixels = Pixels::of(&opened, &args.pixels)?;
                let file_pixels = pixels.clone();
                return Ok(Self { opened, pixels, file: path.clone(), file_pixels });
            }
            ModelName::File(path, FileKind::Edge) => {
                let EdgeFile { bytes, model, class_names } = EdgeFile::read(path)?;
                if model.is_quantized() {
                    return Err(invalid(format!(
                        "{} is quantized already; compress the network that it was made of",
                        path.display()
                    )));
                }
                let written = written(lift(&model)?, &class_names);
                let words = path.display().to_string();
                (Opened::edge(words, bytes.len(), model, class_names)?, written)
            }
            ModelName::Stored { study, network } => {
                let stored = Stored::fetch(coordinator, study, *network).await?;
                let (words, class_names) = (stored.words.clone(), stored.class_names.clone());
                let model = stored.float()?;
                let written = written(lift(&model)?, &class_names);
                let bytes = model.to_bytes().len();
                (Opened::edge(words, bytes, model, class_names)?, written)
            }
        };
        let pixels = Pixels::of(&opened, &args.pixels)?;
        let (bytes, file_pixels) = written;
        let file_pixels = file_pixels.unwrap_or_else(|| pixels.clone());
        Ok(Self { opened, pixels, file: kept(args, name, &bytes)?, file_pixels })
    }

    /// Its figures as it came: on the validation and test images, and its latency here.
    async fn figures(&self, data: &DataFile, args: &Args) -> anyhow::Result<Figures> {
        let Self { opened, pixels, .. } = self;
        let (root, shutdown) = (args.local.data_root.clone(), start::shutdown_on_signal()?);
        let root = root.unwrap_or_else(|| PathBuf::from("."));
        eprintln!("{}: evaluated as it is", opened.words);
        tokio::task::block_in_place(|| {
            let pause = &mut || {
                if shutdown.is_cancelled() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let output = evaluate::chosen_output(opened, None)?;
            let mut figures = Figures::new();
            for part in [Part::Validation, Part::Test] {
                let (_, found) =
                    evaluate::evaluate(opened, pixels, output, data, part, &root, pause)?;
                figures.extend(&found);
            }
            let classes = data.shape.classes;
            let accuracy = figures.validation_accuracy();
            let said = opened.pixels.is_some();
            if let Some(hint) = accuracy.and_then(|share| near_chance(share, classes, said)) {
                eprintln!("warning: {hint}");
            }
            let model = opened.engine_model()?;
            figures.set(Metric::MODEL_BYTES.whole(), model.counted_bytes() as f64);
            if let Ok(graph) = &opened.graph {
                figures.set_cost(&Cost::of(graph, Precision::Fp32));
            }
            let (spec, device) = (&data.measurement, device_info(DeviceClass::local()));
            let timed = measure(model, spec, 1, &device, || Some(()), || shutdown.is_cancelled())?;
            let latency = Metric::LATENCY_MS.at(Target::on(DeviceClass::local()));
            figures.set(latency, timed.p50_ms);
            Ok(figures)
        })
    }
}

/// The time of a result in the engine on this machine, milliseconds, as a study measures it.
async fn timed(
    coordinator: &Coordinator,
    name: &StudyName,
    trial: u32,
    spec: &MeasurementSpec,
) -> anyhow::Result<f64> {
    let network = StoredName::Trial(trial);
    let model = Stored::fetch(coordinator, name.as_str(), network).await?.measured()?;
    let (device, shutdown) = (device_info(DeviceClass::local()), start::shutdown_on_signal()?);
    tokio::task::block_in_place(|| {
        let timed = measure(&model, spec, 1, &device, || Some(()), || shutdown.is_cancelled())?;
        Ok(timed.p50_ms)
    })
}

/// Keeps an ONNX file in the data directory, because the study names it.
fn kept(args: &Args, name: &StudyName, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let folder = args.local.data_dir.join("networks");
    let file = folder.join(format!("{name}.onnx"));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, bytes));
    written.with_context(|| format!("failed to write {}", file.display()))?;
    Ok(file)
}

/// What the end of an output's name says.
fn kind_of_output(file: &Path) -> anyhow::Result<FileKind> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let (file, folder) = (file.display(), folder.display());
        return Err(invalid(format!(
            "{file} cannot be written: the folder {folder} does not exist"
        )));
    }
    match file.extension().and_then(|end| end.to_str()) {
        Some("edge") => Ok(FileKind::Edge),
        Some("onnx") => Ok(FileKind::Onnx),
        _ => Err(invalid(format!("{} must end in .edge or .onnx", file.display()))),
    }
}

/// Writes a result.
async fn write(
    coordinator: &Coordinator,
    name: &StudyName,
    trial: u32,
    file: &Path,
    kind: FileKind,
) -> anyhow::Result<()> {
    let network = StoredName::Trial(trial);
    let stored = Stored::fetch(coordinator, name.as_str(), network).await?;
    let counted = stored.measured().ok().map(|model| model.counted_bytes());
    let bytes = match kind {
        FileKind::Edge => stored.model,
        FileKind::Onnx => {
            let entries: Vec<_> =
                safetensors::class_names_entry(&stored.class_names).into_iter().collect();
            let model = stored.measured()?;
            if model.runs_by_reference() {
                return Err(invalid(format!(
                    "trial {trial} runs by reference, because no engine on a device computes with \
                     its bits, so it cannot be written as .onnx; name a file that ends in .edge"
                )));
            }
            onnx::of_study(&lift(&model)?, &entries)
        }
    };
    std::fs::write(file, &bytes).with_context(|| format!("failed to write {}", file.display()))?;
    let size = size(bytes.len() as u64, kind, counted);
    eprintln!("trial {trial} is in {} ({size})", file.display());
    Ok(())
}

/// The size of a written file in words, and how the figure `model_bytes` differs from it. `counted`
/// is that figure, if it is known.
fn size(written: u64, kind: FileKind, counted: Option<u64>) -> String {
    let bytes = format!("{written} bytes");
    let Some(counted) = counted else { return bytes };
    match kind {
        FileKind::Edge if counted < written => format!(
            "{bytes}: {counted} of the network, {} of notes and test vectors",
            written - counted
        ),
        FileKind::Edge => bytes,
        FileKind::Onnx => format!("{bytes}; model_bytes counts the edge file"),
    }
}

/// A hint if a network hardly does better than chance: it may read its pixels in another way, or be
/// of other data. `says_pixels`: whether its file says how it reads them.
fn near_chance(accuracy: f64, classes: u32, says_pixels: bool) -> Option<String> {
    let chance = 1.0 / f64::from(classes.max(1));
    // Twice as much as chance; of few classes that would be all images, or most of them.
    let little = chance + f64::min(chance, (1.0 - chance) / 4.0);
    // A share of images may be a little more in binary.
    (accuracy <= little + 1e-9).then(|| {
        let check = if says_pixels {
            "the data, and how the network's file says that it reads pixels"
        } else {
            "--mean and --std, or --raw-pixels, and the data"
        };
        let (reached, chance) = (table::percent(accuracy), table::percent(chance));
        format!(
            "the network as it came classifies {reached} of the validation images correctly, and \
             chance {chance}: check {check}"
        )
    })
}

/// This command, without the options of [`Local`].
fn command(args: &Args) -> String {
    let Args { model, data, recipe, auto, trials, name, output, format, pixels, local: _ } = args;
    let mut words = vec!["edgesmith compress".to_owned(), quoted(Path::new(&model.to_string()))];
    words.extend(["--data".to_owned(), quoted(data)]);
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.map(|value| format!("--{name} {value}")));
    };
    option("recipe", recipe.as_deref().map(quoted));
    let limits: Vec<String> = auto.iter().map(|limit| format!("'{limit}'")).collect();
    option("auto", (!limits.is_empty()).then(|| limits.join(" ")));
    option("trials", trials.map(|trials| trials.to_string()));
    option("name", name.as_ref().map(ToString::to_string));
    option("output", output.as_deref().map(quoted));
    option("format", matches!(format, ListFormat::Json).then(|| "json".to_owned()));
    let numbers = |numbers: &[f32]| {
        let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        (!texts.is_empty()).then(|| texts.join(","))
    };
    option("mean", numbers(&pixels.mean));
    option("std", numbers(&pixels.std));
    if pixels.raw_pixels {
        words.push("--raw-pixels".to_owned());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_file_says_what_its_limit_counts() {
        let edge = size(68478, FileKind::Edge, Some(64847));
        assert_eq!(edge, "68478 bytes: 64847 of the network, 3631 of notes and test vectors");
        let onnx = size(128_982, FileKind::Onnx, Some(64847));
        assert_eq!(onnx, "128982 bytes; model_bytes counts the edge file");
        assert_eq!(size(900, FileKind::Edge, Some(900)), "900 bytes");
        assert_eq!(size(900, FileKind::Edge, None), "900 bytes");
    }

    #[test]
    fn a_network_that_does_no_better_than_chance_is_worth_a_look() {
        let text = near_chance(0.0838, 10, false).unwrap();
        let start = "the network as it came classifies 8.38 % of the validation images correctly, \
                     and chance 10.00 %: check --mean";
        assert!(text.starts_with(start), "{text}");
        // No options are offered that the command would refuse.
        let said = near_chance(0.0838, 10, true).unwrap();
        assert!(said.contains("and how the network's file says") && !said.contains("--mean"));
        assert!(near_chance(0.2, 10, false).is_some() && near_chance(0.21, 10, false).is_none());
        // Twice chance would be every image of two classes.
        assert!(near_chance(0.55, 2, false).is_some() && near_chance(0.7, 2, false).is_none());
    }
}

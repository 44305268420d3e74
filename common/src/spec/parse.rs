//! Parses a text into a valid spec, or into a list of everything that is wrong with it.
//!
//! Each `read_*` function reads one table of the file. If a field is wrong, the mistake is recorded
//! and reading continues with a stand-in, so that one pass finds all mistakes. A spec is made only
//! if there are none.

use edgesmith_search_space::{CellSpace, DataShape, NetworkSpace, Space};
use toml::de::DeTable;

use super::algorithm::read_algorithm;
use super::fidelity::read_fidelity;
use super::model::{
    ImageSize, ModelFile, ModelFiles, NamedModel, NamedModels, NamedOther, read_teacher_model,
    teacher_itself,
};
use super::reader::{Mistakes, Table};
use super::resolved::check_usable;
use super::screening::read_screening;
use super::space::{read_architecture, read_space};
use super::table::read_table;
use super::{
    Augmentation, Budget, DataSource, DataSpec, FidelitySpec, LogitsBeside, MeasurementSpec,
    OptimizerSpec, OtherSource, OtherTeacher, SpecError, SpecErrors, StudySpec, TeacherSource,
    TeacherSpec, TrainWork, TrainingSpec, Workload, check, teachers,
};
use crate::metric::ScopeKind;
use crate::{
    Bound, Constraint, DeviceClass, EngineName, Goal, InvalidName, Metric, MetricNameError,
    Objective, ScopedMetric, Seed, Split, StudyName, Target,
};

/// Largest study file, bytes.
pub const MAX_STUDY_BYTES: usize = 1 << 20;
/// Most trials of a budget.
pub const MAX_TRIALS: u32 = 10_000_000;
/// Most objectives, most constraints, and most studies to start from. Each one is compared with the
/// others.
const MAX_OBJECTIVES: usize = 32;
const MAX_CONSTRAINTS: usize = 64;
const MAX_START_FROM: usize = 64;

impl StudySpec {
    /// Parses and checks a study file.
    ///
    /// # Errors
    /// If the text is larger than [`MAX_STUDY_BYTES`], or else the mistakes of the file, up to 100.
    pub fn parse(text: &str) -> Result<Self, SpecErrors> {
        Self::parse_with_models(text, ModelFiles::default())
    }

    /// Parses and checks a study file, and the networks that come with it. A study that names no
    /// network leaves it unread.
    ///
    /// # Errors
    /// See [`StudySpec::parse`]. A study that names a network needs it.
    pub fn parse_with_models(text: &str, files: ModelFiles<'_>) -> Result<Self, SpecErrors> {
        is_too_long(text)?;
        Self::read(text, files, Mistakes::new(text))
    }

    /// The networks that a study names, which have to be read before it is parsed. None if it is no
    /// study file.
    pub fn named_models(text: &str) -> NamedModels {
        let Ok(root) = text.parse::<toml::Table>() else { return NamedModels::default() };
        // What is wrong with the data is said when the study is parsed.
        let (fields, _) = DeTable::parse_recoverable(text);
        let data = read_data(&mut Table::root(fields), &mut Mistakes::new(text));
        let (channels, side) =
            data.map_or((None, None), |(data, shape)| (Some(shape.channels), data.source.side()));
        let named = |table: &toml::Table| {
            let resolution = table.get("resolution");
            let sides = match resolution {
                Some(toml::Value::Array(sides)) => &sides[..],
                Some(side) => std::slice::from_ref(side),
                None => &[],
            };
            let sides = sides.iter().filter_map(|side| u32::try_from(side.as_integer()?).ok());
            let image = ImageSize { channels, side: sides.max().or(side) };
            Some(NamedModel { path: table.get("model")?.as_str()?.to_owned(), image })
        };
        let table = |name: &str| root.get(name)?.as_table();
        let is_model = |space: &&toml::Table| {
            space.get("kind").is_some_and(|kind| kind.as_str() == Some("model"))
        };
        let others = table("teacher").and_then(|teacher| teacher.get("others")?.as_array());
        let others = others.map_or(&[][..], Vec::as_slice);
        let other = |other: &toml::Value| {
            let other = other.as_table()?;
            let logits = || Some(NamedOther::Logits(other.get("logits")?.as_str()?.to_owned()));
            named(other).map(NamedOther::Network).or_else(logits)
        };
        NamedModels {
            space: table("space").filter(is_model).and_then(named),
            teacher: table("teacher").and_then(named),
            others: others.iter().map(other).collect(),
        }
    }

    /// Reads the file of a study that was accepted before. Rules that were added since then are not
    /// applied.
    ///
    /// # Errors
    /// If the text is not a study file at all, or if a value cannot be kept as it is or cannot be
    /// worked with. The study is never changed.
    pub fn parse_accepted(text: &str) -> Result<Self, SpecErrors> {
        Self::parse(text).or_else(|errors| {
            let files = ModelFiles::default();
            let accepted = Self::read(text, files, Mistakes::of_accepted(text)).ok();
            accepted.filter(|spec| check_usable(spec).is_ok()).ok_or(errors)
        })
    }

    fn read(text: &str, files: ModelFiles<'_>, mut mistakes: Mistakes) -> Result<Self, SpecErrors> {
        let (root, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            return Err(no_toml(&syntax, mistakes));
        }
        let m = &mut mistakes;
        let mut root = Table::root(root);
        let study = read_study(&mut root, m);
        // Objectives are read before the workload, which needs them. Constraints come after it,
        // because the workload decides which of them can be met.
        let objectives = read_objectives(&mut root, m);
        let algorithm = read_algorithm(&mut root, &objectives, m);
        let work = if root.knew("table") {
            read_table(&mut root, &objectives, m)
                .map(|(table, fidelity)| (Workload::Table(table), fidelity))
        } else {
            read_train_work(&mut root, files, m)
                .map(|(work, fidelity)| (Workload::Train(Box::new(work)), fidelity))
        };
        let networks = match &work {
            Some((Workload::Train(work), _)) => Some(&work.space),
            _ => None,
        };
        let constraints = read_constraints(&mut root, networks, m);
        let named = objectives.iter().map(|objective| &objective.of);
        let named: Vec<_> = named.chain(constraints.iter().map(|one| &one.of)).collect();
        check::latencies_are_of_devices(&root, networks, &named, m);
        if let Some((Workload::Table(table), _)) = &work {
            check::the_table_holds(&root, table, &constraints, m);
        }
        let budget = read_budget(&mut root, m);
        root.finish(m);
        match (study, work, budget) {
            (Some((name, seed, start_from)), Some((work, fidelity)), Some(budget))
                if m.count() == 0 =>
            {
                Ok(Self {
                    name,
                    seed,
                    start_from,
                    space: match &work {
                        Workload::Train(work) => work.space.clone().into(),
                        Workload::Table(table) => {
                            Space::Cell(CellSpace::nas_bench_201(table.identity))
                        }
                    },
                    objectives,
                    constraints,
                    algorithm,
                    budget,
                    work,
                    fidelity,
                    source: text.to_owned(),
                })
            }
            _ => Err(mistakes.into_errors()),
        }
    }
}

/// The mistake of a file that is larger than [`MAX_STUDY_BYTES`].
pub(super) fn is_too_long(text: &str) -> Result<(), SpecErrors> {
    if text.len() <= MAX_STUDY_BYTES {
        return Ok(());
    }
    let message = format!("has {} bytes; a study file has at most {MAX_STUDY_BYTES}", text.len());
    let field = "the study file".to_owned();
    Err(SpecErrors { listed: vec![SpecError { line: 0, field, message }], more: 0 })
}

/// The mistakes of a file with errors of syntax, and no others: what follows a syntax error is
/// guesswork, so mistakes found there would mislead.
pub(super) fn no_toml(syntax: &[toml::de::Error], mut mistakes: Mistakes) -> SpecErrors {
    for error in syntax {
        let span = error.span().unwrap_or(0..0);
        mistakes.add(&span, "", format!("is not valid TOML: {}", error.message()));
    }
    mistakes.into_errors()
}

fn read_train_work(
    root: &mut Table,
    files: ModelFiles<'_>,
    m: &mut Mistakes,
) -> Option<(TrainWork, Option<FidelitySpec>)> {
    let data = read_data(root, m);
    let shape = data.as_ref().map_or_else(|| stand_in(files.space), |(_, shape)| *shape);
    let (space, model) = read_space(root, shape, files.space, m).unzip();
    let training = read_training(root, m);
    let fidelity = read_fidelity(root, training.epochs, m);
    let Teachers { network: mut teacher, logits, beside: logits_beside } =
        read_teacher(root, space.as_ref(), (data.is_some().then_some(shape), files), m);
    if let Some(NetworkSpace::Model(space)) = &space {
        check::no_inheritance(root, &training, m);
        if !root.knew("teacher") {
            teacher = teacher_itself(root, space, m);
        }
    }
    let measurement = read_measurement(root, m);
    let screening = read_screening(root, m);
    let taught = teacher.is_some() || logits.is_some();
    check::distillation_has_a_teacher(root, space.as_ref(), taught, m);
    check::logits_have_no_features(root, space.as_ref(), logits.is_some(), m);
    check::goes_back_to_a_first_training(root, space.as_ref(), &training, m);
    let (data, _) = data?;
    let (space, model) = (space?, model?.map(Box::new));
    let work = TrainWork {
        space,
        model,
        data,
        training,
        teacher,
        logits,
        logits_beside,
        measurement,
        screening,
    };
    Some((work, fidelity))
}

fn read_study(root: &mut Table, m: &mut Mistakes) -> Option<(StudyName, Seed, Vec<StudyName>)> {
    let mend = "give it a [study] table with a name";
    let mut table = root.required_table("study", mend, m)?;
    if !table.has("name") {
        m.add(&table.span(), "study.name", "is missing; give the study a name");
    }
    let name = table.parsed("name", m);
    let seed = Seed(table.or("seed", 0, m));
    let start_from = read_start_from(&mut table, name.as_ref(), m);
    table.finish(m);
    Some((name?, seed, start_from))
}

/// Reads the names of earlier studies.
fn read_start_from(table: &mut Table, own: Option<&StudyName>, m: &mut Mistakes) -> Vec<StudyName> {
    let span = table.span_of("start_from");
    let mut texts: Vec<String> = table.list("start_from", m).unwrap_or_default();
    check::not_too_many(&mut texts, MAX_START_FROM, &span, table.path("start_from"), m);
    let mut names = Vec::new();
    for text in texts {
        match text.parse::<StudyName>() {
            Ok(name) if Some(&name) == own => {
                m.add(&span, table.path("start_from"), "names this study itself");
            }
            Ok(name) if names.contains(&name) => {
                m.add(&span, table.path("start_from"), format!("names {name} twice"));
            }
            Ok(name) => names.push(name),
            Err(error) => m.refuse(&span, table.path("start_from"), error.to_string()),
        }
    }
    names
}

/// Names of the data sources in study files.
const SOURCES: [&str; 4] = ["digits", "idx", "cifar10", "image-folder"];

pub(super) fn read_data(root: &mut Table, m: &mut Mistakes) -> Option<(DataSpec, DataShape)> {
    let mut table = root.required_table("data", "give a [data] table with a source", m)?;
    let before = m.count();
    let known = |name: String| {
        let found = SOURCES.contains(&name.as_str());
        let unknown = || format!("unknown source {name:?}; use one of {}", SOURCES.join(", "));
        if found { Ok(name.clone()) } else { Err(unknown()) }
    };
    if !table.has("source") {
        let message = format!("is missing; use one of {}", SOURCES.join(", "));
        m.add(&table.span(), "data.source", message);
    }
    let source = table.checked("source", m, known)?;
    let (source, shape) = match source.as_str() {
        "digits" => (Some(DataSource::Digits), fixed_shape(&mut table, 1, 10, m)),
        "idx" => {
            let shape = declared_shape(&mut table, &[1], m);
            (read_idx(&mut table, m), shape)
        }
        "cifar10" => {
            let shape = fixed_shape(&mut table, 3, 10, m);
            let directory = table.required("directory", m);
            (directory.map(|directory| DataSource::Cifar10 { directory }), shape)
        }
        _ => {
            let shape = declared_shape(&mut table, &[3, 1], m);
            let train = table.required("train", m);
            let test = table.optional("test", m);
            let side = table.within("side", 32, (1, 4096), m);
            (train.map(|train| DataSource::ImageFolder { train, test, side }), shape)
        }
    };
    let validation_fraction = table.within("validation_fraction", 0.2, (0.01, 0.9), m);
    let at_least_one = |n: usize| if n > 0 { Ok(n) } else { Err("0 leaves no images".to_owned()) };
    let train_limit = table.obeying("train_limit", m, at_least_one);
    let test_limit = table.obeying("test_limit", m, at_least_one);
    table.finish(m);
    let spec = DataSpec { source: source?, validation_fraction, train_limit, test_limit };
    (m.count() == before).then_some((spec, shape?))
}

fn read_idx(table: &mut Table, m: &mut Mistakes) -> Option<DataSource> {
    // All four are read before any `?`, so that every missing one is reported.
    let train_images = table.required("train_images", m);
    let train_labels = table.required("train_labels", m);
    let test_images = table.required("test_images", m);
    let test_labels = table.required("test_labels", m);
    Some(DataSource::Idx {
        train_images: train_images?,
        train_labels: train_labels?,
        test_images: test_images?,
        test_labels: test_labels?,
    })
}

/// A source whose shape is fixed. Giving another shape is a mistake.
fn fixed_shape(
    table: &mut Table,
    channels: u32,
    classes: u32,
    m: &mut Mistakes,
) -> Option<DataShape> {
    for (name, fixed) in [("channels", channels), ("classes", classes)] {
        let same = |given: u32| {
            if given == fixed {
                Ok(())
            } else {
                Err(format!("is {given}, but this source has {fixed}; leave it out"))
            }
        };
        table.checked(name, m, same);
    }
    Some(DataShape { channels, classes })
}

/// A source whose shape the file gives. The first of `channels` is the default.
fn declared_shape(table: &mut Table, channels: &[u32], m: &mut Mistakes) -> Option<DataShape> {
    let allowed = |given: u32| {
        let texts: Vec<String> = channels.iter().map(ToString::to_string).collect();
        if channels.contains(&given) {
            Ok(given)
        } else {
            Err(format!("is {given}; this source has {}", texts.join(" or ")))
        }
    };
    let channels = table.obeying("channels", m, allowed).unwrap_or(channels[0]);
    let enough = |n: u32| match n {
        2..=256 => Ok(n),
        n => Err(format!("{n} is out of range; use 2 to 256")),
    };
    if !table.has("classes") {
        m.add(&table.span(), "data.classes", "is missing; give the number of classes");
    }
    let classes = table.obeying("classes", m, enough)?;
    Some(DataShape { channels, classes })
}

/// Reads what an objective or a constraint is on. The device is the one it names, or else `local`.
fn read_metric(table: &mut Table, m: &mut Mistakes) -> Option<ScopedMetric> {
    if !table.has("metric") {
        m.refuse(&table.span(), table.path("metric"), "is missing; name a metric");
    }
    let metric = table.checked("metric", m, |name: String| searched_metric(&name));
    let (device_span, engine_span) = (table.span_of("device"), table.span_of("engine"));
    let device: Option<DeviceClass> = table.parsed("device", m);
    let known = |engine: EngineName| {
        let text =
            format!("no worker runs models with {engine}; use {}", EngineName::edge_runtime());
        if engine == EngineName::edge_runtime() { Ok(engine) } else { Err(text) }
    };
    let engine = table.checked("engine", m, |name: String| {
        name.parse().map_err(|e: InvalidName| e.to_string()).and_then(known)
    });
    // Without a metric the device cannot be checked, but it is a known field.
    match metric? {
        Searched::PerDevice(metric) => {
            let mut target = Target::on(device.unwrap_or_else(DeviceClass::local));
            target.engine = engine.unwrap_or(target.engine);
            Some(metric.at(target))
        }
        Searched::Everywhere(of) => {
            let given = [("device", device_span), ("engine", engine_span)];
            for (field, span) in given.into_iter().filter(|(field, _)| table.knew(field)) {
                let text = format!("{of} is the same on every device; leave {field} out");
                m.add(&span, table.path(field), text);
            }
            Some(of)
        }
    }
}

/// A metric that a search may use, as a study file names it.
enum Searched {
    /// Measured on a device, which other fields name.
    PerDevice(Metric),
    /// The same on every device.
    Everywhere(ScopedMetric),
}

fn searched_metric(name: &str) -> Result<Searched, String> {
    let of = match name.parse::<ScopedMetric>() {
        Ok(of) => of,
        Err(MetricNameError::NoDevice { metric }) => return Ok(Searched::PerDevice(metric)),
        Err(MetricNameError::Unknown { .. }) => {
            return Err(format!("unknown metric {name:?}; use one of {}", searched().join(", ")));
        }
        Err(error) => return Err(error.to_string()),
    };
    if of.is_held_out() {
        let instead = of.metric.on(Split::Validation);
        return Err(format!("{of} is held out: the search may not see it; use {instead}"));
    }
    if let Some(target) = of.target() {
        let metric = of.metric;
        return Err(format!("write metric = \"{metric}\" and device = \"{}\"", target.device));
    }
    if !of.metric.is_searched() {
        return Err(format!(
            "{of} is a cost of training, which no search optimizes; use one of {}",
            searched().join(", ")
        ));
    }
    Ok(Searched::Everywhere(of))
}

/// Names of all metrics that a search may use.
fn searched() -> Vec<String> {
    let name = |metric: &Metric| match metric.definition().scope {
        ScopeKind::Split => metric.on(Split::Validation).to_string(),
        ScopeKind::Whole | ScopeKind::Target => metric.name().to_owned(),
    };
    Metric::ALL.iter().filter(|metric| metric.is_searched()).map(name).collect()
}

fn read_objectives(root: &mut Table, m: &mut Mistakes) -> Vec<Objective> {
    let (before, span) = (m.count(), root.span_of("objectives"));
    let mut objectives: Vec<Objective> = Vec::new();
    let mut tables = root.tables("objectives", m);
    check::not_too_many(&mut tables, MAX_OBJECTIVES, &span, "objectives", m);
    for mut table in tables {
        let metric = read_metric(&mut table, m);
        let goal = |name: String| match name.as_str() {
            "maximize" => Ok(Goal::Maximize),
            "minimize" => Ok(Goal::Minimize),
            _ => Err(format!("unknown goal {name:?}; use maximize or minimize")),
        };
        let goal = table.checked("goal", m, goal);
        if let Some(of) = metric {
            let goal = goal.unwrap_or(of.metric.definition().goal);
            if objectives.iter().any(|o| o.of == of) {
                let text = format!("{of} is an objective already; keep one");
                m.add(&table.span_of("metric"), table.path("metric"), text);
            } else {
                objectives.push(Objective { of, goal });
            }
        }
        table.finish(m);
    }
    if objectives.is_empty() && m.count() == before {
        m.add(&span, "objectives", "is missing; add at least one [[objectives]] with a metric");
    }
    objectives
}

fn read_constraints(
    root: &mut Table,
    space: Option<&NetworkSpace>,
    m: &mut Mistakes,
) -> Vec<Constraint> {
    let mut constraints = Vec::new();
    let (span, mut tables) = (root.span_of("constraints"), root.tables("constraints", m));
    check::not_too_many(&mut tables, MAX_CONSTRAINTS, &span, "constraints", m);
    let limits = space.map(check::Limits::new);
    for mut table in tables {
        let metric = read_metric(&mut table, m);
        let max: Option<f64> = table.optional("max", m);
        let min: Option<f64> = table.optional("min", m);
        let scale = table.obeying("scale", m, positive);
        if !table.knew("max") && !table.knew("min") {
            m.add(&table.span(), table.path("max"), "is missing; give max, min or both");
        }
        if let (Some(low), Some(high)) = (min, max)
            && low > high
        {
            let text = format!("{low} is above max, {high}; nothing is between them");
            m.add(&table.span_of("min"), table.path("min"), text);
        }
        if let Some(of) = metric {
            let bounds = [max.map(Bound::Max), min.map(Bound::Min)];
            for bound in bounds.into_iter().flatten() {
                let constraint = Constraint { of: of.clone(), bound, scale };
                if let Some(why) = check::unsatisfiable(&constraint, limits.as_ref()) {
                    m.add(&table.span(), table.path(bound.name()), why);
                }
                constraints.push(constraint);
            }
        }
        table.finish(m);
    }
    constraints
}

fn positive(value: f64) -> Result<f64, String> {
    match value {
        value if value > 0.0 && value.is_finite() => Ok(value),
        value => Err(format!("{value} is out of range; use a number above 0")),
    }
}

fn read_budget(root: &mut Table, m: &mut Mistakes) -> Option<Budget> {
    let looks_up = root.knew("table");
    let mut table = root.required_table("budget", "give a [budget] table with trials", m)?;
    let simulated_seconds = looks_up.then(|| table.obeying("simulated_seconds", m, positive));
    let most = MAX_TRIALS;
    let counts_seconds = table.knew("simulated_seconds") && looks_up;
    if !table.has("trials") && !counts_seconds {
        m.add(&table.span(), "budget.trials", "is missing; give the number of trials");
    }
    let trials = table.within("trials", most, (1, most), m);
    let max_attempts = table.within("max_attempts", 3, (1, 100), m);
    let hours = table.obeying("hours", m, positive);
    table.finish(m);
    let simulated_seconds = simulated_seconds.flatten();
    Some(Budget { trials, simulated_seconds, max_attempts, hours })
}

pub(super) fn read_training(root: &mut Table, m: &mut Mistakes) -> TrainingSpec {
    let mut table = root.table_or_empty("training", m);
    let epochs: u32 = table.within("epochs", 10, (1, 100_000), m);
    let fine_tune_epochs = table.within("fine_tune_epochs", epochs.div_ceil(4), (0, 100_000), m);
    let inherit_epochs = table.within("inherit_epochs", 0, (0, epochs), m);
    if inherit_epochs > 0 && root.knew("fidelity") {
        let text = "is not for studies with [fidelity], whose trials train from rung to rung; leave \
                    one of them out";
        m.add(&table.span_of("inherit_epochs"), table.path("inherit_epochs"), text);
    }
    let batch_size = table.within("batch_size", 64, (2, 65_536), m);
    let name = |name: String| match name.as_str() {
        "adamw" | "sgd" => Ok(name),
        _ => Err(format!("unknown optimizer {name:?}; use adamw or sgd")),
    };
    let optimizer = match table.checked("optimizer", m, name).as_deref() {
        Some("sgd") => {
            OptimizerSpec::Sgd { momentum: table.within("momentum", 0.9, (0.0, 0.999_999), m) }
        }
        _ => OptimizerSpec::AdamW,
    };
    let rate = match optimizer {
        OptimizerSpec::AdamW => 0.003,
        OptimizerSpec::Sgd { .. } => 0.05,
    };
    let learning_rate = table.within("learning_rate", rate, (1e-9, 1000.0), m);
    let fine_tune = table.within("fine_tune_learning_rate", learning_rate / 3.0, (1e-9, 1000.0), m);
    let warmup_fraction = table.within("warmup_fraction", 0.1, (0.0, 0.99), m);
    let weight_decay = table.within("weight_decay", 0.01, (0.0, 1.0), m);
    let label_smoothing = table.within("label_smoothing", 0.05, (0.0, 0.99), m);
    let mut views = table.table_or_empty("augmentation", m);
    let augmentation = Augmentation {
        shift: views.within("shift", 0, (0, 64), m),
        flip: views.or("flip", false, m),
        views: views.within("views", 1, (1, 1024), m),
    };
    views.finish(m);
    table.finish(m);
    TrainingSpec {
        epochs,
        fine_tune_epochs,
        inherit_epochs,
        batch_size,
        optimizer,
        learning_rate,
        fine_tune_learning_rate: fine_tune,
        warmup_fraction,
        weight_decay,
        label_smoothing,
        augmentation,
    }
}

/// The data that a study's own network fits, so that a mistake in `[data]` is not followed by
/// others about channels and classes.
fn stand_in(network: Option<&ModelFile>) -> DataShape {
    let fitting = network.and_then(|file| {
        let network = &file.network;
        let channels = network.shape(network.inputs().next()?).channels();
        Some(DataShape { channels, classes: network.output().channels() })
    });
    fitting.unwrap_or(DataShape { channels: 1, classes: 2 })
}

/// What `[teacher]` says.
#[derive(Default)]
struct Teachers {
    /// The network that teaches, with what teaches beside it.
    network: Option<TeacherSpec>,
    /// The path of the logits that teach instead.
    logits: Option<String>,
    /// Logits beside these.
    beside: Vec<LogitsBeside>,
}

fn read_teacher(
    root: &mut Table,
    space: Option<&NetworkSpace>,
    (data, files): (Option<DataShape>, ModelFiles<'_>),
    m: &mut Mistakes,
) -> Teachers {
    let Some(mut table) = root.table("teacher", m) else { return Teachers::default() };
    let network = read_teaching_network(&mut table, space, (data, files.teacher), m);
    let others = teachers::read_others(&mut table, space, (data, files.others), m);
    let assistants = teachers::read_assistants(&mut table, space, m);
    let logits: Option<String> = table.optional("logits", m);
    if table.knew("logits") {
        let others = ["architecture", "weights", "epochs", "model", "assistants"];
        for name in others.into_iter().filter(|name| table.knew(name)) {
            let text = "logits teach without a network; leave this or logits out";
            m.add(&table.span_of(name), table.path(name), text);
        }
    }
    let span = table.span_of("others");
    table.finish(m);
    let Some(logits) = logits else {
        let network = network.map(|network| TeacherSpec { others, assistants, ..network });
        return Teachers { network, ..Teachers::default() };
    };
    let mut beside = Vec::new();
    for OtherTeacher { source, weight } in others {
        match source {
            OtherSource::Logits(given) => beside.push(LogitsBeside { given, weight }),
            OtherSource::Train { .. } | OtherSource::Network { .. } => {
                let text = "logits teach without a network, so what is beside them has to be logits, \
                            too; put the network in [teacher] and the logits in others";
                m.add(&span, "teacher.others", text);
            }
        }
    }
    Teachers { network: None, logits: Some(logits), beside }
}

fn read_teaching_network(
    table: &mut Table,
    space: Option<&NetworkSpace>,
    (data, file): (Option<DataShape>, Option<&ModelFile>),
    m: &mut Mistakes,
) -> Option<TeacherSpec> {
    let architecture = read_architecture(table, space, m);
    let span = table.span_of("weights");
    let path: Option<String> = table.optional("weights", m);
    let has_epochs = table.has("epochs");
    let epochs = table.within("epochs", 20, (1, 100_000), m);
    if path.is_some() && has_epochs {
        m.add(
            &span,
            "teacher.weights",
            "a teacher is given or trained; leave out weights or epochs",
        );
    }
    let model = read_teacher_model(table, data, file, m);
    if table.knew("model") {
        let (architecture, model) = model?;
        let source = TeacherSource::Network(Box::new(model));
        return Some(TeacherSpec::alone(architecture, source));
    }
    let source = match path {
        Some(path) => TeacherSource::File { path },
        None => TeacherSource::Train { epochs },
    };
    Some(TeacherSpec::alone(architecture?, source))
}

pub(super) fn read_measurement(root: &mut Table, m: &mut Mistakes) -> MeasurementSpec {
    let mut table = root.table_or_empty("measurement", m);
    let usual = MeasurementSpec::default();
    let measurement = MeasurementSpec {
        warmup_runs: table.within("warmup_runs", usual.warmup_runs, (0, 100_000), m),
        min_runs: table.within("min_runs", usual.min_runs, (50, 1_000_000), m),
        min_seconds: table.within("min_seconds", usual.min_seconds, (0.2, 3600.0), m),
        threads: table.within("threads", usual.threads, (1, 1), m),
        predict: table.or("predict", usual.predict, m),
    };
    table.finish(m);
    measurement
}

//! Documents as earlier versions wrote them. They must stay readable with the same meaning, and
//! what is written today must be among them.
//!
//! `golden.txt` holds one document per line, after its name and a space. It is append-only: a line
//! stands for study directories that exist. The meaning of a document is given as a study file. If
//! a default changes, the old value is added to the study file here, so that the meaning stays.

use edgesmith_graph::{
    Add, Conv, GlobalAveragePool, Graph, GraphBuilder, Linear, Place, Role, Shape,
};
use edgesmith_search_space::{
    Activation, BlockOption, CellIdentity, Course, Features, Further, Granularity, Head,
    Importance, Operation, Precision, PruneUnit, RangeRule, Rounding, Scope, Skip, StepSpace,
};

use super::*;
use crate::ArtifactHash;
use crate::spec::{
    AlgorithmSpec, FidelityRule, ModelFile, ModelFiles, OtherFile, PortName, Proxy, Workload,
};

const LINES: &str = include_str!("golden.txt");

/// What a test that fails should tell the reader.
const MEND: &str = "if a field was added with a serde default that keeps the old meaning, append \
                    the new documents with `cargo test -p edgesmith-common append_documents -- \
                    --ignored`, and never change or remove a line of golden.txt";

/// A study that trains. Names in capitals stand for what the documents differ in.
const TRAIN: &str = r#"
study = { name = "trained", seed = 18446744073709551615, start_from = ["first", "second"] }
objectives = [
  { metric = "validation_accuracy" },
  { metric = "latency_ms", device = "pi", engine = "edge-runtime" },
]
constraints = [
  { metric = "latency_ms", device = "board", max = 5.5, min = 0.25 },
  { metric = "macs", max = 1e9 },
  { metric = "validation_accuracy", min = 0.5 },
]
ALGORITHM
budget = { trials = 70, max_attempts = 2 }
data = { DATA, validation_fraction = 0.25 }
MORE
[training]
TRAINING
batch_size = 32
learning_rate = 0.125
fine_tune_learning_rate = 0.0625
warmup_fraction = 0.25
weight_decay = 0.5
label_smoothing = 0.125
augmentation = { shift = 1, flip = true, views = 3 }
[measurement]
warmup_runs = 5
min_runs = 60
min_seconds = 0.5
threads = 1
predict = false
[recipe]
prune = [0.0, 0.25]
precision = ["fp32", "int8"]
alpha = [ALPHA]
temperature = [2.0, 4.0]
[space]
resolution = [8, 16]
stem_width = [4, 8]
[[space.stages]]
depth = [1, 2]
width = [4, 8]
kernel = [3, 5]
operation = ["conv", "separable", "inverted-residual"]
expansion = [2, 3]
stride = [1, 2]
activation = ["relu", "relu6"]
[[space.stages]]
width = 8
"#;

/// A recipe of steps.
const STEPS: &str = r#"[teacher]
epochs = 11
[[recipe.steps]]
pass = "distil"
alpha = [0.0, 0.5]
temperature = 2.0
[[recipe.steps]]
pass = "prune"
of = "stage"
share = [0.0, 0.25]
importance = ["l1", "l2", "scale", "taylor", "geometric-median", "activity", "influence", "random"]
[[recipe.steps]]
pass = "fine-tune"
[[recipe.steps]]
pass = "prune"
of = "macs"
share = 0.5
rounds = [1, 4]
epochs = 2
multiple_of = [1, 8]
[[recipe.steps]]
pass = "prune"
of = "channels"
share = 0.25
[[recipe.steps]]
pass = "prune"
of = "parameters"
share = 0.25
[[recipe.steps]]
pass = "prune"
of = "layer"
share = 0.25
[[recipe.steps]]
pass = "fine-tune"
epochs = [3, 5]
learning_rate = 0.25
[[recipe.steps]]
pass = "quantize"
precision = ["fp32", "int8"]
calibration = ["mse", "min-max", "percentile", "entropy"]
examples = 100
clip_ranges = [false, true]
granularity = ["channel", "layer"]
equalize = [false, true]
correct_biases = [false, true]
rounding = ["nearest", "adaround"]
fp32 = FP32
mixed = MIXED
[[recipe.steps]]
pass = "quantize-aware-train"
epochs = 2
learning_rate = [0.25, 0.5]
"#;

/// Steps that remove single weights.
const SINGLE: &str = r#"[[recipe.steps]]
pass = "prune"
granularity = "weights"
of = "parameters"
share = [0.5, 0.9]
rounds = [1, 3]
[[recipe.steps]]
pass = "prune"
granularity = "2:4"
share = [0.0, 0.5]
"#;

/// Single weights by every importance that ranks them.
const RANKED: &str = r#"
[[recipe.steps]]
pass = "prune"
granularity = "weights"
of = "parameters"
share = [0.0, 0.8]
importance = ["l1", "lamp", "taylor", "random"]
"#;

/// Clusters, and integers that keep them.
const CLUSTERED: &str = r#"[[recipe.steps]]
pass = "cluster"
clusters = [16, 32]
[[recipe.steps]]
pass = "quantize"
granularity = "layer"
"#;

/// Other bits than 8, for all layers and for some.
const BITS: &str = r#"[[recipe.steps]]
pass = "quantize"
weight_bits = [1, 2, 4, 8, 16]
affine_weights = [false, true]
activation_bits = [8, 16, 32]
mixed = "stem"
mixed_bits = [2, 4, 32]
"#;

/// The space of a study on a network of one's own. `SPACE` stands for what the documents differ in.
const MODEL: &str = r#"
[space]
kind = "model"
model = "nets/net.onnx"
SPACE
"#;

/// The network of these studies: a residual block before a linear layer.
pub(in crate::spec) fn network() -> ModelFile {
    let mut b = GraphBuilder::new();
    let image = b.input("image", Shape::new(3, &[8, 8]).unwrap()).unwrap();
    let weight = b.parameter("conv.weight", &[3, 3, 3, 3], Role::Weight).unwrap();
    let place = Place::default;
    let conv = b.node("conv", Conv::dense(3, 1), &[image], &[weight], place()).unwrap();
    let sum = b.node("sum", Add, &[conv, image], &[], place()).unwrap();
    let pool = b.node("pool", GlobalAveragePool, &[sum], &[], place()).unwrap();
    let weight = b.parameter("fc.weight", &[5, 3], Role::Weight).unwrap();
    let classes = b.node("fc", Linear, &[pool], &[weight], place()).unwrap();
    let network: Graph = b.finish(&[classes]).unwrap();
    let port =
        |name: &str, axes: &[Option<u32>]| PortName { name: name.to_owned(), axes: axes.to_vec() };
    ModelFile {
        network,
        weights: ArtifactHash::of(b"weights"),
        file: ArtifactHash::of(b"file"),
        inputs: vec![port("pixels", &[None, Some(1), Some(2), Some(0)])],
        outputs: vec![port("classes", &[None, Some(0)])],
        classes: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
        input_scale: 1.0,
    }
}

/// A study over a table. Names in capitals stand for what the documents differ in.
const TABLE: &str = r#"
study = { name = "looked-up", seed = 3 }
objectives = [
  { metric = "latency_ms", device = "pi", goal = "minimize" },
  { metric = "validation_accuracy", goal = "maximize" },
]
constraints = [{ metric = "parameters", max = 2e6 }]
ALGORITHM
[table]
path = "p.csv"
latencies = "l.csv"
validation_accuracy = "valid"
test_accuracies = ["a", "b"]
seconds = "s"
seconds_share = 0.5
MORE
"#;

/// Settings of a training that is not the subject of a document.
const EPOCHS: &str = "epochs = 9\nfine_tune_epochs = 2";

const DIGITS: &str = "source = \"digits\"";

fn train(algorithm: &str, training: &str, data: &str, alpha: &str, more: &str) -> String {
    let algorithm = format!("algorithm = {{ {algorithm} }}");
    let text = TRAIN.replace("ALGORITHM", &algorithm).replace("TRAINING", training);
    text.replace("DATA", data).replace("ALPHA", alpha).replace("MORE", more)
}

/// Distillation whose numbers change over a training.
const SCHEDULES: &str = r#"[teacher]
epochs = 11
[[recipe.steps]]
pass = "distil"
alpha = [0.5, { from = 0.75, to = 0.25, schedule = "linear" }]
temperature = { from = 8.0, to = 2.0, schedule = "cosine" }
"#;

/// Distillation that copies features.
const FEATURES: &str = r#"[teacher]
epochs = 11
[[recipe.steps]]
pass = "distil"
features = ["none", "attention", "relations"]
feature_weight = [2.5, 10.0]
"#;

/// Distillation whose features count less and less.
const FEATURE_SCHEDULES: &str = r#"[teacher]
epochs = 11
[[recipe.steps]]
pass = "distil"
features = "attention"
feature_weight = [2.5, { from = 10.0, to = 0.5, schedule = "cosine" }]
"#;

/// Distillation of values, and of what a teacher computes in the middle.
const VALUES: &str = r#"[teacher]
epochs = 11
[[recipe.steps]]
pass = "distil"
answers = ["classes", "values"]
features = "hints"
"#;

/// Several teachers, and two networks between them and the students.
const SEVERAL: &str = r#"[teacher]
epochs = 11
[[teacher.others]]
epochs = 12
weight = 0.5
[[teacher.others]]
architecture = { resolution = 8, stem_width = 8, stages = [{ width = 8 }] }
[[teacher.assistants]]
epochs = 13
alpha = 0.25
temperature = 2.0
[[teacher.assistants]]
architecture = { resolution = 8, stem_width = 8, stages = [{ width = 8 }] }
"#;

/// Blocks, budgets that are measured, and what trainings go back to and make small.
const MEASURED: &str = r#"[[recipe.steps]]
pass = "fine-tune"
shrink = ["none", "scales", "filters"]
shrink_by = [0.001, 0.01]
[[recipe.steps]]
pass = "prune"
granularity = "blocks"
share = [0.0, 0.25]
importance = ["output", "random"]
[[recipe.steps]]
pass = "prune"
of = "bytes"
share = 0.5
multiple_of = [1, "auto"]
rewind = ["none", "rate", "weights"]
[[recipe.steps]]
pass = "prune"
of = "latency"
share = 0.5
"#;

/// Budgets that say what stays.
const BUDGETS: &str = r#"[[recipe.steps]]
pass = "prune"
granularity = "blocks"
at_most = 90_000
[[recipe.steps]]
pass = "prune"
of = "latency"
at_most = [0.5, 1.25]
importance = ["taylor", "l2"]
"#;

/// Trainings of integers that may normalise batches.
const NORMALIZED: &str = r#"[[recipe.steps]]
pass = "quantize"
[[recipe.steps]]
pass = "quantize-aware-train"
normalize = [false, true]
"#;

/// A constraint that says how far beyond it counts as 1, before the others.
const SCALED: &str =
    "constraints = [\n  { metric = \"validation_accuracy\", min = 0.75, scale = 0.25 },";

/// A study with steps in place of the lists of its recipe.
fn stepped(text: String, fp32: &str, mixed: &str) -> String {
    let steps = STEPS.replace("FP32", &format!("{fp32:?}")).replace("MIXED", &format!("{mixed:?}"));
    with_steps(&text, &steps)
}

fn with_steps(text: &str, steps: &str) -> String {
    let (before, rest) = text.split_once("[recipe]").expect("it has a recipe");
    let (_lists, after) = rest.split_once("\n[space]").expect("it has a space");
    format!("{before}{steps}[space]{after}")
}

/// Without what asks for a latency.
fn without_latency(text: &str) -> String {
    let kept = text.lines().filter(|line| !line.contains("metric = \"latency_ms\""));
    kept.collect::<Vec<_>>().join("\n")
}

fn table(algorithm: &str, more: &str, rest: &str) -> String {
    let algorithm = format!("algorithm = {{ {algorithm} }}\n{rest}");
    TABLE.replace("ALGORITHM", &algorithm).replace("MORE", more)
}

/// The name and the study file of every document.
fn studies() -> Vec<(&'static str, String)> {
    let of = |algorithm: &str| train(algorithm, EPOCHS, DIGITS, "0.0", "");
    let source = |data: &str| train("name = \"random\"", EPOCHS, data, "0.0", "");
    let trained =
        |training: &str, more: &str| train("name = \"auto\"", training, DIGITS, "0.0", more);
    let taught = |teacher: &str| train("name = \"auto\"", EPOCHS, DIGITS, "0.0, 0.5", teacher);
    let screened = |proxy: &str| {
        let text = format!("screening = {{ proxy = \"{proxy}\", batch = 6, keep = 0.25 }}");
        trained(EPOCHS, &text)
    };
    let idx = "source = \"idx\", classes = 12, train_images = \"a\", train_labels = \"b\", \
               test_images = \"c\", test_labels = \"d\"";
    let folder = "source = \"image-folder\", train = \"t\", classes = 3, channels = 1, side = 24";
    let halving = "budget = { simulated_seconds = 100.5, max_attempts = 4 }\n\
                   fidelity = { rule = \"asha\", reduction = 2 }";
    let given = "teacher = { weights = \"w.safetensors\", architecture = { resolution = 8, \
                 stem_width = 8, stages = [{ width = 8, operation = \"inverted-residual\", \
                 expansion = 3, activation = \"relu6\" }, { depth = 2, width = 4, kernel = 5, \
                 operation = \"separable\", stride = 2 }, { width = 4 }] } }";
    let momentum = "optimizer = \"sgd\"\nmomentum = 0.75";
    let model = |classes: u32, alpha: &str, space: &str, more: &str| {
        let data = format!("source = \"image-folder\", train = \"t\", classes = {classes}");
        let text = train("name = \"auto\"", EPOCHS, &data, alpha, more);
        let (text, _stages) = text.split_once("[space]").expect("it has a space");
        format!("{text}{}", MODEL.replace("SPACE", space))
    };
    let whole = "mean = [0.5, 0.25, 0.125]\nstd = [0.5, 1.0, 2.0]";
    let variants = "pixels = \"raw\"\nresolution = [8, 16]\nwidth = [1.0, 0.5]\nblocks = \
                    [\"kept\", \"left-out\"]\ntrain = [\"further\", \"as-it-is\"]";
    let headed = "pixels = \"unit\"\nhead = \"new\"\nhead_epochs = 3";
    vec![
        ("random", of("name = \"random\"")),
        (
            "regularized-evolution",
            of("name = \"regularized-evolution\", population = 30, sample = 7, mutations = 2"),
        ),
        ("auto", of("name = \"auto\"")),
        ("model-based", of("name = \"model-based\", initial = 15")),
        ("nsga2", of("name = \"nsga2\", population = 30, crossover = 0.75, mutations = 2")),
        ("nsga3", of("name = \"nsga3\", population = 40, crossover = 0.5, mutations = 3")),
        ("local-search", of("name = \"local-search\"")),
        (
            "reinforce",
            of("name = \"reinforce\", policy = \"lstm\", learning_rate = 0.25, entropy = 0.5, \
                baseline_decay = 0.75, reward = \"rank\""),
        ),
        (
            "ppo",
            of("name = \"ppo\", policy = \"categorical\", learning_rate = 0.5, entropy = 0.25, \
                batch = 12, epochs = 5, clip = 0.125, reward = \"hard-target\", target = 2.5"),
        ),
        (
            "reinforce-target",
            of("name = \"reinforce\", policy = \"categorical\", learning_rate = 0.25, \
                entropy = 0.5, baseline_decay = 0.75, reward = \"soft-target\", target = 1.5"),
        ),
        (
            "stage-options",
            of("name = \"random\"").replace(
                "activation = [\"relu\", \"relu6\"]",
                "activation = [\"hard-swish\", \"silu\"]\nsqueeze = [0, 4]\nskip = [\"add\", \"concat\"]",
            ),
        ),
        ("teacher-options", taught(&given.replace("stride = 2", "stride = 2, squeeze = 8, skip = \"concat\""))),
        ("recipe-steps", stepped(of("name = \"random\""), "stem", "stage1.block1.conv")),
        (
            "model-recipe-steps",
            stepped(model(5, "0.0", whole, ""), "conv", "fc").replace("\"scale\", ", ""),
        ),
        ("single-weights", with_steps(&of("name = \"random\""), SINGLE)),
        ("single-weights-ranked", with_steps(&of("name = \"random\""), RANKED)),
        ("clusters", with_steps(&of("name = \"random\""), CLUSTERED)),
        ("bits", without_latency(&with_steps(&of("name = \"random\""), BITS))),
        ("distil-schedules", with_steps(&of("name = \"random\""), SCHEDULES)),
        ("distil-feature-schedules", with_steps(&of("name = \"random\""), FEATURE_SCHEDULES)),
        ("distil-features", with_steps(&of("name = \"random\""), FEATURES)),
        ("distil-values", with_steps(&of("name = \"random\""), VALUES)),
        ("prune-measured", with_steps(&of("name = \"random\""), MEASURED)),
        ("prune-budgets", with_steps(&of("name = \"random\""), BUDGETS)),
        ("normalized-integers", with_steps(&of("name = \"random\""), NORMALIZED)),
        ("teacher-several", taught(SEVERAL)),
        (
            "constraint-scale",
            of("name = \"random\"").replace("constraints = [", SCALED),
        ),
        ("idx", source(idx)),
        ("cifar10", source("source = \"cifar10\", directory = \"d\", train_limit = 500")),
        ("image-folder", source(folder)),
        ("image-folder-test", source(&format!("{folder}, test = \"u\", test_limit = 50"))),
        ("sgd-inherit", trained(&format!("{EPOCHS}\ninherit_epochs = 4\n{momentum}"), "")),
        ("adamw", trained(&format!("{EPOCHS}\noptimizer = \"adamw\""), "")),
        ("asha", trained(EPOCHS, "fidelity = { rule = \"asha\", min_epochs = 2, reduction = 2 }")),
        ("median", trained(EPOCHS, "fidelity = { rule = \"median\", reduction = 4 }")),
        ("curve", trained(EPOCHS, "fidelity = { rule = \"curve\", confidence = 0.75 }")),
        ("synflow", screened("synflow")),
        ("naswot", screened("naswot")),
        ("macs", screened("macs")),
        ("parameters", screened("parameters")),
        ("teacher-logits-beside", taught("teacher = { logits = \"l.npy\", others = [\
                                   { logits = \"m.npy\", weight = 0.5 }] }")),
        ("teacher-trained", taught("teacher = { epochs = 11 }")),
        ("teacher-given", taught(given)),
        ("teacher-logits", taught("teacher = { logits = \"l.npy\" }")),
        (
            "hours",
            of("name = \"auto\"").replace("max_attempts = 2", "max_attempts = 2, hours = 1.5"),
        ),
        ("model", model(5, "0.0, 0.5", whole, "")),
        ("model-variants", model(5, "0.0", variants, "")),
        ("model-scaled", model(5, "0.0", whole, "")),
        ("model-headed", model(7, "0.5", headed, "teacher = { epochs = 11 }")),
        ("teacher-network", model(5, "0.5", whole, "teacher = { model = \"big.onnx\", \
                             mean = [0.5, 0.25, 0.125], std = [0.5, 1.0, 2.0], resolution = 16 }")),
        ("teacher-files", model(5, "0.5", whole, "teacher = { epochs = 11, others = [\
                           { model = \"other.onnx\", mean = [0.5, 0.25, 0.125], \
                           std = [0.5, 1.0, 2.0], resolution = 16, weight = 0.5 }, \
                           { logits = \"l.npy\" }] }")),
        ("table", table("name = \"random\"", "identity = \"network\"", "budget = { trials = 5 }")),
        (
            "table-rungs",
            table(
                "name = \"auto\"",
                "epochs = 20\nidentity = \"row\"\nrungs = [{ epochs = 2, validation_accuracy = \
                 \"early\" }, { epochs = 8, validation_accuracy = \"later\" }]",
                halving,
            ),
        ),
    ]
}

fn parsed() -> Vec<(&'static str, StudySpec)> {
    let parse = |(name, text): (&'static str, String)| {
        let input_scale = if name == "model-scaled" { 128.0 } else { 1.0 };
        let network = ModelFile { input_scale, ..network() };
        let teacher = text.contains("big.onnx").then_some(&network);
        let logits = OtherFile::Logits(ArtifactHash::of(b"logits"));
        let others = [Some(OtherFile::Network(Box::new(network.clone()))), Some(logits)];
        let others = match name {
            "teacher-files" => &others[..],
            "teacher-logits-beside" => &others[1..],
            _ => &[],
        };
        let files = ModelFiles { space: Some(&network), teacher, others };
        let spec = StudySpec::parse_with_models(&text, files)
            .unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
        (name, spec)
    };
    studies().into_iter().map(parse).collect()
}

/// The name and the document of every line.
fn lines() -> impl Iterator<Item = (&'static str, &'static str)> {
    LINES.lines().map(|line| line.split_once(' ').expect("a name, a space and a document"))
}

/// The last line of this name.
fn newest(name: &str) -> Option<&'static str> {
    lines().filter(|(found, _)| *found == name).map(|(_, document)| document).last()
}

#[test]
fn every_document_ever_written_keeps_its_meaning() {
    let studies = parsed();
    for (name, document) in lines() {
        let meant = studies.iter().find(|(known, _)| *known == name);
        let (_, meant) = meant.unwrap_or_else(|| panic!("golden.rs has no study {name}"));
        let read = StudySpec::from_resolved(document)
            .unwrap_or_else(|e| panic!("{name} was readable, but now {e}\n{document}"));
        // The text may have changed since; see the top of this file.
        let read = StudySpec { source: meant.source.clone(), ..read };
        assert_eq!(&read, meant, "{name}");
    }
}

#[test]
fn what_is_written_today_is_the_newest_document_of_its_name() {
    for (name, spec) in parsed() {
        let document = spec.to_resolved();
        assert_eq!(newest(name), Some(document.as_str()), "{name} is written differently; {MEND}");
    }
}

#[test]
fn every_name_that_documents_hold_is_in_one() {
    let studies = parsed();
    let holds = |is: &dyn Fn(&StudySpec) -> bool| studies.iter().any(|(_, spec)| is(spec));
    for name in AlgorithmSpec::NAMES {
        assert!(holds(&|spec| spec.algorithm.name() == name), "{name}");
    }
    for name in FidelityRule::NAMES {
        let has = |spec: &StudySpec| spec.fidelity.as_ref().is_some_and(|f| f.rule.name() == name);
        assert!(holds(&has), "{name}");
    }
    for proxy in Proxy::ALL {
        let screening = |spec: &StudySpec| spec.training().and_then(|work| work.screening);
        assert!(holds(&|spec| screening(spec).is_some_and(|s| s.proxy == proxy)), "{proxy}");
    }
    for identity in CellIdentity::ALL {
        let has = |spec: &StudySpec| match &spec.work {
            Workload::Train(_) => false,
            Workload::Table(table) => table.identity == identity,
        };
        assert!(holds(&has), "{}", identity.name());
    }
    let models = || studies.iter().filter_map(|(_, spec)| spec.training()?.space.model());
    for head in Head::ALL {
        assert!(models().any(|space| space.definition().head == *head), "{}", head.name());
    }
    for option in BlockOption::ALL {
        assert!(models().any(|s| s.definition().blocks.contains(option)), "{}", option.name());
    }
    for option in Further::ALL {
        assert!(models().any(|s| s.definition().train.contains(option)), "{}", option.name());
    }
    let names = Operation::NAMES.into_iter();
    let names = names.chain(Activation::ALL.map(Activation::name)).chain(Skip::ALL.map(Skip::name));
    // The names in recipes, as in the documents.
    let of_recipes = [
        Precision::ALL.iter().map(|one| one.name()).collect::<Vec<_>>(),
        Scope::ALL.iter().map(|one| one.name()).collect(),
        PruneUnit::ALL.iter().map(|one| one.name()).collect(),
        Importance::ALL.iter().map(|one| one.name()).collect(),
        RangeRule::ALL.iter().map(|one| one.name()).collect(),
        Granularity::ALL.iter().map(|one| one.name()).collect(),
        Rounding::ALL.iter().map(|one| one.name()).collect(),
        StepSpace::PASSES.to_vec(),
        Course::ALL.iter().map(|one| one.name()).collect(),
        Features::ALL.iter().map(|one| one.name()).collect(),
    ];
    for name in names.chain(of_recipes.concat()) {
        assert!(lines().any(|(_, document)| document.contains(&format!("\"{name}\""))), "{name}");
    }
}

/// Appends the documents that are written today and are not the newest of their name. It never
/// changes a line.
#[test]
#[ignore = "it writes golden.txt"]
fn append_documents() {
    use std::io::Write;
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/spec/resolved/golden.txt");
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    for (name, spec) in parsed() {
        let document = spec.to_resolved();
        if newest(name) != Some(document.as_str()) {
            writeln!(file, "{name} {document}").unwrap();
        }
    }
}

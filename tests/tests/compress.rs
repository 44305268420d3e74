//! `edgesmith compress` and `sensitivity`: one network in, one smaller network out.

use std::path::Path;
use std::time::{Duration, Instant};

use edgesmith_tests::{PATIENCE, Process, TinyStudy, command, complete, run};
use serde_json::Value;

const RECIPE: &str = r#"
[[recipe.steps]]
pass = "prune"
of = "macs"
share = 0.4

[[recipe.steps]]
pass = "fine-tune"
epochs = 2

[[recipe.steps]]
pass = "quantize"

[[recipe.steps]]
pass = "quantize-aware-train"
epochs = 1
"#;

/// Pruning of single weights, clusters and integers.
const SPARSE: &str = r#"
[[recipe.steps]]
pass = "prune"
granularity = "weights"
of = "parameters"
share = 0.8

[[recipe.steps]]
pass = "fine-tune"
epochs = 2

[[recipe.steps]]
pass = "cluster"

[[recipe.steps]]
pass = "quantize"
granularity = "layer"
"#;

/// A folder with a network, `net.onnx`, and a study file whose data it learned, `data.toml`.
fn with_network(at: &Path) {
    let study = TinyStudy { trials: 1, epochs: 5, ..TinyStudy::new("first") };
    study.write(at);
    run(at, &["search", "first.toml"]).ok();
    run(at, &["export", "first/teacher", "--format", "onnx", "-o", "net.onnx"]).ok();
    std::fs::write(at.join("data.toml"), study.text()).unwrap();
    std::fs::write(at.join("r.toml"), RECIPE).unwrap();
}

fn metric(document: &Value, name: &str) -> f64 {
    document["metrics"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {document}"))
}

/// Bits of weights and values; `BITS` stands for them.
const BITS: &str = "[[recipe.steps]]\npass = \"quantize\"\nBITS\n";

/// What runs in integers has a latency and what runs by reference has none, and both say so.
#[test]
fn other_bits_say_what_computes_them() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    with_network(at);
    let compress = |name: &str, bits: &str| {
        std::fs::write(at.join("bits.toml"), BITS.replace("BITS", bits)).unwrap();
        let file = format!("{name}.edge");
        let line = ["compress", "net.onnx", "--data", "data.toml", "--recipe", "bits.toml"];
        let line = [&line[..], &["--name", name, "-o", &file]].concat();
        let shown = run(at, &line).ok();
        let document = run(at, &[&line[..], &["--format", "json"]].concat()).json();
        let evaluate = ["evaluate", &file, "--data", "data.toml", "--format", "json"];
        let evaluated = run(at, &evaluate).json()["figures"]["test_accuracy"].as_f64();
        assert_eq!(evaluated, Some(metric(&document["best"], "test_accuracy")), "{name}");
        (shown, document["best"].clone())
    };
    let latency = |best: &Value| best["metrics"]["latency_ms@local"].as_f64();
    let (shown, int8) = compress("eight", "weight_bits = 8");
    assert!(!shown.contains("by reference") && latency(&int8).is_some());
    assert_eq!(int8["arithmetic"], "integers");
    // The network as it came is the same one in fp32.
    let measured = &int8["measurement"];
    assert!(measured["original"]["p50_ms"].as_f64().is_some(), "{measured}");
    assert!(measured["unquantized"].is_null(), "{measured}");
    // One scale for each layer takes fewer bytes than one for each channel.
    let (_, layer) = compress("layer", "granularity = \"layer\"");
    assert!(metric(&layer, "model_bytes") < metric(&int8, "model_bytes"));
    // The file says what runs, not the recipe.
    let inspected = run(at, &["inspect", "net.onnx", "--format", "json"]).json();
    let layers = inspected["layers"].as_array().unwrap().iter();
    let layers = layers.filter(|layer| layer["parameters"].as_u64() > Some(0));
    let names: Vec<&str> = layers.map(|layer| layer["name"].as_str().unwrap()).collect();
    let (shown, none) = compress("none", &format!("fp32 = {names:?}"));
    assert!(shown.contains("No weights are quantized: the recipe leaves"), "{shown}");
    assert_eq!(none["arithmetic"], "fp32");
    assert!(none["engine_layers"]["fp32"].as_u64() > Some(0));
    let (shown, some) = compress("some", &format!("fp32 = {:?}", &names[..1]));
    assert!(shown.contains(" of its layers compute in integers and "), "{shown}");
    assert_eq!(some["arithmetic"], "integers");
    let said = format!("\nIn fp32: {} (", names[0]);
    let why = ": its weights stay in fp32)";
    assert!(shown.contains(&said) && shown.contains(why), "{shown}");
    let fp32 = &some["fp32_layers"][0];
    assert_eq!((&fp32["layer"], &fp32["fp32_because"]), (&names[0].into(), &"weights".into()));
    let inspected = run(at, &["inspect", "some.edge", "--format", "json"]).json();
    let computes = |name: &str| {
        let layers = inspected["layers"].as_array().unwrap().iter();
        layers.filter(|layer| layer["computes_in"] == name).count()
    };
    assert_eq!(computes("fp32") as u64, some["engine_layers"]["fp32"].as_u64().unwrap());
    assert_eq!(computes("integers") as u64, some["engine_layers"]["integers"].as_u64().unwrap());
    let table = run(at, &["inspect", "some.edge"]).ok();
    assert!(
        table.contains("  computes in") && table.contains("  fp32: its weights stay"),
        "{table}"
    );
    let whole = run(at, &["inspect", "net.onnx"]).ok();
    assert!(!whole.contains("computes in"), "{whole}");
    let (shown, four) = compress("four", "weight_bits = 4");
    assert!(shown.contains(": int8 clipped biases") && shown.contains(" w4"), "{shown}");
    assert!(latency(&four).is_some());
    assert!(metric(&four, "model_bytes") < metric(&int8, "model_bytes"));
    let (shown, wide) = compress("wide", "weight_bits = 16\nactivation_bits = 16");
    assert!(shown.contains("It runs by reference: no engine on a device computes"), "{shown}");
    assert_eq!((latency(&wide), &wide["arithmetic"]), (None, &"reference".into()));
    assert!(metric(&wide, "model_bytes") > metric(&int8, "model_bytes"));
    let inspected = run(at, &["inspect", "wide.edge"]).ok();
    assert!(inspected.contains("by reference: fp32, with values rounded to levels"), "{inspected}");
    run(at, &["measure", "wide.edge"]).fails(2, &["wide.edge has no latency", "by reference"]);
    // Where only some recipes give a network without a latency, the best one is timed if it has
    // one.
    let choice = "affine_weights = [true, false]";
    let line = ["--recipe", "bits.toml", "--name", "either", "--trials", "2", "--format", "json"];
    std::fs::write(at.join("bits.toml"), BITS.replace("BITS", choice)).unwrap();
    let ran = run(at, &[&["compress", "net.onnx", "--data", "data.toml"], &line[..]].concat());
    for said in ["(recipe.steps[0]) run by reference", "the best result is timed"] {
        assert!(ran.stderr().contains(said), "{}", ran.stderr());
    }
    let either = ran.json()["best"].clone();
    assert_eq!(latency(&either).is_some(), either["arithmetic"] == "integers", "{either}");
    let (shown, real) = compress("real", "weight_bits = 8\nactivation_bits = 32");
    assert!(shown.contains("A latency is that of fp32 arithmetic"), "{shown}");
    assert!(latency(&real).is_some());
    let again = ["compress", "wide.edge", "--data", "data.toml", "--recipe", "bits.toml"];
    run(at, &again).fails(2, &["wide.edge is quantized already"]);
}

/// The study normalises pixels as the network does, so there are no more layers for it.
#[test]
fn a_model_file_and_a_stored_network_keep_their_layers() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    with_network(at);
    run(at, &["export", "first/teacher", "--format", "edge", "-o", "teacher.edge"]).ok();
    std::fs::write(at.join("bits.toml"), BITS.replace("BITS", "")).unwrap();
    let inspect = |file: &str| {
        let inspected = run(at, &["inspect", file, "--format", "json"]).json();
        let layers: Vec<Value> = inspected["layers"].as_array().unwrap().clone();
        let kinds: Vec<Value> = layers.iter().map(|layer| layer["operation"].clone()).collect();
        (kinds, inspected["inputs"].clone())
    };
    let before = inspect("teacher.edge");
    assert!(before.0.len() > 3 && before.0.iter().all(Value::is_string), "{before:?}");
    for (name, model) in [("file", "teacher.edge"), ("stored", "first/teacher")] {
        let line = ["compress", model, "--data", "data.toml", "--recipe", "bits.toml"];
        let output = format!("{name}.edge");
        let document =
            run(at, &[&line[..], &["--name", name, "-o", &output, "--format", "json"]].concat());
        let document = document.json();
        assert_eq!(inspect(&output), before, "{name}");
        let (original, best) = (&document["original"], &document["best"]);
        assert_eq!(metric(original, "macs"), metric(best, "macs"));
        let lost = metric(original, "test_accuracy") - metric(best, "test_accuracy");
        assert!(lost < 0.05, "{lost}");
    }
}

#[test]
fn a_network_is_compressed_by_a_recipe_and_within_limits() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    with_network(at);
    let compress = ["compress", "net.onnx", "--data", "data.toml"];
    let by_recipe = [&compress[..], &["--recipe", "r.toml", "-o", "small.edge"]].concat();
    let ran = run(at, &by_recipe);
    let shown = ran.stdout();
    assert!(!ran.stderr().contains("warning"), "{}", ran.stderr());
    ran.ok();
    assert!(shown.contains("The best of 1 recipe is trial 0 of net-r: int8 prune 40% of macs"));
    assert!(!shown.contains("Pareto front"), "{shown}");

    // The same command again shows the same, and its JSON has the figures.
    let again = run(at, &[&by_recipe[..], &["--format", "json"]].concat()).json();
    let (original, best) = (&again["original"], &again["best"]);
    assert_eq!((&again["study"], &best["trial"]), (&"net-r".into(), &0.into()));
    let left = metric(best, "macs") / metric(original, "macs");
    assert!((0.4..=0.6).contains(&left), "{left}");
    assert!(metric(best, "model_bytes") < metric(original, "model_bytes") / 2.0);
    assert!(metric(original, "latency_ms@local") > 0.0);
    // What is shown is what the written file does.
    let line = ["evaluate", "small.edge", "--data", "data.toml", "--format", "json"];
    let evaluated = run(at, &line).json()["figures"]["test_accuracy"].as_f64();
    assert_eq!(evaluated, Some(metric(best, "test_accuracy")));
    let trial = run(at, &["trial", "net-r", "0", "--format", "json"]).json();
    let recipe = &trial["trials"][0]["recipe"];
    assert_eq!(recipe["precision"], "int8");
    let passes: Vec<&str> =
        recipe["steps"].as_array().unwrap().iter().map(|s| s["pass"].as_str().unwrap()).collect();
    assert_eq!(passes, ["prune", "fine-tune", "quantize", "quantize-aware-train"]);
    assert_eq!(
        (&recipe["steps"][0]["of"], &recipe["steps"][0]["share"]),
        (&"macs".into(), &0.4.into())
    );
    // What each pass did is shown by both commands.
    let table = "\nstage                 validation         change ";
    let (_, stages) = shown.split_once(table).unwrap_or_else(|| panic!("no stages in {shown}"));
    let lines: Vec<&str> = stages.lines().skip(1).take(5).collect();
    let passes: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let expected = ["original", "prune", "fine-tune", "quantize", "quantize-aware-train"];
    assert_eq!(passes, expected, "{shown}");
    let described = run(at, &["trial", "net-r", "0"]).ok();
    assert!(described.contains(&lines.join("\n")), "{described}");
    // The network as it came is timed beside it.
    let said = "the network as it came, in fp32: median ";
    let line = described.lines().find(|line| line.starts_with("original@local"));
    assert!(line.is_some_and(|line| line.contains(said)), "{described}");
    let timed = &trial["trials"][0]["measurements"][0];
    assert!(timed["original"]["p50_ms"].as_f64().unwrap() > 0.0, "{timed}");
    // So is the pruned network as it was before it was quantized.
    let said = "unquantized@local  the same network in fp32, before it was quantized: median ";
    assert!(described.contains(said), "{described}");
    assert!(timed["unquantized"]["p50_ms"].as_f64().unwrap() > 0.0, "{timed}");
    assert_eq!(&best["measurement"], timed);
    let stages = trial["trials"][0]["stages"].as_array().unwrap();
    assert_eq!(best["stages"].as_array().unwrap(), stages);
    let images = |stage: &Value| -> u64 {
        let classes = stage["classes"].as_array().unwrap().iter();
        classes.map(|class| class["images"].as_u64().unwrap()).sum()
    };
    assert!(images(&stages[0]) > 0 && stages.iter().all(|s| images(s) == images(&stages[0])));
    let (first, last) = (&stages[0]["figures"], &stages[4]["figures"]);
    for name in ["validation_accuracy", "macs", "parameters", "peak_memory_bytes", "model_bytes"] {
        assert_eq!(last[name].as_f64(), Some(metric(best, name)), "{name}");
        assert_eq!(first[name].as_f64(), Some(metric(original, name)), "{name}");
    }
    let same = run(at, &["trial", "net-r", "0", "--rerun"]).ok();
    assert!(same.contains("model file") && !same.contains("DIFFERENT"), "{same}");

    // A trial is a network, too. Its name says which.
    let of_trial = ["compress", "net-r/0", "--data", "data.toml", "--recipe", "r.toml"];
    let shown = run(at, &[&of_trial[..], &["--name", "twice"]].concat()).ok();
    assert!(shown.contains("trial 0 of twice"), "{shown}");

    let line = ["recommend", "net-r", "--for", "smallest", "--format", "json"];
    let recommended = run(at, &line).json();
    assert_eq!((&recommended["best"]["trial"], &recommended["trials"]), (&0.into(), &1.into()));
    let none = run(at, &["recommend", "net-r", "--for", "fastest@rpi4"]);
    assert_eq!(none.code(), 3, "{none:?}");
    let none = none.stdout();
    let said = "net-r has 1 complete trial; none keeps all limits and has latency_ms@rpi4";
    assert!(none.contains(said), "{none}");
    assert!(none.contains("no complete trial was timed on rpi4"), "{none}");

    // Limits: one that can be kept, and one that cannot.
    let auto = ["--auto", "accuracy_drop<=0.5", "model_bytes<=100000", "--trials", "3"];
    let within = run(at, &[&compress[..], &auto, &["--format", "json"]].concat()).json();
    let met: Vec<&Value> =
        within["limits"].as_array().unwrap().iter().map(|limit| &limit["met"]).collect();
    assert_eq!((met, &within["recipes"]), (vec![&Value::from(true); 2], &3.into()));
    // The first recipe takes the first value of each list.
    let study = within["study"].as_str().unwrap();
    let first = run(at, &["trial", study, "0", "--format", "json"]).json();
    let choice = |name: &str| first["trials"][0]["choices"][name].as_str().map(str::to_owned);
    let none = Some("0".to_owned());
    assert_eq!(["prune.share", "cluster.clusters"].map(choice), [none.clone(), none]);
    let hopeless = ["--auto", "model_bytes<=300", "--trials", "2", "--name", "tiny"];
    let hopeless = [&compress[..], &hopeless, &["-o", "tiny.edge"]].concat();
    let ran = run(at, &hopeless);
    assert_eq!(ran.code(), 3, "{ran:?}");
    // The teacher of the file is one of its own space.
    let said = "[teacher] of data.toml is a network of its study's space, so it and the others";
    assert!(ran.stderr().contains(said), "{}", ran.stderr());
    let shown = ran.stdout();
    assert!(at.join("tiny.edge").is_file());
    let again = run(at, &hopeless);
    let said = "tiny is already complete (a larger --trials tries more recipes)";
    assert!(again.stderr().contains(said), "{}", again.stderr());
    let fewer = ["--auto", "model_bytes<=300", "--trials", "1", "--name", "tiny"];
    let fewer = run(at, &[&compress[..], &fewer].concat());
    fewer.fails(2, &["--trials: 2 -> 1", "; or give --name; or start tiny again"]);
    assert!(!fewer.stderr().contains("budget.trials"), "{}", fewer.stderr());
    assert!(shown.contains("model_bytes<=300: not met"), "{shown}");
    assert!(shown.contains("no recipe keeps all limits"), "{shown}");
    // What no recipe can keep is a mistake.
    let line = ["--auto", "peak_memory_bytes<=10", "--trials", "2", "--name", "none"];
    let said = "no network of the space has peak_memory_bytes below";
    run(at, &[&compress[..], &line].concat()).fails(2, &["the command line has 1 mistake", said]);
}

/// Ctrl-C stops it, the same command goes on, and what was finished is not tried again.
#[test]
fn a_search_of_recipes_is_stopped_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    with_network(at);
    // Many, so that some are left after the first one, however slow this process is.
    let shares: Vec<f64> = (1..=16).map(|share| f64::from(share) / 20.0).collect();
    let slow = RECIPE.replace("share = 0.4", &format!("share = {shares:?}"));
    std::fs::write(at.join("r.toml"), slow.replace("epochs = 2", "epochs = 8")).unwrap();
    let line = ["compress", "net.onnx", "--data", "data.toml", "--recipe", "r.toml"];
    let line = [&line[..], &["--slots", "1", "-o", "best.edge"]].concat();
    let first = Process::start_with_log(command(at, &line), &at.join("log"));
    let trials = || {
        let ran = run(at, &["trials", "net-r", "--format", "json"]);
        let document = serde_json::from_str::<Value>(&ran.stdout()).unwrap_or_default();
        document["trials"].as_array().cloned().unwrap_or_default()
    };
    let start = Instant::now();
    while complete(&trials()).is_empty() {
        assert!(start.elapsed() < PATIENCE, "no recipe was tried");
        std::thread::sleep(Duration::from_millis(50));
    }
    first.interrupt();
    assert_eq!(first.wait(), Some(130));
    let said = std::fs::read_to_string(at.join("log")).unwrap();
    let hint = "Continue with: edgesmith compress net.onnx --data data.toml --recipe r.toml";
    assert!(said.contains(hint) && !at.join("best.edge").exists(), "{said}");
    let before = complete(&trials());
    assert!((1..16).contains(&before.len()), "{} were complete", before.len());
    // The study is there for the other commands.
    let front = run(at, &["pareto", "net-r", "--format", "json"]).json();
    assert!(!front["trials"].as_array().unwrap().is_empty(), "{front}");

    let second = run(at, &line);
    assert!(second.stderr().contains("continues"), "{}", second.stderr());
    assert!(second.ok().contains("The best of 16 recipes is trial "));
    assert!(at.join("best.edge").is_file());
    let after = complete(&trials());
    assert_eq!(after.len(), 16);
    for trial in &before {
        assert!(after.contains(trial), "{trial:?} changed");
    }
}

#[test]
fn single_weights_are_pruned_and_stored_smaller() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    with_network(at);
    std::fs::write(at.join("sparse.toml"), SPARSE).unwrap();
    let line = ["compress", "net.onnx", "--data", "data.toml", "--recipe", "sparse.toml"];
    let more = ["-o", "small.edge", "--format", "json"];
    let compressed = run(at, &[&line[..], &more].concat()).json();
    let (original, best) = (&compressed["original"], &compressed["best"]);
    for same in ["macs", "parameters"] {
        assert_eq!(metric(best, same), metric(original, same));
    }
    let inspected = run(at, &["inspect", "small.edge", "--check", "--format", "json"]).json();
    assert_eq!(inspected["counted_bytes"].as_f64(), Some(metric(best, "model_bytes")));
    let stored = inspected["layers"].as_array().unwrap().iter().filter_map(|l| l.get("stored"));
    let (mut weights, mut zeros, mut bytes) = (0.0, 0.0, 0.0);
    for stored in stored {
        weights += stored["weights"].as_f64().unwrap();
        zeros += stored["zeros"].as_f64().unwrap();
        bytes += stored["bytes"].as_f64().unwrap();
    }
    assert!(zeros >= 0.79 * weights, "{zeros} of {weights}");
    assert!(bytes < 0.6 * weights, "{bytes} for {weights}");
    let shown = run(at, &["inspect", "small.edge"]).ok();
    assert!(shown.contains("weights that are not 0"), "{shown}");
}

#[test]
fn mistakes_are_told_before_anything_is_trained() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    with_network(at);
    let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    let compress =
        |more: &[&str]| run(at, &[&["compress", "net.onnx", "--data", "data.toml"], more].concat());
    write("wrong.toml", "\n[[recipe.steps]]\npass = \"prune\"\nshare = 2\n");
    let line = "line 4: recipe.steps[0].share: 2.0 is not allowed";
    compress(&["--recipe", "wrong.toml"]).fails(2, &["wrong.toml has 1 mistake", line]);
    write("study.toml", "study.name = \"x\"\n[recipe]\nprune = 0.5\n");
    compress(&["--recipe", "study.toml"]).fails(2, &["study.toml has study beside [recipe]"]);
    write("empty.toml", "");
    compress(&["--recipe", "empty.toml"]).fails(2, &["[[recipe.steps]]"]);
    compress(&["--recipe", "none.toml"]).fails(2, &["failed to read the recipe", "none.toml"]);
    compress(&["--auto", "speed<=3"]).fails(2, &["unknown metric", "accuracy_drop"]);
    let targets = ["--auto", "latency_ms@rpi4<=3"];
    compress(&targets).fails(2, &["latency_ms@rpi4<=3", "is measured on this machine"]);
    compress(&["--recipe", "r.toml", "-o", "none/x.edge"])
        .fails(2, &["the folder none does not exist"]);
    let scale = "[[recipe.steps]]\npass = \"prune\"\nshare = 0.5\nimportance = \"scale\"\n";
    write("scale.toml", scale);
    let said = "recipe.steps[0].importance: the network has no batch normalisation";
    compress(&["--recipe", "scale.toml"]).fails(2, &[said]);
    let ran = compress(&["--auto", "model_bytes<=-1"]);
    assert!(!ran.stderr().contains("  line "), "{}", ran.stderr());
    ran.fails(
        2,
        &["the command line has 1 mistake", "model_bytes<=-1: model_bytes is always above 0"],
    );
    compress(&[]).fails(2, &["--recipe", "--auto"]);
    compress(&["--recipe", "r.toml", "-o", "x.txt"]).fails(2, &["must end in .edge or .onnx"]);
    compress(&["--recipe", "r.toml", "--raw-pixels"])
        .fails(2, &["says itself how it reads pixels"]);
    let layer = "[[recipe.steps]]\npass = \"quantize\"\nfp32 = \"nothing\"\n";
    write("layer.toml", layer);
    let said = "line 3: recipe.steps[0].fp32: the network has no layer \"nothing\" with weights";
    compress(&["--recipe", "layer.toml"]).fails(2, &["layer.toml has 1 mistake", said]);
    // A file of logits for three images, in NumPy's format.
    let shape = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 10), }";
    let mut rows = b"\x93NUMPY\x01\0\x76\0".to_vec();
    rows.extend(format!("{shape:<117}\n").bytes());
    rows.extend([0; 120]);
    std::fs::write(at.join("rows.npy"), rows).unwrap();
    // The file of the data needs nothing but these.
    write("alone.toml", "[data]\nsource = \"digits\"\n\n[training]\nepochs = 0\n");
    let alone = ["compress", "net.onnx", "--data", "alone.toml", "--recipe", "r.toml"];
    let said = "line 5: training.epochs: 0 is out of range; use 1 to 100000";
    run(at, &alone).fails(2, &["alone.toml has 1 mistake", said]);
    let data = std::fs::read_to_string(at.join("data.toml")).unwrap();
    let (before, _) = data.split_once("[teacher]").unwrap();
    write("taught.toml", &format!("{before}[teacher]\nlogits = \"rows.npy\"\n"));
    write(
        "distil.toml",
        "[[recipe.steps]]\npass = \"distil\"\n[[recipe.steps]]\npass = \"fine-tune\"\n",
    );
    let line = ["compress", "net.onnx", "--data", "taught.toml", "--recipe", "distil.toml"];
    run(at, &line).fails(2, &["a file that it names does not fit", "rows.npy"]);
    assert!(!run(at, &["studies"]).ok().contains("net-distil"));
}

/// The same as with the whole study file, which has the same data.
#[test]
fn a_file_of_data_alone_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    with_network(at);
    let alone = "study.seed = 6\n\n[data]\nsource = \"digits\"\ntrain_limit = 600\n\
                 test_limit = 200\n";
    std::fs::write(at.join("alone.toml"), alone).unwrap();
    std::fs::write(at.join("bits.toml"), BITS.replace("BITS", "")).unwrap();
    let by = |file: &str, line: &[&str]| {
        run(at, &[line, &["--data", file, "--format", "json"]].concat()).json()
    };
    for line in [&["evaluate", "net.onnx"][..], &["sensitivity", "net.onnx", "--images", "40"]] {
        assert_eq!(by("alone.toml", line), by("data.toml", line));
    }
    let compressed = |file: &str, name: &str| {
        let line = ["compress", "net.onnx", "--recipe", "bits.toml", "--name", name];
        by(file, &line)["best"]["metrics"]["test_accuracy"].as_f64().unwrap()
    };
    assert_eq!(compressed("alone.toml", "alone"), compressed("data.toml", "whole"));
}

#[test]
fn layers_are_shown_by_what_they_cost() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    with_network(at);
    let line = ["sensitivity", "net.onnx", "--data", "data.toml"];
    let shown = run(at, &line).ok();
    let advised = shown.contains("of its channels gone") || shown.contains("of their channels");
    assert!(shown.contains("noise, dB") && advised, "{shown}");
    let asked = run(at, &[&line[..], &["--format", "json", "--share", "0.25"]].concat()).json();
    let layers = asked["layers"].as_array().unwrap();
    let macs: f64 = layers.iter().map(|layer| layer["macs"].as_f64().unwrap()).sum();
    let inspected = run(at, &["inspect", "net.onnx", "--format", "json"]).json();
    assert_eq!(Some(macs), inspected["macs"].as_f64());
    // A trial is a network, too, and the order is that of the losses.
    let lost = |layer: &Value| layer["int8"]["validation_accuracy"].as_f64().unwrap();
    assert!(layers.is_sorted_by(|a, b| lost(a) <= lost(b)));
    run(at, &["sensitivity", "first/0", "--data", "data.toml", "--images", "40"]).ok();
    run(at, &[&line[..], &["--share", "1"]].concat()).fails(2, &["--share 1", "below 1"]);
}

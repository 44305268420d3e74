//! Study files: what a valid one means, and every mistake of an invalid one with its line.

use edgesmith_common::spec::{
    AlgorithmSpec, DataSource, FidelityRule, FidelitySpec, OptimizerSpec, PolicySpec, Proxy,
    RewardSpec, ScreeningSpec, TableRung, TeacherSource, Workload,
};
use edgesmith_common::{Bound, Goal, Metric, StudySpec};

const GOOD: &str = r#"[study]
name = "good"

[data]
source = "digits"

[space]
resolution = 8
stem_width = [4, 8]

[[space.stages]]
width = [4, 8]

[[objectives]]
metric = "validation_accuracy"

[budget]
trials = 3
"#;

fn errors(text: &str) -> Vec<String> {
    match StudySpec::parse(text) {
        Ok(_) => panic!("it has no mistake:\n{text}"),
        Err(errors) => errors.listed.iter().map(ToString::to_string).collect(),
    }
}

/// The only mistake in `GOOD` after replacing `from` by `to`; it must be on the line of `at`.
fn mistake(from: &str, to: &str, at: &str) -> String {
    assert!(GOOD.contains(from), "{from:?}");
    one_mistake(&GOOD.replacen(from, to, 1), at)
}

fn one_mistake(text: &str, at: &str) -> String {
    let line = text.lines().position(|l| l.contains(at)).expect("the place is in the text") + 1;
    let found = errors(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    let rest = found[0].strip_prefix(&format!("line {line}: "));
    rest.unwrap_or_else(|| panic!("not on line {line}: {}", found[0])).to_owned()
}

/// The only mistake in `GOOD` with `more` appended, on the line of `at`.
fn mistake_in(more: &str, at: &str) -> String {
    one_mistake(&format!("{GOOD}{more}"), at)
}

#[test]
fn a_short_study_has_sensible_defaults_and_parses_again() {
    let spec = StudySpec::parse(GOOD).unwrap();
    assert_eq!(spec.name.as_str(), "good");
    assert_eq!(spec.seed.0, 0);
    let work = spec.training().unwrap();
    assert_eq!(work.data.source, DataSource::Digits);
    assert_eq!(work.space.staged().unwrap().definition().resolution, [8]);
    assert_eq!(spec.space.size(), 4);
    assert_eq!(spec.objectives[0].goal, Goal::Maximize);
    assert_eq!(spec.algorithm, AlgorithmSpec::Auto);
    assert_eq!((spec.budget.trials, spec.budget.max_attempts), (3, 3));
    assert_eq!(work.training.optimizer, OptimizerSpec::AdamW);
    assert!(work.teacher.is_none());
    assert!(work.measurement.min_runs >= 50 && work.measurement.min_seconds >= 0.2);
    assert!(spec.devices().is_empty());
    assert_eq!(StudySpec::parse(spec.source()).unwrap(), spec);
}

#[test]
fn every_field_is_read() {
    let more = r#"
[[objectives]]
metric = "latency_ms"
device = "rpi4"
[[objectives]]
metric = "latency_ms"
[[constraints]]
metric = "latency_ms"
device = "phone"
max = 5
[[constraints]]
metric = "parameters"
min = 10
max = 100000
[algorithm]
name = "reinforce"
entropy = 0.5
[training]
optimizer = "sgd"
momentum = 0.8
[training.augmentation]
shift = 1
views = 4
[recipe]
precision = "int8"
alpha = [0.0, 0.5]
[teacher]
weights = "teacher.safetensors"
[teacher.architecture]
resolution = 8
stem_width = 16
stages = [{ width = 32, operation = "inverted-residual", expansion = 6 }]
"#;
    let spec = StudySpec::parse(&format!("{GOOD}{more}")).unwrap();
    let devices: Vec<String> = spec.devices().iter().map(ToString::to_string).collect();
    assert_eq!(devices, ["rpi4", "local", "phone"]);
    let bounds: Vec<Bound> = spec.constraints.iter().map(|c| c.bound).collect();
    assert_eq!(bounds, [Bound::Max(5.0), Bound::Max(100_000.0), Bound::Min(10.0)]);
    assert!(matches!(spec.algorithm, AlgorithmSpec::Reinforce { entropy: 0.5, .. }));
    let work = spec.training().unwrap().clone();
    assert_eq!(work.training.optimizer, OptimizerSpec::Sgd { momentum: 0.8 });
    let teacher = work.teacher.unwrap();
    assert_eq!(teacher.architecture.to_string(), "r8 stem16 | inverted-residual e6 k3 w32 x1 relu");
    assert_eq!(teacher.source, TeacherSource::File { path: "teacher.safetensors".to_owned() });
}

#[test]
fn a_file_of_logits_teaches_instead_of_a_network() {
    let taught = |fields: &str| {
        StudySpec::parse(&format!("{GOOD}[recipe]\nalpha = 0.5\n[teacher]\nlogits = {fields}\n"))
    };
    let spec = taught("\"l.npy\"").unwrap();
    let work = spec.training().unwrap();
    assert_eq!((&work.teacher, work.logits.as_deref()), (&None, Some("l.npy")));
    let again = StudySpec::from_resolved(&spec.to_resolved()).unwrap();
    assert_eq!(again.training(), Some(work));
    let other = taught("\"m.npy\"").unwrap().differences(&spec);
    assert_eq!(other[0].to_string(), "teacher.logits: m.npy -> l.npy");
    for more in ["epochs = 3", "weights = \"w\"", "architecture = \"largest\""] {
        let error = taught(&format!("\"l.npy\"\n{more}")).unwrap_err().to_string();
        let (name, _) = more.split_once(' ').unwrap();
        let said = format!("teacher.{name}: logits teach without a network");
        assert!(error.contains(&said), "{error}");
    }
}

#[test]
fn features_are_copied_of_networks_only() {
    let distil = |teacher: &str| {
        let step = "[[recipe.steps]]\npass = \"distil\"\nfeatures = [\"none\", \"relations\"]\n";
        StudySpec::parse(&format!("{GOOD}[teacher]\n{teacher}\n{step}"))
    };
    let spec = distil("epochs = 3").unwrap();
    let features = spec.space.choices().iter().find(|choice| choice.name == "distil.features");
    assert_eq!(features.unwrap().options, ["none", "relations"]);
    let error = distil("logits = \"l.npy\"").unwrap_err().to_string();
    let said =
        "recipe: candidates may copy features of the teacher (relations), but teacher.logits";
    assert!(error.contains(said), "{error}");
}

#[test]
fn what_runs_by_reference_has_no_latency_to_ask_for() {
    let quantized = |settings: &str, text: &str| {
        let step = format!("[[recipe.steps]]\npass = \"quantize\"\n{settings}\n");
        StudySpec::parse(&format!("{text}{step}"))
    };
    let constraint = "[[constraints]]\nmetric = \"latency_ms\"\ndevice = \"pi\"\nmax = 5\n";
    let timed = format!("{GOOD}{constraint}");
    let by_reference = [
        "activation_bits = [8, 16]",
        "weight_bits = 16",
        "weight_bits = [8, 4]\naffine_weights = true",
    ];
    for settings in by_reference {
        let error = quantized(settings, &timed).unwrap_err().to_string();
        assert!(error.contains("such candidates run by reference and have no"), "{error}");
        assert!(error.contains("take these out of recipe.steps[0]"), "{error}");
        quantized(settings, GOOD).unwrap();
    }
    for settings in ["weight_bits = [1, 2, 4]", "weight_bits = 16\nactivation_bits = 32"] {
        quantized(settings, &timed).unwrap();
    }
}

#[test]
fn distillation_may_change_over_a_training() {
    let distil = |settings: &str| {
        let step = format!("[[recipe.steps]]\npass = \"distil\"\n{settings}\n");
        StudySpec::parse(&format!("{GOOD}[teacher]\nepochs = 3\n{step}"))
    };
    let falling = "{ from = 0.9, to = 0.3, schedule = \"linear\" }";
    let options = |settings: &str, name: &str| {
        let spec = distil(settings).unwrap();
        let again = StudySpec::from_resolved(&spec.to_resolved()).unwrap();
        assert_eq!(again.training(), spec.training());
        let choice = spec.space.choices().iter().find(|choice| choice.name == name);
        choice.map(|choice| choice.options.clone())
    };
    let alpha = options(&format!("alpha = [0.5, {falling}]"), "distil.alpha").unwrap();
    assert_eq!(alpha, ["0.5", "0.9-to-0.3-linear"]);
    assert_eq!(options(&format!("alpha = {falling}"), "distil.alpha"), None);
    for (wrong, expected) in [
        ("alpha = true", "alpha: is true; give a finite number, or one that changes"),
        ("alpha = { from = 0.9, schedule = \"linear\" }", "alpha.to: is missing; give the number"),
        ("alpha = { from = 0.9, to = 0.3 }", "alpha.schedule: is missing; give \"linear\" or"),
        (
            "alpha = [0.5, { to = 0.3, schedule = \"cosine\" }]",
            "alpha[1].from: is missing; give the number in the first step",
        ),
        (&format!("alpha = {}", falling.replace("0.3", "\"a\"")), "alpha.to: is the text \"a\";"),
        (
            &format!("alpha = {}", falling.replace("linear", "liner")),
            "alpha.schedule: unknown schedule \"liner\"; ",
        ),
        (
            &format!("temperature = {}", falling.replace(" }", ", steps = 3 }")),
            "temperature.steps: is unknown; known here: from, to, schedule",
        ),
        (
            &format!("temperature = {}", falling.replace("0.3", "0.0")),
            "is not allowed; both ends have to be above 0 and at most 100",
        ),
        (
            &format!("alpha = {}", falling.replace("0.3", "0.9")),
            "alpha: { from = 0.9, to = 0.9, schedule = \"linear\" } does not change; write 0.9",
        ),
    ] {
        let error = distil(wrong).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("recipe.steps[0]."), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    // The short form has none.
    for list in ["alpha", "temperature"] {
        let short = format!("[teacher]\nepochs = 3\n[recipe]\n{list} = [0.5, {falling}]\n");
        let error = StudySpec::parse(&format!("{GOOD}{short}")).unwrap_err().to_string();
        let expected = format!(
            "recipe.{list}[1]: is a table; give a finite number, because only a step can have a \
             schedule: write [[recipe.steps]] with pass = \"distil\""
        );
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn latency_is_predicted_if_it_has_an_upper_limit_unless_switched_off() {
    let limits = |more: &str| {
        let limits = StudySpec::parse(&format!("{GOOD}{more}")).unwrap().predicted_limits();
        limits.iter().map(|(class, ms)| format!("{class} {ms}")).collect::<Vec<_>>()
    };
    let constraint = |text: &str| format!("[[constraints]]\nmetric = \"latency_ms\"\n{text}\n");
    assert!(limits("").is_empty());
    assert!(limits(&constraint("min = 3")).is_empty());
    assert!(limits("[[constraints]]\nmetric = \"model_bytes\"\nmax = 90000\n").is_empty());
    let two = constraint("device = \"pi\"\nmax = 5") + &constraint("max = 2");
    // The lowest limit counts.
    let three = two.clone() + &constraint("device = \"pi\"\nmin = 1\nmax = 4");
    assert_eq!(limits(&three), ["pi 4", "local 2"]);
    assert!(limits(&(two + "[measurement]\npredict = false\n")).is_empty());
}

#[test]
fn examples_are_valid() {
    for example in ["digits", "digits-asha", "fashion-mnist"] {
        let file = format!("{}/../examples/{example}.toml", env!("CARGO_MANIFEST_DIR"));
        let spec = StudySpec::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(spec.name.as_str(), example);
    }
}

#[test]
fn all_mistakes_are_found_in_one_pass_by_line() {
    let text = GOOD
        .replace("name = \"good\"", "name = \"not good\"\nsed = 3")
        .replace("[4, 8]\n\n[[space", "[4, 0]\n\n[[space")
        .replace("metric = \"val", "goal = \"more\"\nmetric = \"val")
        .replace("trials = 3", "trials = -3");
    let found = errors(&text);
    let lines: Vec<&str> = found.iter().map(|e| e.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 10", "line 16", "line 20"], "{found:#?}");
}

#[test]
fn unknown_keys_are_reported_with_the_nearest_known_one() {
    let said = mistake("stem_width", "stem_widht = 4\nstem_width", "stem_widht");
    assert_eq!(said, "space.stem_widht: is unknown; did you mean stem_width?");
    let said = mistake_in("[trianing]\nepochs = 3\n", "trianing");
    assert_eq!(said, "trianing: is unknown; did you mean training?");
    let said = mistake_in("[teacher]\nxyz = 3\n", "xyz");
    assert!(said.contains("known here: architecture"), "{said}");
}

#[test]
fn wrong_types_and_ranges_are_reported_with_what_to_give() {
    let said = mistake("trials = 3", "trials = \"many\"", "many");
    assert_eq!(said, "budget.trials: is the text \"many\"; give a whole number, 0 or more");
    assert!(mistake("trials = 3", "trials = 0", "trials").contains("use 1 to"));
    assert!(mistake("trials = 3", "trials = -1", "trials").contains("whole number"));
    assert!(mistake("trials = 3", "trials = nan", "trials").contains("whole number"));
    assert!(mistake_in("[training]\nlearning_rate = inf\n", "inf").contains("finite"));
    assert!(mistake_in("[training]\nbatch_size = 1\n", "batch_size").contains("2 to"));
    assert!(mistake_in("[measurement]\nmin_runs = 10\n", "min_runs").contains("50"));
    assert!(mistake_in("[measurement]\nthreads = 4\n", "threads").contains("1 to 1"));
    let said = mistake_in("[measurement]\npredict = 1\n", "predict");
    assert_eq!(said, "measurement.predict: is the whole number 1; give true or false");
    assert!(mistake("[budget]", "[[budget]]", "[[budget]]").contains("[budget]"));
    assert!(mistake("resolution = 8", "resolution = [8, 8]", "resolution").contains("twice"));
}

#[test]
fn each_missing_field_is_reported_once() {
    for (gone, said) in [
        ("[budget]\ntrials = 3\n", "budget"),
        ("[data]\nsource = \"digits\"\n", "data"),
        ("[[objectives]]\nmetric = \"validation_accuracy\"\n", "objectives"),
        ("[study]\nname = \"good\"\n", "study"),
    ] {
        let found = errors(&GOOD.replace(gone, ""));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(&format!("{said}: is missing")), "{found:#?}");
    }
    // Without a space the recipe is known all the same, and so are its mistakes.
    let (before, rest) = GOOD.split_once("[space]").unwrap();
    let (_, after) = rest.split_once("\n\n[[obj").unwrap();
    let text =
        format!("{before}[[obj{after}[[recipe.steps]]\npass = \"fine-tune\"\nepochs = \"all\"\n");
    let found = errors(&text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("space: is missing; give a [space] table"), "{found:#?}");
    assert!(found[1].contains("recipe.steps[0].epochs: is the text \"all\""), "{found:#?}");
    let text = text.replace("\"all\"", "3");
    assert!(one_mistake(&text, "[study]").contains("space: is missing"));
    assert!(mistake("trials = 3", "", "[budget]").contains("budget.trials: is missing"));
    assert!(mistake("width = [4, 8]\n\n[[obj", "\n[[obj", "[[space.stages]]").contains("width"));
    assert!(mistake("name = \"good\"", "", "[study]").contains("study.name: is missing"));
}

#[test]
fn the_space_must_not_be_empty() {
    assert!(mistake("resolution = 8", "resolution = []", "resolution").contains("empty"));
    assert!(mistake("[4, 8]\n\n[[obj", "[]\n\n[[obj", "width = []").contains("stages[0].width"));
    let text = GOOD.replace("[[space.stages]]\nwidth = [4, 8]\n", "");
    assert!(one_mistake(&text, "[space]").contains("no stage"));
    let said = mistake("]]\nwidth", "]]\nkernel = [4]\nwidth", "kernel");
    assert!(said.contains("odd"), "{said}");
    let said = mistake("]]\nwidth", "]]\noperation = \"attention\"\nwidth", "attention");
    assert!(said.contains("inverted-residual"), "{said}");
    let said = mistake("]]\nwidth", "]]\nactivation = \"gelu\"\nwidth", "gelu");
    assert!(said.contains("relu6"), "{said}");
}

#[test]
fn objectives_must_use_metrics_that_the_search_may_see() {
    let said = mistake("validation_accuracy", "speed", "speed");
    assert!(said.contains("latency_ms"), "{said}");
    assert!(mistake("validation_accuracy", "test_accuracy", "test_acc").contains("held out"));
    let twice = "[[objectives]]\nmetric = \"macs\"\n[[objectives]]\nmetric  = \"macs\"\n";
    assert!(mistake_in(twice, "metric  =").contains("already"));
    let device = "[[objectives]]\nmetric = \"macs\"\ndevice = \"rpi4\"\n";
    assert!(mistake_in(device, "rpi4").contains("every device"));
    let name = "[[objectives]]\nmetric = \"latency_ms\"\ndevice = \"r pi\"\n";
    assert!(mistake_in(name, "r pi").contains("device class"));
}

#[test]
fn constraints_must_be_possible() {
    let constraint = |text: &str| mistake_in(&format!("[[constraints]]\n{text}\n"), "[[cons");
    assert!(constraint("metric = \"macs\"").contains("max, min or both"));
    assert!(constraint("metric = \"parameters\"\nmax = 3").contains("no network of the space"));
    assert!(constraint("metric = \"model_bytes\"\nmax = 3").contains("no network of the space"));
    assert!(constraint("metric = \"peak_memory_bytes\"\nmax = 3").contains("nothing is within 3"));
    for metric in ["macs", "parameters", "peak_memory_bytes"] {
        let said = constraint(&format!("metric = \"{metric}\"\nmin = 9e15"));
        assert!(said.contains("nothing reaches 9000000000000000"), "{said}");
    }
    assert!(constraint("metric = \"validation_accuracy\"\nmin = 95").contains("0.95"));
    assert!(constraint("metric = \"latency_ms\"\nmax = 0").contains("above 0"));
    let between = "[[constraints]]\nmetric = \"macs\"\nmin = 3e4\nmax = 2.9e4\n";
    assert!(mistake_in(between, "min = 3e4").contains("nothing is between"));
    assert!(
        mistake_in("[[constraints]]\nmetric = \"macs\"\nmax = nan\n", "nan").contains("finite")
    );
}

#[test]
fn a_constraint_may_say_how_far_beyond_it_counts_as_1() {
    let with = |scale: &str| {
        format!("[[constraints]]\nmetric = \"validation_accuracy\"\nmin = 0.5\n{scale}\n")
    };
    let read = |scale: &str| {
        let spec = StudySpec::parse(&format!("{GOOD}{}", with(scale))).unwrap();
        spec.constraints.last().unwrap().excess(0.25)
    };
    assert_eq!((read(""), read("scale = 0.125")), (0.5, 2.0));
    assert!(mistake_in(&with("scale = 0"), "scale = 0").contains("above 0"));
}

/// Any network may have weights that are stored in far less than a byte each.
#[test]
fn a_file_may_have_fewer_bytes_than_the_network_has_weights() {
    let bytes = |most: u64| format!("[[constraints]]\nmetric = \"model_bytes\"\nmax = {most}\n");
    let space = StudySpec::parse(GOOD).unwrap();
    let work = space.training().expect("it trains");
    let least = work.space.least().unwrap().parameters;
    StudySpec::parse(&format!("{GOOD}{}", bytes(least / 15))).unwrap();
    assert!(mistake_in(&bytes(least / 20), "[[cons").contains("no network of the space"));
}

#[test]
fn the_share_of_two_of_four_need_not_be_said() {
    let steps = ["granularity = \"weights\"\nshare = 0.5", "granularity = \"2:4\""];
    let prune = steps.map(|settings| format!("[[recipe.steps]]\npass = \"prune\"\n{settings}\n"));
    for step in &prune {
        StudySpec::parse(&format!("{GOOD}{step}")).unwrap();
    }
    // Half of the weights need not be said of 2:4, and is not asked for if it may be meant.
    let said = mistake_in(&prune[0].replace("share = 0.5", ""), "[[recipe");
    assert!(said.contains("share: is missing"), "{said}");
    let said = mistake_in(&prune[1].replace("2:4", "2:3"), "2:3");
    assert!(said.contains("channels") && said.contains("2:4"), "{said}");
}

#[test]
fn a_pruning_says_what_goes_or_what_stays() {
    let prune = |settings: &str| format!("[[recipe.steps]]\npass = \"prune\"\n{settings}\n");
    let spec =
        StudySpec::parse(&format!("{GOOD}{}", prune("of = \"macs\"\nat_most = [6_000_000, 4e6]")));
    let spec = spec.unwrap();
    let choice = spec.space.choices().iter().find(|choice| choice.name == "prune.at_most");
    assert_eq!(choice.unwrap().options[..], ["6000000", "4000000"]);
    let said = |settings: &str| mistake_in(&prune(settings), "[[recipe");
    assert!(said("of = \"macs\"").contains("such as 0.5, or what stays as at_most"));
    let both = mistake_in(&prune("of = \"macs\"\nshare = 0.5\nat_most = 7"), "at_most");
    assert!(both.contains("at_most: stands beside share; give one of the two"), "{both}");
    let none = mistake_in(&prune("of = \"macs\"\nat_most = []"), "at_most");
    assert!(none.contains("at_most: the list is empty"), "{none}");
}

#[test]
fn data_sources_are_checked() {
    let said = mistake("source = \"digits\"", "source = \"mnist\"", "mnist");
    assert!(said.contains("idx"), "{said}");
    let said = mistake("source = \"digits\"", "source = \"digits\"\nclasses = 12", "classes");
    assert!(said.contains("leave it out"), "{said}");
    let found = errors(&GOOD.replace("\"digits\"", "\"idx\""));
    assert_eq!(found.len(), 5, "four files and the classes: {found:#?}");
    let said =
        mistake("source = \"digits\"", "source = \"digits\"\nvalidation_fraction = 1.5", "1.5");
    assert!(said.contains("0.01 to 0.9"), "{said}");
}

#[test]
fn a_target_reward_needs_a_target_and_two_suitable_objectives() {
    let both = GOOD.replace(
        "metric = \"validation_accuracy\"\n",
        "metric = \"validation_accuracy\"\n[[objectives]]\nmetric = \"macs\"\n",
    );
    let ppo = "[algorithm]\nname = \"ppo\"\nreward = \"hard-target\"\n";
    let spec = StudySpec::parse(&format!("{both}{ppo}target = 5e4\npolicy = \"lstm\"\n")).unwrap();
    let target = RewardSpec::Target { target: 5e4, within: 0.0, beyond: -1.0 };
    assert!(matches!(
        spec.algorithm,
        AlgorithmSpec::Ppo { reward, policy: PolicySpec::Lstm, .. } if reward == target
    ));
    assert!(one_mistake(&format!("{both}{ppo}"), "reward").contains("target"));
    assert!(one_mistake(&format!("{both}{ppo}target = 0\n"), "target = 0").contains("above 0"));
    let alone = format!("{ppo}target = 5e4\n");
    assert!(mistake_in(&alone, "reward").contains("two objectives"));
    let soft = "[algorithm]\nname = \"reinforce\"\nreward = \"money\"\n";
    assert!(mistake_in(soft, "money").contains("soft-target"));
    let policy = "[algorithm]\nname = \"reinforce\"\npolicy = \"gru\"\n";
    assert!(mistake_in(policy, "gru").contains("lstm"));
    assert!(
        mistake_in("[algorithm]\nname = \"nsga2\"\npolicy = \"lstm\"\n", "policy")
            .contains("unknown")
    );
}

#[test]
fn a_study_may_start_from_earlier_ones() {
    let with = |list: &str| {
        GOOD.replace("name = \"good\"", &format!("name = \"good\"\nstart_from = {list}"))
    };
    let spec = StudySpec::parse(&with("[\"first\", \"second\"]")).unwrap();
    let names: Vec<&str> = spec.start_from.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["first", "second"]);
    let said = |list: &str| one_mistake(&with(list), "start_from");
    assert!(said("[\"good\"]").contains("itself"));
    assert!(said("[\"a\", \"a\"]").contains("twice"));
    assert!(said("[\"no name\"]").contains("no name"));
}

#[test]
fn distillation_needs_a_teacher_with_exactly_one_source() {
    assert!(mistake_in("[recipe]\nalpha = 0.5\n", "[recipe]").contains("[teacher]"));
    let both = "[teacher]\nepochs = 3\nweights = \"w\"\n";
    assert!(mistake_in(both, "weights").contains("leave out"));
    assert!(mistake_in("[algorithm]\npopulation = 3\n", "[algorithm]").contains("is missing"));
    assert!(mistake_in("[teacher]\narchitecture = \"huge\"\n", "huge").contains("largest"));
}

#[test]
fn steps_of_a_recipe_are_read_and_their_mistakes_are_found_in_one_pass() {
    let steps = |text: &str| format!("recipe.steps = [{text}]\n{GOOD}");
    let right = "{ pass = \"prune\", of = \"macs\", share = 0.5 }, { pass = \"quantize\" }";
    let spec = StudySpec::parse(&steps(right)).unwrap();
    assert_eq!(StudySpec::parse(spec.source()).unwrap(), spec);
    let wrong = "{ pass = \"prun\" }, { share = 1 }, { pass = \"prune\", of = \"watts\" }, \
                 { pass = \"quantize\", calibration = [\"mean\"], share = 0.5 }";
    let said = errors(&steps(wrong)).join("\n");
    let expected = [
        "recipe.steps[0].pass: unknown pass \"prun\"; use one of distil, prune, fine-tune, cluster, quantize, \
         quantize-aware-train",
        "recipe.steps[1].pass: is missing; use one of distil, prune",
        "recipe.steps[2].share: is missing; give the share that goes, such as 0.5, or what stays as \
         at_most",
        "recipe.steps[2].of: unknown scope \"watts\"; use one of stage, layer, channels, macs",
        "recipe.steps[3].calibration: unknown calibration \"mean\"; use one of mse, min-max",
        "recipe.steps[3].share: is unknown; known here: pass, precision, calibration",
    ];
    for expected in expected {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    let both = format!("recipe = {{ prune = 0.5, steps = [{{ pass = \"fine-tune\" }}] }}\n{GOOD}");
    let said = errors(&both).join("\n");
    assert!(said.contains("recipe.prune: stands beside steps; write it as a setting"), "{said}");
    let untaught = errors(&steps("{ pass = \"distil\" }")).join("\n");
    assert!(untaught.contains("candidates may distill, but there is no teacher"), "{untaught}");
}

#[test]
fn trials_may_stop_at_rungs() {
    let plain = StudySpec::parse(GOOD).unwrap();
    assert_eq!(plain.fidelity, None);
    let text = format!("{GOOD}[training]\nepochs = 27\n[fidelity]\nrule = \"asha\"\n");
    let spec = StudySpec::parse(&text).unwrap();
    let (rule, rungs) = (FidelityRule::Asha, vec![1, 3, 9]);
    assert_eq!(spec.fidelity, Some(FidelitySpec { rule, rungs, reduction: 3 }));
    let text = format!(
        "{GOOD}[training]\nepochs = 24\n[fidelity]\nrule = \"median\"\nmin_epochs = 2\nreduction = 4\n"
    );
    let spec = StudySpec::parse(&text).unwrap();
    let (rule, rungs) = (FidelityRule::Median, vec![2, 8]);
    assert_eq!(spec.fidelity, Some(FidelitySpec { rule, rungs, reduction: 4 }));
}

#[test]
fn candidates_may_be_screened_before_they_are_trained() {
    let screening = |text: &str| {
        StudySpec::parse(&format!("{GOOD}{text}")).unwrap().training().unwrap().screening
    };
    assert_eq!(screening(""), None);
    let (proxy, batch, keep) = (Proxy::Naswot, 8, 0.5);
    let expected = Some(ScreeningSpec { proxy, batch, keep });
    assert_eq!(screening("[screening]\nproxy = \"naswot\"\n"), expected);
    let expected = Some(ScreeningSpec { proxy: Proxy::Macs, batch: 20, keep: 0.1 });
    assert_eq!(screening("[screening]\nproxy = \"macs\"\nbatch = 20\nkeep = 0.1\n"), expected);
    let said = |text: &str, at: &str| mistake_in(&format!("[screening]\n{text}\n"), at);
    assert_eq!(
        said("proxy = \"grasp\"", "grasp"),
        "screening.proxy: unknown proxy \"grasp\"; use one of synflow, naswot, macs, parameters"
    );
    assert!(said("batch = 4", "[screening]").contains("proxy: is missing"));
    assert!(said("proxy = \"macs\"\nbatch = 1", "batch").contains("2 to 1000"));
    assert!(said("proxy = \"macs\"\nkeep = 1.0", "keep").contains("between 0 and 1"));
}

#[test]
fn trials_may_start_from_their_relatives() {
    let epochs =
        |text: &str| StudySpec::parse(text).unwrap().training().unwrap().training.inherit_epochs;
    assert_eq!(epochs(GOOD), 0);
    assert_eq!(epochs(&format!("{GOOD}[training]\ninherit_epochs = 4\n")), 4);
    let said = mistake_in("[training]\nepochs = 3\ninherit_epochs = 4\n", "inherit_epochs");
    assert!(said.contains("use 0 to 3"), "{said}");
    let both = "[training]\ninherit_epochs = 4\n[fidelity]\nrule = \"asha\"\n";
    assert!(mistake_in(both, "inherit_epochs").contains("[fidelity]"));
}

#[test]
fn weights_are_gone_back_to_only_in_a_whole_first_training() {
    let step = |rewind: &str| {
        format!("[[recipe.steps]]\npass = \"prune\"\nshare = 0.5\nrewind = {rewind:?}\n")
    };
    let (heirs, rungs) = ("[training]\ninherit_epochs = 4\n", "[fidelity]\nrule = \"asha\"\n");
    StudySpec::parse(&format!("{GOOD}{}", step("weights"))).unwrap();
    for (table, mend) in [(heirs, "leave inherit_epochs out"), (rungs, "leave [fidelity] out")] {
        StudySpec::parse(&format!("{GOOD}{table}{}", step("rate"))).unwrap();
        let said = errors(&format!("{GOOD}{table}{}", step("weights"))).join("\n");
        assert!(said.contains("recipe.steps[0].rewind: \"weights\" goes back"), "{said}");
        assert!(said.ends_with(mend), "{said}");
    }
}

#[test]
fn mistakes_in_fidelity_are_reported_at_their_place() {
    let fidelity = |text: &str, at: &str| mistake_in(&format!("[fidelity]\n{text}\n"), at);
    let said = fidelity("rule = \"hyperband\"", "hyperband");
    assert_eq!(said, "fidelity.rule: unknown rule \"hyperband\"; use one of asha, median, curve");
    let said = fidelity("rule = \"median\"\nconfidence = 0.9", "confidence");
    assert!(said.contains("for the rule \"curve\""), "{said}");
    assert!(fidelity("rule = \"curve\"\nconfidence = 1", "confidence").contains("0.5 to 0.999"));
    assert!(fidelity("min_epochs = 2", "[fidelity]").contains("rule: is missing"));
    let said = fidelity("rule = \"asha\"\nmin_epochs = 10", "min_epochs");
    assert!(said.contains("not below training.epochs, 10"), "{said}");
    assert!(fidelity("rule = \"asha\"\nmin_epochs = 0", "min_epochs").contains("1 or more"));
    assert!(fidelity("rule = \"asha\"\nreduction = 1", "reduction").contains("2 to"));
    let said = fidelity("rule = \"asha\"\nrungs = [1]", "rungs");
    assert!(said.contains("is unknown"), "{said}");
    let short = "[training]\nepochs = 1\n[fidelity]\nrule = \"asha\"\n";
    assert!(mistake_in(short, "[fidelity]").contains("min_epochs"));
}

#[test]
fn invalid_toml_is_reported_with_its_line() {
    let found = errors(&GOOD.replace("trials = 3", "trials = "));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("line 18: is not valid TOML"), "{found:#?}");
    assert!(!errors("").is_empty());
    assert!(!errors("[study").is_empty());
}

#[test]
fn cost_is_checked_before_training() {
    let text = format!("{GOOD}[[constraints]]\nmetric = \"parameters\"\nmax = 300\n");
    let spec = StudySpec::parse(&text).unwrap();
    let cost =
        |parameters| edgesmith_search_space::Cost { macs: 1, parameters, peak_memory_bytes: 1 };
    assert_eq!(spec.analytic_violation(&cost(300)), None);
    let why = spec.analytic_violation(&cost(301)).unwrap();
    assert_eq!(why, "parameters is 301, which breaks parameters <= 300");
    assert_eq!(Metric::ALL.iter().filter(|m| m.is_analytic()).count(), 3);
}

/// A study over a table, with `more` inserted into that table.
fn table_study(more: &str) -> String {
    format!(
        r#"
        study.name = "nb201"
        table = {{ path = "nb.csv.gz", latencies = "latency.csv.gz" }}
        objectives = [{{ metric = "validation_accuracy" }}, {{ metric = "latency_ms", device = "pixel3" }}]
        {more}
        "#
    )
}

#[test]
fn a_study_over_a_table_looks_up_cells_and_may_limit_seconds() {
    let spec = StudySpec::parse(&table_study("budget.simulated_seconds = 12000")).unwrap();
    assert_eq!(spec.budget.simulated_seconds, Some(12_000.0));
    assert_eq!(spec.space.choices().len(), 6);
    assert_eq!(spec.space.size(), 15_625);
    assert!(spec.training().is_none());
    let Workload::Table(table) = &spec.work else { panic!("it names a table") };
    assert_eq!(table.path, "nb.csv.gz");
    assert!((table.seconds_share - 0.06).abs() < 1e-12);
    let spec = StudySpec::parse(&table_study("budget.trials = 7")).unwrap();
    assert_eq!((spec.budget.trials, spec.budget.simulated_seconds), (7, None));
}

#[test]
fn a_study_over_a_table_has_no_training_fields_and_uses_only_the_tables_figures() {
    let text = r#"
        study.name = "nb201"
        data.source = "digits"
        training = { epochs = 3, no_such = 1 }
        table = { path = "nb.csv.gz", benchmark = "nas-bench-101" }
        objectives = [{ metric = "latency_ms" }, { metric = "model_bytes" }]
        constraints = [{ metric = "latency_ms", max = 2 }]
        budget = {}
    "#;
    let errors = StudySpec::parse(text).unwrap_err();
    let fields: Vec<&str> = errors.listed.iter().map(|e| e.field.as_str()).collect();
    let expected = [
        "data",
        "training",
        "table.benchmark",
        "table.latencies",
        "objectives[1].metric",
        "constraints",
        "budget.trials",
    ];
    for field in expected {
        assert!(fields.contains(&field), "{field} is not in {errors}");
    }
    assert_eq!(fields.len(), expected.len(), "{errors}");
    // Only a table gives the time that training took.
    let mistake = mistake("trials = 3", "trials = 3\nsimulated_seconds = 5", "simulated_seconds");
    assert!(mistake.contains("is unknown"), "{mistake}");
}

/// A study over a table with rungs at 12 and 25 epochs. Tests replace parts of it.
const RUNGS: &str = r#"[study]
name = "halved"
[table]
path = "nb.csv.gz"
validation_accuracy = "c10_valid_200"
epochs = 200
[[table.rungs]]
epochs = 12
validation_accuracy = "c10_valid_12"
[[table.rungs]] # two
epochs = 25 # the second
validation_accuracy = "c10_valid_25"
[fidelity]
rule = "asha"
reduction = 5
[[objectives]]
metric = "validation_accuracy"
[budget]
trials = 200
"#;

#[test]
fn a_study_over_a_table_may_stop_trials_at_the_tables_rungs() {
    let spec = StudySpec::parse(RUNGS).unwrap();
    let (rule, rungs) = (FidelityRule::Asha, vec![12, 25]);
    assert_eq!(spec.fidelity, Some(FidelitySpec { rule, rungs, reduction: 5 }));
    let Workload::Table(table) = &spec.work else { panic!("it names a table") };
    assert_eq!(table.epochs, Some(200));
    let rung = |epochs, column: &str| TableRung { epochs, validation_accuracy: column.to_owned() };
    assert_eq!(table.rungs, [rung(12, "c10_valid_12"), rung(25, "c10_valid_25")]);
    // The default seconds cover 200 epochs, and a look-up now costs all of them.
    assert_eq!(table.seconds_share, 1.0);
    assert_eq!(StudySpec::parse(spec.source()).unwrap(), spec);
    // Without rungs, the epochs only set the cost of a look-up.
    let text = "table = { path = \"t.csv\", epochs = 50 }\nstudy.name = \"s\"\nbudget.trials = 1\n\
                objectives = [{ metric = \"validation_accuracy\" }]\n";
    let spec = StudySpec::parse(text).unwrap();
    let Workload::Table(table) = &spec.work else { panic!("it names a table") };
    assert_eq!((table.seconds_share, &spec.fidelity), (0.25, &None));
    assert!(table.rungs.is_empty());
}

#[test]
fn mistakes_in_a_tables_rungs_are_reported_at_their_place() {
    let wrong = |from: &str, to: &str, at: &str| {
        assert!(RUNGS.contains(from), "{from:?}");
        one_mistake(&RUNGS.replacen(from, to, 1), at)
    };
    let second = "epochs = 25 # the second";
    let said = wrong(second, "epochs = 12 # the second", "# the second");
    assert_eq!(
        said,
        "table.rungs[1].epochs: 12 is not above 12, the rung before it; put them in order"
    );
    let said = wrong(second, "epochs = 200 # the second", "# the second");
    assert_eq!(
        said,
        "table.rungs[1].epochs: 200 is not below table.epochs, 200; no trial would stop there"
    );
    assert!(wrong("epochs = 12", "epochs = 0", "epochs = 0").contains("use 1 or more"));
    assert!(wrong("epochs = 200", "epochs = 0", "epochs = 0").contains("use 1 or more"));
    let said = wrong(second, "", "# two");
    assert!(said.starts_with("table.rungs[1].epochs: is missing"), "{said}");
    let said = wrong("validation_accuracy = \"c10_valid_12\"\n", "", "[[table.rungs]]");
    assert!(said.starts_with("table.rungs[0].validation_accuracy: is missing"), "{said}");
    let said = wrong(second, "epochs = 25 # the second\ncolumn = \"x\"", "column");
    assert!(said.contains("is unknown"), "{said}");
    let said = wrong("epochs = 200\n", "", "[table]");
    assert_eq!(
        said,
        "table.epochs: is missing; give the epochs of validation_accuracy; rungs must be below them"
    );
    let said = wrong("reduction = 5", "min_epochs = 5", "min_epochs");
    assert!(said.contains("rungs are those of [[table.rungs]], leave it out"), "{said}");
    assert!(wrong("rule = \"asha\"\n", "", "[fidelity]").contains("rule: is missing"));

    // Rungs without fidelity, and fidelity without rungs.
    let (rungs, end) = (RUNGS.find("[[table").unwrap(), RUNGS.find("[fidelity]").unwrap());
    let said = one_mistake(&format!("{}{}", &RUNGS[..rungs], &RUNGS[end..]), "[table]");
    assert!(said.starts_with("table.rungs: is missing; [fidelity] compares trials"), "{said}");
    let alone = RUNGS.replacen("[fidelity]\nrule = \"asha\"\nreduction = 5\n", "", 1);
    let said = one_mistake(&alone, "[[table.rungs]]");
    assert!(said.starts_with("table.rungs: are for [fidelity]"), "{said}");
    let list = format!("{}rungs = 12\n{}", &RUNGS[..rungs], &RUNGS[end..]);
    assert!(one_mistake(&list, "rungs = 12").contains("write [[table.rungs]]"));
}

#[test]
fn an_accepted_study_stays_readable_when_rules_change() {
    let text =
        GOOD.replace("[budget]", "[training]\nepochs = 4000000\n[budget]\nmax_attempts = 500");
    assert!(StudySpec::parse(&text).is_err());
    let spec = StudySpec::parse_accepted(&text).unwrap();
    assert_eq!(spec.training().unwrap().training.epochs, 4_000_000);
    assert_eq!(spec.budget.max_attempts, 500);
    let strict = StudySpec::parse(GOOD).unwrap();
    assert_eq!(StudySpec::parse_accepted(GOOD).unwrap(), strict);
    let said = StudySpec::parse_accepted("[study").unwrap_err().to_string();
    assert!(said.contains("is not valid TOML"), "{said}");
}

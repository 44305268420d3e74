//! Prunings of blocks, by budgets that are measured, and with trainings that go back; and what
//! trainings before and after them keep small or together.

use std::collections::BTreeSet;

use edgesmith_graph::Add;

use super::own_network::trained_on;
use super::recipe::{network_of, run, step, study};
use super::*;

fn context() -> AttemptContext {
    AttemptContext::offline(Vec::new())
}

fn figure(figures: &Figures, metric: Metric) -> f64 {
    figures.get(&metric.whole()).unwrap()
}

/// A network with residual blocks of these names.
pub(super) fn residual(blocks: &[&str]) -> Graph {
    let mut b = GraphBuilder::new();
    let image = b.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
    let place = Place::default;
    let weight = b.parameter("stem.weight", &[4, 1, 3, 3], Role::Weight).unwrap();
    let mut value = b.node("stem", Conv::dense(3, 1), &[image], &[weight], place()).unwrap();
    for name in blocks {
        let weight = b.parameter(format!("{name}.weight"), &[4, 4, 3, 3], Role::Weight).unwrap();
        let name = (*name).to_owned();
        let conv = b.node(name.clone(), Conv::dense(3, 1), &[value], &[weight], place()).unwrap();
        value = b.node(format!("{name}.sum"), Add, &[conv, value], &[], place()).unwrap();
    }
    let pool = b.node("pool", GlobalAveragePool, &[value], &[], place()).unwrap();
    let weight = b.parameter("fc.weight", &[10, 4], Role::Weight).unwrap();
    let classes = b.node("fc", Linear, &[pool], &[weight], place()).unwrap();
    b.finish(&[classes]).unwrap()
}

/// Two residual blocks, of which one says almost nothing.
pub(super) fn with_quiet_block(quiet: &str) -> (Graph, Weights) {
    let graph = residual(&["one", "two"]);
    let mut weights = edgesmith_testing::random_weights(&graph, 5);
    let silent = weights.arrays.get_mut(&format!("{quiet}.weight")).unwrap();
    silent.data.iter_mut().for_each(|x| *x *= 1e-3);
    (graph, weights)
}

/// A trial that compresses a network as it is with these steps.
pub(super) fn compress(graph: &Graph, weights: &Weights, steps: &str) -> (TaskWork, Vec<u8>) {
    let text = format!(
        r#"
study = {{ name = "own", seed = 3 }}
data = {{ source = "digits", train_limit = 200, test_limit = 50 }}
budget.trials = 1
objectives = [{{ metric = "validation_accuracy" }}]
training = {{ epochs = 2, fine_tune_epochs = 1 }}
{steps}
[space]
kind = "model"
model = "net.onnx"
pixels = "unit"
train = "as-it-is"
"#
    );
    let bytes = safetensors::to_bytes(weights, &[]);
    let file = ModelFile {
        network: graph.clone(),
        weights: ArtifactHash::of(&bytes),
        file: ArtifactHash::of(b"net.onnx"),
        inputs: Vec::new(),
        outputs: Vec::new(),
        classes: Vec::new(),
        input_scale: 1.0,
    };
    let files = ModelFiles { space: Some(&file), ..ModelFiles::default() };
    let spec = StudySpec::parse_with_models(&text, files).unwrap();
    let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
    let work = Work::TrainTrial {
        number: TrialNumber(7),
        genotype,
        soft_targets: None,
        rung: None,
        checkpoint: None,
        donor: None,
    };
    (TaskWork { study: spec.name.clone(), spec: Arc::new(spec), work, data: None }, bytes)
}

#[test]
fn the_block_that_says_least_goes_first() {
    let blocks = "granularity = \"blocks\"\nshare = ";
    for (quiet, loud) in [("one", "two"), ("two", "one")] {
        let (graph, weights) = with_quiet_block(quiet);
        let (task, file) = compress(&graph, &weights, &step("prune", &format!("{blocks}0.2")));
        let (trained, left, shallow) = trained_on(task, file);
        assert!(shallow.value_named(quiet).is_none() && shallow.value_named(loud).is_some());
        assert_eq!(left.arrays["fc.weight"], weights.arrays["fc.weight"]);
        // A stage says what came of the budget.
        let gone = 1.0 - shallow.cost().macs as f64 / graph.cost().macs as f64;
        assert!(gone >= 0.2, "{gone}");
        let said = format!("prune to {} of {} macs", shallow.cost().macs, graph.cost().macs);
        assert_eq!(trained.stages.last().unwrap().pass, said);
        // The other one goes, too, if the share is larger than one of them.
        let (task, file) = compress(&graph, &weights, &step("prune", &format!("{blocks}0.7")));
        let (_, _, shallow) = trained_on(task, file);
        assert!(shallow.value_named(loud).is_none());
        let by_chance = format!("{blocks}0.2\nimportance = \"random\"");
        let (task, file) = compress(&graph, &weights, &step("prune", &by_chance));
        let (_, _, shallow) = trained_on(task, file);
        assert_eq!(shallow.nodes().len(), graph.nodes().len() - 2);
    }
}

#[test]
fn channels_go_until_the_file_has_its_bytes() {
    let prune = |share: f64| {
        let text = study(&step("prune", &format!("of = \"bytes\"\nshare = {share}")));
        run(&text, &context()).unwrap()
    };
    for share in [0.3, 0.6] {
        let trained = prune(share);
        let bytes = |figures: &Figures| figure(figures, Metric::MODEL_BYTES);
        let (left, all) = (bytes(&trained.compressed), bytes(&trained.uncompressed));
        assert!(left <= (1.0 - share) * all && left > (0.85 - share) * all, "{left} of {all}");
        let said = format!("prune to {left} of {all} bytes");
        assert_eq!(trained.stages.last().unwrap().pass, said);
        assert_eq!(prune(share).model, trained.model);
    }
}

/// What is removed depends on the machine; that the pass measures, and says so, does not.
#[test]
fn channels_go_until_the_network_takes_its_time() {
    let settings = "of = \"latency\"\nshare = 0.4\nmultiple_of = \"auto\"";
    let (context, text) = (context(), study(&step("prune", settings)));
    let trained = run(&text, &context).unwrap();
    let pass = &trained.stages.last().unwrap().pass;
    let rest = pass.strip_prefix("prune to ").unwrap();
    let (now, rest) = rest.split_once(" of ").unwrap();
    let (before, rest) = rest.split_once(" ms, in multiples of ").unwrap();
    let [now, before]: [f64; 2] = [now, before].map(|number| number.parse().unwrap());
    assert!(now > 0.0 && before > 0.0, "{pass}");
    let multiple: usize = rest.parse().unwrap();
    assert!([1, 2, 4, 8, 16].contains(&multiple), "{pass}");
    let graph = network_of(&trained, &context).expect("its structure is there");
    for group in graph.group_sizes().into_iter().filter(|group| !group.fixed) {
        assert!(group.channels % multiple == 0, "{pass}: {}", group.channels);
    }
    // It is that of the arithmetic that the recipe ends in.
    let int8 = step("prune", "of = \"macs\"\nshare = 0.4\nmultiple_of = \"auto\"\nepochs = 0")
        + &step("quantize", "");
    for (recipe, integers) in [(step("prune", settings), false), (int8, true)] {
        let worker = worker();
        worker.execute(task_of(&study(&recipe), None, None), &context).unwrap();
        let known = [false, true].map(|integers| worker.multiples.of(integers).get().is_some());
        assert_eq!(known, [!integers, integers]);
    }
    // After several rounds it is said once.
    let settings = "of = \"macs\"\nshare = 0.4\nmultiple_of = \"auto\"\nrounds = 2\nepochs = 0";
    let trained = run(&study(&step("prune", settings)), &context).unwrap();
    let pass = &trained.stages.last().unwrap().pass;
    assert_eq!(pass.matches("in multiples of").count(), 1, "{pass}");
}

#[test]
fn trainings_after_a_pruning_go_back_to_the_end_of_the_first() {
    let prune = |settings: &str| {
        let settings = format!("of = \"macs\"\nshare = 0.5\nepochs = 2\n{settings}");
        run(&study(&step("prune", &settings)), &context()).unwrap()
    };
    let seen = |trained: &TrainedTrial| trained.compressed.images_seen().unwrap();
    let once = prune("");
    let (rate, weights) = (prune("rewind = \"rate\""), prune("rewind = \"weights\""));
    // The first training is the same, although one was stopped on the way.
    assert_eq!(once.uncompressed, weights.uncompressed);
    assert_eq!([seen(&once), seen(&rate), seen(&weights)], [6 * 160, 8 * 160, 8 * 160]);
    // The same channels are left. One training starts from their weights, the other from those
    // before the last two epochs.
    let sizes = |trained: &TrainedTrial| figure(&trained.compressed, Metric::MACS);
    assert_eq!(sizes(&rate), sizes(&weights));
    assert_eq!(sizes(&rate), sizes(&once));
    assert_ne!(rate.weights, weights.weights);
    let rounds = prune("rewind = \"weights\"\nrounds = 2");
    assert_eq!(seen(&rounds), 10 * 160);
    assert_eq!(prune("rewind = \"weights\"").weights, weights.weights);
    // Single weights stay 0 when the others go back.
    let single = "granularity = \"weights\"\nof = \"parameters\"\nshare = 0.5\nepochs = 2\n\
                  rewind = \"weights\"";
    let text = study(&step("prune", single));
    let context = context();
    let sparse = run(&text, &context).unwrap();
    let weights = safetensors::from_bytes(&context.fetch(sparse.weights).unwrap()).unwrap();
    let numbers = || weights.arrays.iter().filter(|(name, _)| name.ends_with("weight"));
    let all: usize = numbers().map(|(_, array)| array.data.len()).sum();
    let zeros = numbers().flat_map(|(_, array)| &array.data).filter(|x| **x == 0.0).count();
    assert!(zeros * 100 >= all * 49, "{zeros} of {all}");
}

/// A network that came as it is was trained elsewhere: the schedule is that of `[training]`.
#[test]
fn a_network_as_it_came_goes_back_to_the_rates_that_the_study_describes() {
    let (graph, weights) = with_quiet_block("one");
    let context = |file| AttemptContext::offline(vec![file]);
    let pruned = |epochs: u32, steps: &str| {
        let (mut task, file) = compress(&graph, &weights, steps);
        let mut spec = (*task.spec).clone();
        let edgesmith_common::spec::Workload::Train(work) = &mut spec.work else { panic!() };
        work.training.epochs = epochs;
        work.training.learning_rate = 0.01;
        task.spec = Arc::new(spec);
        let context = context(file);
        match worker().execute(task, &context) {
            Ok(Outcome::TrialTrained(trained)) => {
                safetensors::from_bytes(&context.fetch(trained.weights).unwrap()).unwrap()
            }
            other => panic!("{other:?}"),
        }
    };
    let settings = "share = 0.5\nimportance = \"l1\"\n";
    let rewound = step("prune", &format!("{settings}epochs = 2\nrewind = \"rate\""));
    let tuned = step("prune", settings) + &step("fine-tune", "epochs = 2\nlearning_rate = 0.01");
    // The last two of two epochs are the whole schedule.
    let whole = pruned(2, &rewound);
    assert_eq!(whole, pruned(2, &tuned));
    // The last two of twenty epochs have low rates, so they move the weights less.
    let last = pruned(20, &rewound);
    let start = pruned(2, &step("prune", settings));
    let moved = |to: &Weights| -> f64 {
        let pairs = start.arrays.values().zip(to.arrays.values());
        pairs
            .flat_map(|(a, b)| a.data.iter().zip(&b.data))
            .map(|(a, b)| f64::from((a - b).abs()))
            .sum()
    };
    assert!(
        0.0 < moved(&last) && moved(&last) < 0.2 * moved(&whole),
        "{} {}",
        moved(&last),
        moved(&whole)
    );
}

#[test]
fn there_is_no_way_back_to_a_training_that_another_worker_began() {
    let settings = "of = \"macs\"\nshare = 0.5\nrewind = \"weights\"";
    // With rungs, the training may have been stopped by another worker.
    let text = study(&step("prune", &format!("{settings}\nepochs = 5")));
    let context = context();
    let mut task = task_of(&text, Some(3), None);
    let Ok(Outcome::RungReached(RungReport { checkpoint, .. })) =
        worker().execute(task.clone(), &context)
    else {
        panic!("it reaches the rung");
    };
    let Work::TrainTrial { rung, checkpoint: of, .. } = &mut task.work else { unreachable!() };
    (*rung, *of) = (None, checkpoint);
    let error = worker().execute(task, &context).unwrap_err();
    let said = "goes back to the weights after epoch 1, but the training continued from epoch 3";
    assert!(error.reason.contains(said), "{}", error.reason);
}

/// The same share of the operations goes from a network whose scales shrank and from one whose
/// scales did not. What it costs is the share of the scales that goes with it: layers after them
/// make up for the size of all, but not for those that are gone.
#[test]
fn less_of_the_scales_goes_where_they_shrank() {
    let context = context();
    // The sum of all scales, the share of it that goes, and the accuracy before.
    let tuned = |shrink: &str| {
        let tune = step("fine-tune", &format!("epochs = 10\nlearning_rate = 0.01\n{shrink}"));
        let prune = step("prune", "of = \"macs\"\nshare = 0.5\nimportance = \"scale\"");
        let trial = |steps: &str| {
            run(&study(steps).replace("train_limit = 200", "train_limit = 1000"), &context).unwrap()
        };
        let scales = |trained: &TrainedTrial| -> f64 {
            let bytes = context.fetch(trained.weights).unwrap();
            let weights = safetensors::from_bytes(&bytes).unwrap();
            let scales = weights.arrays.iter().filter(|(name, _)| name.ends_with("gamma"));
            scales.flat_map(|(_, array)| &array.data).map(|x| f64::from(x.abs())).sum()
        };
        let (tuned, pruned) = (trial(&tune), trial(&(tune.clone() + &prune)));
        let macs = figure(&pruned.compressed, Metric::MACS);
        assert!(macs <= 0.5 * figure(&tuned.compressed, Metric::MACS));
        // The scales that stay are as they were.
        let (all, left) = (scales(&tuned), scales(&pruned));
        (all, (all - left) / all, tuned.compressed.validation_accuracy().unwrap())
    };
    let (plain, small) = (tuned(""), tuned("shrink = \"scales\"\nshrink_by = 1.4"));
    println!("scales, share that goes, accuracy before: {plain:?}, where they shrank {small:?}");
    assert!(small.0 < 0.8 * plain.0, "{small:?} {plain:?}");
    assert!(small.1 < 0.5 * plain.1, "{small:?} {plain:?}");
    // It still is a network that tells digits apart.
    assert!(small.2 > 0.5, "{small:?}");
}

#[test]
fn clusters_are_trained_and_stay_clusters() {
    let context = context();
    let cluster = step("cluster", "clusters = 6");
    let model = |steps: &str| {
        let trained = run(&study(steps), &context).unwrap();
        let weights = super::recipe::weights_of_model(&trained, &context);
        (trained, weights)
    };
    let (plain, before) = model(&cluster);
    let (tuned, after) = model(&(cluster.clone() + &step("fine-tune", "epochs = 2")));
    assert_eq!(tuned.compressed.images_seen(), Some(8 * 160));
    assert_ne!(before, after);
    // What was equal is equal still.
    for (before, after) in before.iter().zip(&after) {
        let pairs: BTreeSet<_> = before.iter().zip(after).collect();
        let different: BTreeSet<_> = before.iter().collect();
        assert_eq!(pairs.len(), different.len());
    }
    let bytes = |trained: &TrainedTrial| figure(&trained.compressed, Metric::MODEL_BYTES);
    assert!(bytes(&tuned) < 1.05 * bytes(&plain), "{} {}", bytes(&tuned), bytes(&plain));
}

//! Trials whose recipes are steps.

use std::collections::BTreeSet;

use edgesmith_edge_runtime as edge;
use edgesmith_search_space::Importance;

use super::*;

/// A study with these steps on a plain network of two stages.
pub(super) fn study(steps: &str) -> String {
    format!(
        r#"
study = {{ name = "steps", seed = 3 }}
data = {{ source = "digits", train_limit = 200, test_limit = 50 }}
budget.trials = 1
objectives = [{{ metric = "validation_accuracy" }}]
training = {{ epochs = 6, fine_tune_epochs = 1, learning_rate = 0.01 }}
{steps}
[space]
resolution = 8
stem_width = 8
[[space.stages]]
width = 16
[[space.stages]]
width = 16
stride = 2
"#
    )
}

pub(super) fn step(pass: &str, settings: &str) -> String {
    format!("[[recipe.steps]]\npass = \"{pass}\"\n{settings}\n")
}

pub(super) fn network_of(trained: &TrainedTrial, context: &AttemptContext) -> Option<Graph> {
    let (weights, notes) = safetensors::read(&context.fetch(trained.weights).unwrap()).unwrap();
    let graph = safetensors::network(&notes)?.unwrap();
    weights.check(&graph).unwrap();
    Some(graph)
}

pub(super) fn run(text: &str, context: &AttemptContext) -> Result<TrainedTrial, AttemptError> {
    match worker().execute(task_of(text, None, None), context)? {
        Outcome::TrialTrained(trained) => Ok(trained),
        other => panic!("{other:?}"),
    }
}

fn macs(figures: &Figures) -> f64 {
    figures.get(&Metric::MACS.whole()).unwrap()
}

#[test]
fn channels_of_the_whole_network_compete_by_any_importance() {
    // The output ranks blocks, and lamp ranks single weights.
    let channels = |one: &&Importance| !matches!(one, Importance::Output | Importance::Lamp);
    for importance in Importance::ALL.iter().filter(channels) {
        let settings = format!("of = \"macs\"\nshare = 0.5\nimportance = \"{importance}\"");
        let text = study(&(step("prune", &settings) + &step("fine-tune", "epochs = 2")));
        let context = AttemptContext::offline(Vec::new());
        let trained = run(&text, &context).unwrap_or_else(|e| panic!("{importance}: {e:?}"));
        let left = macs(&trained.compressed) / macs(&trained.uncompressed);
        assert!((0.35..=0.5).contains(&left), "{importance}: {left}");
        // Which channels stay follows from the weights, so the file says the structure.
        let graph = network_of(&trained, &context).expect("its structure is there");
        assert_eq!(graph.cost().macs as f64, macs(&trained.compressed));
        assert_eq!(trained.compressed.images_seen(), Some((6 + 2) * 160));
        assert_eq!(run(&text, &context).unwrap().model, trained.model, "{importance}");
    }
}

#[test]
fn channels_compete_in_rounds_for_what_one_round_leaves() {
    for of in ["macs", "channels"] {
        let settings = format!("of = \"{of}\"\nshare = 0.8\nrounds = 3\nepochs = 0");
        let context = AttemptContext::offline(Vec::new());
        let trained = run(&study(&step("prune", &settings)), &context).unwrap();
        let left = macs(&trained.compressed) / macs(&trained.uncompressed);
        assert!(of != "macs" || (0.1..=0.2).contains(&left), "{left}");
        // Every layer keeps a tenth of its channels, as others could lose more.
        let graph = network_of(&trained, &context).expect("its structure is there");
        let free = graph.group_sizes().into_iter().filter(|group| !group.fixed);
        assert!(free.map(|group| group.channels).all(|channels| channels >= 2), "{of}");
    }
}

#[test]
fn rounds_of_pruning_end_where_one_round_does() {
    let prune = |rounds| {
        let settings = format!("of = \"stage\"\nshare = 0.5\nrounds = {rounds}\nepochs = 1");
        study(&(step("prune", &settings) + &step("fine-tune", "epochs = 1")))
    };
    let context = AttemptContext::offline(Vec::new());
    let (one, three) = (run(&prune(1), &context).unwrap(), run(&prune(3), &context).unwrap());
    assert_eq!(macs(&one.compressed), macs(&three.compressed));
    assert_ne!(one.weights, three.weights);
    // Its structure follows from the candidate.
    assert_eq!(network_of(&three, &context), None);
    let seen = |trained: &TrainedTrial| trained.compressed.images_seen();
    assert_eq!((seen(&one), seen(&three)), (Some(7 * 160), Some(9 * 160)));
}

#[test]
fn a_recipe_in_short_form_is_the_same_as_its_steps() {
    let short = study("recipe = { prune = 0.25, precision = \"int8\" }");
    let steps = step("prune", "of = \"stage\"\nshare = 0.25\nimportance = \"l1\"")
        + &step("fine-tune", "")
        + &step("quantize", "clip_ranges = false\ncorrect_biases = false");
    let context = AttemptContext::offline(Vec::new());
    let (short, steps) = (run(&short, &context).unwrap(), run(&study(&steps), &context).unwrap());
    assert_eq!(short.weights, steps.weights);
    assert_eq!(short.uncompressed, steps.uncompressed);
    let model = |trained: &TrainedTrial| {
        let mut model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
        // They have the same name, but the candidates are of other spaces.
        model.notes = Notes::default();
        model.to_bytes()
    };
    assert_eq!(model(&short), model(&steps));
}

#[test]
fn every_setting_of_a_quantization_makes_another_model() {
    let settings = [
        "",
        "calibration = \"min-max\"",
        "calibration = \"percentile\"",
        "calibration = \"entropy\"",
        "granularity = \"layer\"",
        "examples = 20",
        "equalize = true",
        "correct_biases = false",
        "rounding = \"adaround\"",
    ];
    let context = AttemptContext::offline(Vec::new());
    let mut models: Vec<_> = settings
        .iter()
        .map(|settings| {
            let trained = run(&study(&step("quantize", settings)), &context).unwrap();
            let drop = trained.uncompressed.validation_accuracy().unwrap()
                - trained.compressed.validation_accuracy().unwrap();
            assert!(drop < 0.1, "{settings}: {drop}");
            let mut model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
            assert!(model.has_integers(), "{settings}");
            model.notes = Notes::default();
            model.to_bytes()
        })
        .collect();
    models.sort();
    models.dedup();
    assert_eq!(models.len(), settings.len());
}

#[test]
fn an_importance_that_a_network_does_not_have_is_refused_with_the_layer() {
    // The layers of squeeze-and-excitation have no normalisation.
    let text = study(&step("prune", "of = \"channels\"\nshare = 0.5\nimportance = \"scale\""));
    let squeezed = text.replacen("width = 16", "width = 16\nsqueeze = 4", 1);
    let error = run(&squeezed, &AttemptContext::offline(Vec::new())).unwrap_err();
    assert_eq!(error.fault, Fault::Candidate);
    assert!(error.reason.contains("no batch normalisation"), "{}", error.reason);
}

#[test]
fn a_quantized_network_is_trained_with_the_rounding_that_it_ships_with() {
    let context = AttemptContext::offline(Vec::new());
    let quantize = step("quantize", "calibration = \"min-max\"\ngranularity = \"layer\"");
    let plain = run(&study(&quantize), &context).unwrap();
    let trained = study(&(quantize.clone() + &step("quantize-aware-train", "epochs = 3")));
    let trained = run(&trained, &context).unwrap();
    assert_eq!(trained.compressed.images_seen(), Some((6 + 3) * 160));
    assert_eq!(macs(&trained.compressed), macs(&plain.compressed));
    let parameters = |t: &TrainedTrial| t.compressed.get(&Metric::PARAMETERS.whole());
    assert_eq!(parameters(&trained), parameters(&plain));
    // The weights are those of the folded network, and the file says its structure.
    let graph = network_of(&trained, &context).expect("its structure is there");
    assert!(graph.absorbed_normalizations().iter().all(Option::is_none));
    let model = |t: &TrainedTrial| Model::from_bytes(&context.fetch(t.model).unwrap()).unwrap();
    assert!(model(&trained).has_integers());
    assert_ne!(model(&trained).to_bytes(), model(&plain).to_bytes());
    let accuracy = |t: &TrainedTrial| t.compressed.validation_accuracy().unwrap();
    assert!(accuracy(&trained) >= accuracy(&plain) - 0.05);
    // No epochs train nothing.
    let none = study(&(quantize + &step("quantize-aware-train", "epochs = 0")));
    assert_eq!(run(&none, &context).unwrap().weights, plain.weights);
}

#[test]
fn every_pass_that_changes_the_network_is_a_stage() {
    let prune = step("prune", "of = \"macs\"\nshare = 0.5");
    let steps = [
        prune.clone(),
        step("fine-tune", "epochs = 2"),
        // It trains nothing, so it is no stage.
        step("fine-tune", "epochs = 0"),
        step("prune", "of = \"channels\"\nshare = 0.3"),
        step("quantize", ""),
        step("quantize-aware-train", "epochs = 1"),
    ];
    let context = AttemptContext::offline(Vec::new());
    let trained = run(&study(&steps.concat()), &context).unwrap();
    let passes: Vec<&str> = trained.stages.iter().map(|stage| &*stage.pass).collect();
    let expected = ["trained", "prune", "fine-tune", "prune", "quantize", "quantize-aware-train"];
    assert_eq!(passes, expected);
    // The first and the last stage are the networks that are known anyway.
    let validated = |figures: &Figures| -> Figures {
        let figures = figures.repeatable();
        let all = figures.iter().filter(|(of, _)| !of.is_held_out());
        all.map(|(of, value)| (of.clone(), value)).collect()
    };
    let stages = &trained.stages;
    assert_eq!(stages[0].figures, validated(&trained.uncompressed));
    assert_eq!(stages[5].figures, validated(&trained.compressed));
    let figure = |at: usize, metric: Metric| stages[at].figures.get(&metric.whole()).unwrap();
    let sizes: Vec<f64> = (0..6).map(|at| figure(at, Metric::MODEL_BYTES)).collect();
    assert!(sizes[1] < 0.8 * sizes[0] && sizes[3] < sizes[1], "{sizes:?}");
    assert!(sizes[2] == sizes[1] && sizes[4] < 0.7 * sizes[3], "{sizes:?}");
    let memory = [3, 4].map(|at| figure(at, Metric::PEAK_MEMORY_BYTES));
    assert_eq!(memory[0], 4.0 * memory[1]);
    for stage in stages {
        assert_eq!(stage.check(), Ok(()));
        let (images, right) = stage
            .classes
            .iter()
            .fold((0, 0), |(images, right), class| (images + class.images, right + class.right));
        assert_eq!((stage.classes.len(), images), (10, 40));
        let accuracy = f64::from(right) / f64::from(images);
        assert_eq!(stage.figures.validation_accuracy(), Some(accuracy), "{}", stage.pass);
    }
    // A pruned network is evaluated with statistics of its own: it has the same figures whether it
    // is trained afterwards or ships.
    let pruned = run(&study(&prune), &context).unwrap();
    assert_eq!(pruned.stages[1], stages[1]);
}

#[test]
fn a_stage_says_whether_the_teacher_taught() {
    let teacher = "teacher = { architecture = \"largest\", epochs = 1 }\n";
    let distil = step("distil", "alpha = 0.5\ntemperature = 4");
    let steps = [
        step("prune", "of = \"macs\"\nshare = 0.3"),
        distil,
        step("fine-tune", "epochs = 1"),
        step("quantize", ""),
    ];
    let text = study(&format!("{teacher}{}", steps.concat()));
    let mut task = task_of(&text, None, None);
    let context = AttemptContext::offline(Vec::new());
    let teach = TaskWork { work: Work::TrainTeacher { weights: None }, ..task.clone() };
    let taught = worker().execute(teach, &context);
    let Ok(Outcome::TeacherTrained { trained: teacher, soft_targets: of }) = taught else {
        panic!("{taught:?}")
    };
    assert_eq!(teacher.stages, [], "a teacher is not compressed");
    let Work::TrainTrial { soft_targets, .. } = &mut task.work else { unreachable!() };
    *soft_targets = Some(of);
    let trained = worker().execute(task, &context);
    let Ok(Outcome::TrialTrained(trained)) = trained else { panic!("{trained:?}") };
    let stages: Vec<(&str, bool)> =
        trained.stages.iter().map(|stage| (&*stage.pass, stage.distilled)).collect();
    let expected = [("trained", false), ("prune", false), ("fine-tune", true), ("quantize", false)];
    assert_eq!(stages, expected);
}

#[test]
fn students_copy_the_features_of_their_teacher() {
    let text = |settings: &str| {
        let text = study(&step("distil", settings));
        format!("{text}[teacher]\nweights = \"given\"\n{TEACHER}")
    };
    let learn = |settings: &str| {
        let text = text(settings);
        let weights = safetensors::to_bytes(&teacher_weights(&text), &[]);
        let (_, soft) = teach(&text, weights).unwrap();
        (learn_from(&text, soft.clone()).unwrap().weights, soft)
    };
    let (answers, soft) = learn("alpha = 0.5");
    assert_eq!(SoftTargets::from_bytes(&soft).unwrap().features, None);
    let (attention, soft) = learn("alpha = 0.5\nfeatures = \"attention\"");
    let features = SoftTargets::from_bytes(&soft).unwrap().features.unwrap();
    assert_eq!((features.maps, features.width), (vec![[8, 8]], 0));
    let (relations, soft) = learn("alpha = 0.5\nfeatures = \"relations\"");
    let features = SoftTargets::from_bytes(&soft).unwrap().features.unwrap();
    assert_eq!((features.maps, features.width), (Vec::new(), 8));
    let (heavy, _) = learn("alpha = 0.5\nfeatures = \"relations\"\nfeature_weight = 50.0");
    let (alone, soft) = learn("alpha = 0.0\nfeatures = [\"relations\", \"attention\"]");
    let features = SoftTargets::from_bytes(&soft).unwrap().features.unwrap();
    assert_eq!((features.maps, features.width), (vec![[8, 8]], 8));
    let (hints, soft) = learn("alpha = 0.5\nfeatures = \"hints\"");
    let features = SoftTargets::from_bytes(&soft).unwrap().features.unwrap();
    assert_eq!((features.hint, features.width), (Some([8, 8, 8]), 0));
    let (values, _) = learn("alpha = 0.5\nanswers = \"values\"");
    let all = [answers, attention, relations, heavy, alone, hints, values];
    let different: BTreeSet<_> = all.iter().map(|hash| hash.to_string()).collect();
    assert_eq!(different.len(), all.len());

    // A student of another size has no map to compare, and says so before it is trained.
    let other = text("features = \"attention\"").replacen("resolution = 8", "resolution = 12", 1);
    let weights = safetensors::to_bytes(&teacher_weights(&other), &[]);
    let (_, soft) = teach(&other, weights).unwrap();
    let error = learn_from(&other, soft).unwrap_err();
    assert_eq!(error.fault, Fault::Candidate);
    let said = "12x12, 6x6 in the student and 8x8 in the teacher";
    assert!(error.reason.contains(said), "{}", error.reason);
}

/// With one weight of `[teacher]` for all, so that only what comes beside it differs.
#[test]
fn several_teachers_are_averaged_and_assistants_pass_on_what_they_learned() {
    let soft = |more: &str| {
        let settings = "alpha = 0.5\nfeatures = \"relations\"";
        let text = study(&step("distil", settings));
        let text = format!("{text}[teacher]\nweights = \"given\"\n{TEACHER}{more}");
        let weights = safetensors::to_bytes(&teacher_weights(&text), &[]);
        let (trained, soft) = teach(&text, weights).unwrap();
        let own = trained.uncompressed.validation_accuracy().unwrap();
        (SoftTargets::from_bytes(&soft).unwrap(), own)
    };
    let other =
        |weight: f64| format!("[[teacher.others]]\nepochs = 1\nweight = {weight:?}\n{OTHER}");
    let (alone, accuracy) = soft("");
    let (light, heavy) = (soft(&other(0.5)), soft(&other(3.0)));
    assert_eq!([light.1, heavy.1], [accuracy; 2], "the row is that of the first teacher");
    let (light, heavy) = (light.0, heavy.0);
    assert_eq!((&light.features, &heavy.features), (&alone.features, &alone.features));
    // Both are on the line from the first to the other, a third and three quarters of the way.
    let mut moved = 0.0;
    for ((first, light), heavy) in alone.logits.iter().zip(&light.logits).zip(&heavy.logits) {
        let (light, heavy) = ((light - first) * 3.0, (heavy - first) * 4.0 / 3.0);
        assert!((light - heavy).abs() < 1e-3 * light.abs().max(1.0), "{light} {heavy}");
        moved += light.abs();
    }
    assert!(moved > 1.0, "{moved}");

    let assistant =
        |alpha: f64| format!("[[teacher.assistants]]\nepochs = 1\nalpha = {alpha:?}\n{OTHER}");
    let (learned, accuracy_with) = soft(&assistant(1.0));
    assert_eq!(accuracy_with, accuracy);
    // What it looks at is its own. It is 12 wide.
    assert_eq!(learned.features.as_ref().unwrap().width, 12);
    assert_ne!(learned.logits, alone.logits);
    assert_ne!(learned.logits, soft(&assistant(0.25)).0.logits);
    // A second one learns from the first.
    let chain = soft(&format!("{}{}", assistant(1.0), assistant(1.0))).0;
    assert_ne!(chain.logits, learned.logits);
    assert_eq!(chain, soft(&format!("{}{}", assistant(1.0), assistant(1.0))).0);
}

const OTHER: &str =
    "architecture = { resolution = 8, stem_width = 8, stages = [{ width = 12 }] }\n";

#[test]
fn layers_that_are_named_stay_in_fp32() {
    let context = AttemptContext::offline(Vec::new());
    let model = |settings: &str| {
        let trained = run(&study(&step("quantize", settings)), &context).unwrap();
        let model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
        let figure = |metric: Metric| trained.compressed.get(&metric.whole()).unwrap();
        (model.has_integers(), figure(Metric::MODEL_BYTES), figure(Metric::PEAK_MEMORY_BYTES))
    };
    let (int8, stem) = (model(""), model("fp32 = \"stem\""));
    // A layer of a block that this candidate does not have changes nothing.
    let other = model("fp32 = \"stage2.block9.conv\"");
    assert_eq!(int8, other);
    assert!(int8.0 && stem.0);
    assert_ne!(stem.1, int8.1);
    // What the stem writes to 8 channels of 64 positions counts as numbers and as bytes, beside the
    // bytes of 16 channels that the next layer writes.
    assert_eq!(stem.2, f64::from(8 * 64 * (4 + 1) + 16 * 64));
    // 8 channels of bytes become 16 of the next layer.
    assert_eq!(int8.2, f64::from(8 * 64 + 16 * 64));
}

/// Where the weights of the layers of a trial's model are 0, in the order of the network.
fn zeros_of_model(trained: &TrainedTrial, context: &AttemptContext) -> Vec<Vec<bool>> {
    let model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
    let zeros = |node: &edge::Node| -> Option<Vec<bool>> {
        Some(match &node.layer {
            edge::Layer::FloatConv(layer) => layer.conv.weight.iter().map(|w| *w == 0.0).collect(),
            edge::Layer::IntConv(layer) => layer.conv.weight.iter().map(|w| *w == 0).collect(),
            edge::Layer::FloatLinear(layer) => layer.weight.iter().map(|w| *w == 0.0).collect(),
            edge::Layer::IntLinear(layer) => layer.linear.weight.iter().map(|w| *w == 0).collect(),
            _ => return None,
        })
    };
    model.nodes.iter().filter_map(zeros).collect()
}

fn count(zeros: &[Vec<bool>]) -> usize {
    zeros.iter().flatten().filter(|zero| **zero).count()
}

/// No layer loses nearly all of its weights by lamp, and what goes follows from the criterion.
#[test]
fn single_weights_compete_by_any_importance_that_ranks_them() {
    let context = AttemptContext::offline(Vec::new());
    let mut gone = BTreeSet::new();
    for importance in ["l1", "lamp", "taylor", "random"] {
        let settings = format!(
            "granularity = \"weights\"\nof = \"parameters\"\nshare = 0.8\n\
             importance = \"{importance}\"\nrounds = 2"
        );
        let text = study(&step("prune", &settings));
        let trained = run(&text, &context).unwrap_or_else(|e| panic!("{importance}: {e:?}"));
        let zeros = zeros_of_model(&trained, &context);
        let all: usize = zeros.iter().map(Vec::len).sum();
        assert_eq!(count(&zeros), (all as f64 * 0.8).round() as usize, "{importance}");
        assert_eq!(run(&text, &context).unwrap().model, trained.model, "{importance}");
        if importance == "lamp" {
            assert!(zeros.iter().all(|layer| layer.contains(&false)));
        }
        gone.insert(zeros);
    }
    assert_eq!(gone.len(), 4);
    let two = |importance: &str| {
        let settings = format!("granularity = \"2:4\"\nimportance = \"{importance}\"");
        let trained = run(&study(&step("prune", &settings)), &context).unwrap();
        zeros_of_model(&trained, &context)
    };
    let (by_size, by_effect) = (two("l1"), two("taylor"));
    assert_eq!(count(&by_size), count(&by_effect));
    assert_ne!(by_size, by_effect);
}

#[test]
fn single_weights_that_went_are_zero_in_the_file_after_all_later_passes() {
    let fine_tune = step("fine-tune", "epochs = 2");
    let quantize = step("quantize", "equalize = true\nrounding = \"adaround\"");
    let further = [
        fine_tune.clone(),
        fine_tune.clone() + &quantize,
        fine_tune + &quantize + &step("quantize-aware-train", "epochs = 2"),
    ];
    let context = AttemptContext::offline(Vec::new());
    let dense = run(&study(""), &context).unwrap();
    let weights: usize = zeros_of_model(&dense, &context).iter().map(Vec::len).sum();
    assert_eq!(count(&zeros_of_model(&dense, &context)), 0);
    let settings = [
        ("granularity = \"weights\"\nof = \"parameters\"\nshare = 0.8", 0.8),
        ("granularity = \"weights\"\nshare = 0.5\nrounds = 3", 0.5),
        ("granularity = \"2:4\"", 0.5),
    ];
    for (settings, share) in settings {
        let prune = step("prune", settings);
        let trained = run(&study(&prune), &context).unwrap();
        let pruned = zeros_of_model(&trained, &context);
        // The stem reads one channel, and its 72 weights stay with 2:4.
        let stem = if settings.contains("2:4") { 72.0 } else { 0.0 };
        let expected = share * (weights as f64 - stem);
        assert!((count(&pruned) as f64 - expected).abs() < 3.0, "{settings}: {}", count(&pruned));
        // The file has the numbers that are left, and at most a bit for each weight.
        let bytes = |t: &TrainedTrial| t.compressed.get(&Metric::MODEL_BYTES.whole()).unwrap();
        let saved = 4.0 * expected - weights as f64 / 8.0;
        assert!(bytes(&trained) < bytes(&dense) - saved + 50.0, "{settings}: {}", bytes(&trained));
        for further in &further {
            let text = study(&(prune.clone() + further));
            let last = run(&text, &context).unwrap();
            let zeros = zeros_of_model(&last, &context);
            assert_ne!(last.weights, trained.weights);
            // What went is 0. Integers have more zeros: small weights round to 0.
            for (before, after) in pruned.iter().zip(&zeros) {
                assert!(before.iter().zip(after).all(|(b, a)| !b || *a), "{text}");
            }
            if !further.contains("quantize") {
                assert_eq!(zeros, pruned, "{text}");
            }
            // Nothing computes less.
            assert_eq!(macs(&last.compressed), macs(&last.uncompressed));
            let parameters = |f: &Figures| f.get(&Metric::PARAMETERS.whole());
            assert_eq!(parameters(&last.compressed), parameters(&last.uncompressed));
        }
    }
}

#[test]
fn single_weights_go_before_and_after_channels() {
    let weights = step("prune", "granularity = \"weights\"\nof = \"parameters\"\nshare = 0.5");
    let channels = step("prune", "share = 0.5\nimportance = \"l1\"");
    let tune = step("fine-tune", "epochs = 1");
    let context = AttemptContext::offline(Vec::new());
    let run = |steps: String| run(&study(&steps), &context).unwrap();
    let before = run(weights.clone() + &channels + &tune);
    let slim = run(weights.clone() + &channels);
    assert_eq!(zeros_of_model(&before, &context), zeros_of_model(&slim, &context));
    assert!(count(&zeros_of_model(&slim, &context)) > 0);
    let after = zeros_of_model(&run(channels + &weights + &tune), &context);
    let all: usize = after.iter().map(Vec::len).sum();
    assert_eq!(count(&after), (all as f64 / 2.0).round() as usize);
    // A second, smaller share gives nothing back.
    let less = step("prune", "granularity = \"weights\"\nshare = 0.1");
    let again = zeros_of_model(&run(weights.clone() + &less + &tune), &context);
    let once = zeros_of_model(&run(weights), &context);
    for (before, after) in once.iter().zip(&again) {
        assert!(before.iter().zip(after).all(|(b, a)| !b || *a));
    }
}

/// The bits of the weights of the layers of a trial's model, in the order of the network.
pub(super) fn weights_of_model(trained: &TrainedTrial, context: &AttemptContext) -> Vec<Vec<u32>> {
    let model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
    let floats = |weight: &[f32]| weight.iter().map(|w| w.to_bits()).collect();
    let bytes = |weight: &[i8]| weight.iter().map(|w| u32::from(w.cast_unsigned())).collect();
    let weight = |node: &edge::Node| -> Option<Vec<u32>> {
        Some(match &node.layer {
            edge::Layer::FloatConv(layer) => floats(&layer.conv.weight),
            edge::Layer::IntConv(layer) => bytes(&layer.conv.weight),
            edge::Layer::FloatLinear(layer) => floats(&layer.weight),
            edge::Layer::IntLinear(layer) => bytes(&layer.linear.weight),
            _ => return None,
        })
    };
    model.nodes.iter().filter_map(weight).collect()
}

#[test]
fn clusters_are_in_the_file_and_stay_through_quantization() {
    let different = |weight: &Vec<u32>| weight.iter().collect::<BTreeSet<_>>().len();
    let prune = step("prune", "granularity = \"weights\"\nof = \"parameters\"\nshare = 0.5")
        + &step("fine-tune", "epochs = 2");
    let cluster = step("cluster", "clusters = 8");
    let quantize = step("quantize", "granularity = \"layer\"");
    let context = AttemptContext::offline(Vec::new());
    let bytes = |t: &TrainedTrial| t.compressed.get(&Metric::MODEL_BYTES.whole()).unwrap();
    let dense = run(&study(""), &context).unwrap();
    let int8 = run(&study(&quantize), &context).unwrap();
    for before in [String::new(), prune] {
        let clustered = run(&study(&(before.clone() + &cluster)), &context).unwrap();
        let weights = weights_of_model(&clustered, &context);
        let counts: Vec<usize> = weights.iter().map(different).collect();
        // K-means may leave a cluster empty.
        assert!(counts.iter().all(|count| (5..=8).contains(count)), "{counts:?}");
        // Half a byte for each weight in place of four, and codebooks, biases and headers.
        let all: usize = weights.iter().map(Vec::len).sum();
        let limit = bytes(&dense) - 4.0 * all as f64 + 0.4 * all as f64 + 400.0;
        assert!(bytes(&clustered) < limit, "{} of {}", bytes(&clustered), bytes(&dense));
        let lost = clustered.uncompressed.validation_accuracy().unwrap()
            - clustered.compressed.validation_accuracy().unwrap();
        assert!(lost < 0.15, "{lost}");
        assert_eq!(macs(&clustered.compressed), macs(&dense.compressed));
        // Each level stands for one centroid: equal weights have equal levels.
        let levels = run(&study(&(before.clone() + &cluster + &quantize)), &context).unwrap();
        for (weight, levels) in weights.iter().zip(weights_of_model(&levels, &context)) {
            let pairs: BTreeSet<(u32, u32)> = weight.iter().copied().zip(levels).collect();
            assert_eq!(pairs.len(), different(weight));
        }
        assert!(bytes(&levels) < bytes(&int8) - 0.3 * all as f64);
        // What was pruned is 0 still.
        if !before.is_empty() {
            let pruned = zeros_of_model(&run(&study(&before), &context).unwrap(), &context);
            assert_eq!(zeros_of_model(&clustered, &context), pruned);
            for (before, after) in pruned.iter().zip(zeros_of_model(&levels, &context)) {
                assert!(before.iter().zip(after).all(|(b, a)| !b || a));
            }
        }
    }
}

//! Steps that leave a network as it was are stages that say so.

use super::own_network::plain_network;
use super::prune::{compress, with_quiet_block};
use super::recipe::{step, study};
use super::*;

/// The stages of a network that is compressed as it came. Those of steps that left it as it was
/// have the figures of the one before.
fn stages(network: &(Graph, Weights), steps: &str) -> Vec<String> {
    let (task, file) = compress(&network.0, &network.1, steps);
    let context = AttemptContext::offline(vec![file]);
    let trained = match worker().execute(task, &context) {
        Ok(Outcome::TrialTrained(trained)) => trained,
        other => panic!("{other:?}"),
    };
    for pair in trained.stages.windows(2) {
        let idle = pair[1].pass.contains(" nothing: ") || pair[1].pass.contains("left out");
        if idle {
            assert_eq!((&pair[1].figures, &pair[1].classes), (&pair[0].figures, &pair[0].classes));
            assert!(!pair[1].distilled);
        }
    }
    trained.stages.into_iter().map(|stage| stage.pass).collect()
}

#[test]
fn a_pruning_that_removes_nothing_says_why() {
    let plain = plain_network();
    let tune = step("fine-tune", "epochs = 1");
    let left_out = "fine-tune left out: nothing was pruned";
    for (settings, why) in [
        ("granularity = \"blocks\"\nshare = 0.25", "no residual block"),
        ("share = 0.01", "every layer keeps its channels"),
        ("of = \"stage\"\nshare = 0.5\nmultiple_of = 8", "every layer keeps its channels"),
        ("granularity = \"weights\"\nshare = 0.0001", "the share is less than one weight"),
    ] {
        let said = format!("prune nothing: {why}");
        let all = stages(&plain, &(step("prune", settings) + &tune));
        assert_eq!(all, ["original", &*said, left_out], "{settings}");
    }
    // Whether channels of the whole network go is known when they compete.
    let settings = "of = \"macs\"\nshare = 0.5\nmultiple_of = 8";
    let said = "prune nothing: every layer keeps its channels";
    let rounds = format!("{settings}\nrounds = 2\nepochs = 1");
    for settings in [settings, &rounds] {
        let all = stages(&plain, &(step("prune", settings) + &tune));
        assert_eq!(all, ["original", said, left_out]);
    }
    // A smaller share than that of a pruning before.
    let weights =
        |share: f64| step("prune", &format!("granularity = \"weights\"\nshare = {share}"));
    let all = stages(&plain, &(weights(0.5) + &weights(0.1) + &tune));
    let again = "prune nothing: as many weights are 0 already";
    assert_eq!(all, ["original", "prune", again, "fine-tune"]);
    // Blocks are gone when another pruning has taken them.
    let blocks = |share: f64| step("prune", &format!("granularity = \"blocks\"\nshare = {share}"));
    let network = with_quiet_block("one");
    let all = stages(&network, &(blocks(0.9) + &blocks(0.5)));
    assert_eq!((all.len(), &*all[2]), (3, "prune nothing: no residual block"), "{all:?}");
}

/// A convolution of two filters and a linear layer, both without a bias.
fn without_biases() -> (Graph, Weights) {
    let mut b = GraphBuilder::new();
    let image = b.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
    let weight = b.parameter("conv.weight", &[2, 1, 3, 3], Role::Weight).unwrap();
    let conv = b.node("conv", Conv::dense(3, 1), &[image], &[weight], Place::default()).unwrap();
    let pool = b.node("pool", GlobalAveragePool, &[conv], &[], Place::default()).unwrap();
    let weight = b.parameter("fc.weight", &[10, 2], Role::Weight).unwrap();
    let classes = b.node("fc", Linear, &[pool], &[weight], Place::default()).unwrap();
    let graph = b.finish(&[classes]).unwrap();
    let weights = edgesmith_testing::random_weights(&graph, 5);
    (graph, weights)
}

#[test]
fn layers_of_two_inputs_have_no_two_of_four() {
    let all = stages(&without_biases(), &step("prune", "granularity = \"2:4\""));
    assert_eq!(all, ["original", "prune nothing: no layer reads more than two channels"]);
}

#[test]
fn other_passes_that_change_nothing_say_so() {
    // The weights are two numbers already.
    let (graph, mut weights) = plain_network();
    for array in weights.arrays.values_mut() {
        array.data.iter_mut().for_each(|x| *x = 0.25f32.copysign(*x));
    }
    let all = stages(&(graph, weights), &step("cluster", "clusters = 4"));
    assert_eq!(all, ["original", "cluster nothing: no layer has more than 4 different weights"]);
    assert_eq!(stages(&plain_network(), &step("cluster", "")), ["original", "cluster"]);
    // Each layer of it ends in a sum, or in the classes.
    let equalize = step("quantize", "equalize = true");
    let all = stages(&with_quiet_block("one"), &equalize);
    assert_eq!(all, ["original", "quantize, no layers to equalize"]);
    assert_eq!(stages(&plain_network(), &equalize), ["original", "quantize"]);
    let train =
        step("quantize", "") + &step("quantize-aware-train", "epochs = 1\nnormalize = true");
    let all = stages(&without_biases(), &train);
    assert_eq!(all[2], "quantize-aware-train, no layers to normalize");
    assert_eq!(stages(&plain_network(), &train)[2], "quantize-aware-train");
    let all = stages(&one_bias(), &train);
    assert_eq!(all[2], "quantize-aware-train, 1 of 2 layers normalized");
}

/// Two convolutions, of which the first has a bias, and a linear layer.
fn one_bias() -> (Graph, Weights) {
    let mut b = GraphBuilder::new();
    let image = b.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
    let weight = b.parameter("one.weight", &[4, 1, 3, 3], Role::Weight).unwrap();
    let bias = b.parameter("one.bias", &[4], Role::Bias).unwrap();
    let one = b.node("one", Conv::dense(3, 1), &[image], &[weight, bias], Place::default());
    let weight = b.parameter("two.weight", &[4, 4, 3, 3], Role::Weight).unwrap();
    let two = b.node("two", Conv::dense(3, 1), &[one.unwrap()], &[weight], Place::default());
    let pool = b.node("pool", GlobalAveragePool, &[two.unwrap()], &[], Place::default()).unwrap();
    let weight = b.parameter("fc.weight", &[10, 4], Role::Weight).unwrap();
    let classes = b.node("fc", Linear, &[pool], &[weight], Place::default()).unwrap();
    let graph = b.finish(&[classes]).unwrap();
    let weights = edgesmith_testing::random_weights(&graph, 5);
    (graph, weights)
}

#[test]
fn what_is_switched_off_is_not_mentioned() {
    let steps = step("prune", "share = 0.0") + &step("fine-tune", "");
    assert_eq!(stages(&plain_network(), &steps), ["original"]);
    // So many epochs were asked for.
    let steps = step("prune", "share = 0.0") + &step("fine-tune", "epochs = 1");
    let left_out = "fine-tune left out: nothing was pruned";
    assert_eq!(stages(&plain_network(), &steps), ["original", left_out]);
    let steps = step("prune", "share = 0.01") + &step("fine-tune", "epochs = 0");
    assert_eq!(stages(&plain_network(), &steps).len(), 2);
}

/// A file of logits for all images.
fn logits() -> Vec<u8> {
    let rows = 3823;
    let numbers: Vec<f32> = (0..rows * 10).map(|place| (place * 7 % 31) as f32 / 5.0).collect();
    arrays::write_npy(&NumberArray { shape: vec![rows, 10], numbers })
}

/// Of 8 filters, a share of 0.07 is none in the first of two rounds, and one in the second, which
/// no training follows.
#[test]
fn rounds_that_remove_nothing_are_not_trained() {
    let (graph, weights) = plain_network();
    let prune = step("prune", "of = \"layer\"\nshare = 0.07\nrounds = 2\nepochs = 1");
    let steps = format!("teacher = {{ logits = \"l.npy\" }}\n{}{prune}", step("distil", ""));
    let (mut task, bytes) = compress(&graph, &weights, &steps);
    let file = logits();
    let Work::TrainTrial { soft_targets, .. } = &mut task.work else { unreachable!() };
    *soft_targets = Some(ArtifactHash::of(&file));
    let context = AttemptContext::offline(vec![bytes, file]);
    let trained = match worker().execute(task, &context) {
        Ok(Outcome::TrialTrained(trained)) => trained,
        other => panic!("{other:?}"),
    };
    let stages: Vec<(&str, bool)> =
        trained.stages.iter().map(|stage| (&*stage.pass, stage.distilled)).collect();
    let said = "distil nothing: no training follows";
    assert_eq!(stages, [("original", false), ("prune", false), (said, false)]);
    let fewer = trained.stages[1].figures.get(&Metric::PARAMETERS.whole());
    assert!(fewer < trained.stages[0].figures.get(&Metric::PARAMETERS.whole()));
}

#[test]
fn a_teacher_without_a_training_is_said_to_teach_nothing() {
    let file = logits();
    let stages = |steps: &str| -> Vec<String> {
        let text = study(&format!("teacher = {{ logits = \"l.npy\" }}\n{steps}"));
        let trained = learn_from(&text, file.clone()).unwrap();
        trained.stages.into_iter().map(|stage| stage.pass).collect()
    };
    let (distil, quantize) = (step("distil", ""), step("quantize", ""));
    let said = "distil nothing: no training follows";
    assert_eq!(stages(&(quantize.clone() + &distil)), ["trained", "quantize", said]);
    let train = step("quantize-aware-train", "epochs = 1");
    let all = stages(&(quantize.clone() + &distil + &train));
    assert_eq!(all, ["trained", "quantize", "quantize-aware-train"]);
    // At the beginning it teaches the first training; the second one has other settings.
    let again = step("distil", "alpha = 0.25");
    assert_eq!(stages(&(distil.clone() + &quantize)), ["trained", "quantize"]);
    let all = stages(&(quantize + &distil + &again + &train));
    assert_eq!(all, ["trained", "quantize", said, "quantize-aware-train"]);
    // That the pruning removes nothing is known when the channels have competed.
    let prune = step("prune", "of = \"macs\"\nshare = 0.5\nmultiple_of = 16");
    let all = stages(&(prune + &distil + &step("fine-tune", "epochs = 1")));
    let kept = "prune nothing: every layer keeps its channels";
    assert_eq!(all, ["trained", kept, "fine-tune left out: nothing was pruned", said]);
}

//! Tests of steps whose losses are read together, as on a GPU; here on `flex`.

use super::*;

fn manner(steps_ahead: usize) -> Manner {
    Manner { steps_ahead, channel_multiple: 1 }
}

#[test]
fn reading_losses_together_does_not_change_the_steps() {
    // SGD, because AdamW amplifies differences in rounding.
    let sgd = OptimizerSpec::Sgd { momentum: 0.9 };
    let spec = TrainingSpec { optimizer: sgd, ..spec() };
    let (data, graph) = (colours(), tiny_graph());
    let views = views(&spec);
    let soft = SoftTargets {
        data: data.train.hash(),
        views: Some(2),
        images: 70,
        classes: 3,
        logits: noise(2 * 70 * 3, 9),
        features: None,
    };
    let distillation = Distillation::of_answers(0.5, 2.0);
    for distillation in [None, Some((distillation, &soft))] {
        let start = Checkpoint::fresh(random_weights(&graph, 4));
        let request = TrainRequest { start, distillation, ..request(&graph, &data, &views, &spec) };
        let each = run(request.clone()).unwrap();
        let mut seen = Vec::new();
        let ahead = train_in(manner(2), request, &mut |progress| {
            seen.push((progress.epoch, progress.step));
            ControlFlow::Continue(())
        });
        let ahead = ahead.unwrap();
        // Progress is reported after every second step, and after the last one of an epoch.
        assert_eq!(seen, [(0, 1), (0, 2), (1, 1), (1, 2)]);
        assert_near(&ahead, &each, 1e-3, 1.0);
    }
}

#[test]
fn the_first_bad_loss_is_reported_when_several_are_read_together() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let [first, second] = [1, 3].map(|ahead| {
        let request = TrainRequest {
            learning_rate: 1e30,
            epochs: 20,
            until: 20,
            ..request(&graph, &data, &views, &spec)
        };
        train_in(manner(ahead), request, &mut |_| ControlFlow::Continue(())).unwrap_err()
    });
    // An early step, not the last one of the epoch, after which the losses are read.
    assert!(matches!(first, TrainError::NonFinite { step: 0..=1, .. }), "{first}");
    assert_eq!(first, second);
}

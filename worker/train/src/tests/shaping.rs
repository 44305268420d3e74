//! Whole trainings that make something small, keep clusters, or begin late in their schedule.

use super::*;

#[test]
fn scales_and_filters_that_shrink_reach_zero() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    for (shrink, role) in [(Shrink::Scales, Role::Scale), (Shrink::Filters, Role::Weight)] {
        let zeros = |by: f64| {
            let shrink = (if by > 0.0 { shrink } else { Shrink::None }, by);
            let trained = run(TrainRequest { shrink, ..request(&graph, &data, &views, &spec) });
            let weights = trained.unwrap().weights;
            let arrays = graph.parameters().filter(|(_, p)| p.role == role);
            let numbers = arrays.flat_map(|(_, p)| weights.arrays[&*p.name].data.clone());
            numbers.filter(|number| *number == 0.0).count()
        };
        assert_eq!(zeros(0.0), 0, "{shrink}");
        assert!(zeros(100.0) > zeros(1e-6), "{shrink}");
    }
}

#[test]
fn what_is_not_there_cannot_shrink() {
    let (spec, data, graph) = (spec(), colours(), without_normalization());
    let views = views(&spec);
    let shrink = (Shrink::Scales, 0.1);
    let refused = run(TrainRequest { shrink, ..request(&graph, &data, &views, &spec) });
    assert_eq!(refused.unwrap_err(), TrainError::NothingToShrink { shrink: Shrink::Scales });
}

#[test]
fn clusters_are_trained_as_clusters() {
    let (spec, data, graph) = (spec(), colours(), without_normalization());
    let views = views(&spec);
    let mut start = fresh_weights(&graph, [1; 32]);
    let levels = |x: f32| (x * 20.0).round().clamp(-3.0, 3.0) / 20.0;
    for (_, parameter) in graph.parameters().filter(|(_, p)| p.role == Role::Weight) {
        let numbers = &mut start.arrays.get_mut(&*parameter.name).unwrap().data;
        numbers.iter_mut().for_each(|x| *x = levels(*x));
    }
    let clusters = |weights: &Weights| -> Vec<usize> {
        let arrays = graph.parameters().filter(|(_, p)| p.role == Role::Weight);
        let count = |numbers: &[f32]| {
            let bits: std::collections::BTreeSet<u32> =
                numbers.iter().map(|x| (x + 0.0).to_bits()).collect();
            bits.len()
        };
        arrays.map(|(_, p)| count(&weights.arrays[&*p.name].data)).collect()
    };
    let all = TrainRequest {
        start: Checkpoint::fresh(start.clone()),
        ties: true,
        ..request(&graph, &data, &views, &spec)
    };
    let trained = run(all.clone()).unwrap();
    assert_ne!(trained.weights, start);
    // Two clusters may meet, but none falls apart.
    for (after, before) in clusters(&trained.weights).iter().zip(clusters(&start)) {
        assert!(*after <= before && before <= 7, "{after} of {before}");
    }
    let free = run(TrainRequest { ties: false, ..all.clone() }).unwrap();
    assert!(clusters(&free.weights).iter().sum::<usize>() > 50);
    // Stopping between epochs changes nothing.
    let Trained { weights, moments, images_seen, .. } =
        run(TrainRequest { until: 1, ..all.clone() }).unwrap();
    let start = Checkpoint { weights, moments, epochs: 1, images_seen, seconds: 0.0 };
    assert_eq!(run(TrainRequest { start, ..all }).unwrap().weights, trained.weights);
}

/// With SGD and no momentum, a training of two epochs is the first, and then the second as a
/// training of its own that begins late in the schedule. The order of the images is that of the
/// first epoch in both.
#[test]
fn a_schedule_may_begin_late() {
    let optimizer = OptimizerSpec::Sgd { momentum: 0.0 };
    let spec = TrainingSpec { optimizer, warmup_fraction: 0.0, ..spec() };
    let (data, graph) = (colours(), without_normalization());
    let views = views(&TrainingSpec {
        augmentation: Augmentation { shift: 0, flip: false, views: 1 },
        ..spec.clone()
    });
    let moved = |skipped: u32, epochs: u32| {
        let start = fresh_weights(&graph, [1; 32]);
        let all = request(&graph, &data, &views, &spec);
        let all = TrainRequest { skipped, epochs, until: 1, ..all };
        let trained = run(all).unwrap().weights;
        let square = |(name, array): (&String, &edgesmith_graph::Array)| {
            let off = array.data.iter().zip(&start.arrays[name].data);
            off.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        (trained.arrays.iter().map(square).sum::<f64>().sqrt(), trained)
    };
    // Three of four epochs are skipped: the rates are those of the last quarter.
    let (first, _) = moved(0, 4);
    let (last, late) = moved(3, 1);
    assert!(last < 0.3 * first, "{first} {last}");
    // It does not matter how many epochs follow if the schedule is the same.
    let (_, again) = moved(2, 2);
    assert_ne!(late, again);
    assert_eq!(moved(3, 1).1, late);
}

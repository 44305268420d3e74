//! Steps of an attempt that are compared with the same done another way, and what must not look at
//! validation images.

use std::collections::BTreeMap;

use edgesmith_compress::{Masks, WeightScores};
use edgesmith_graph::Evaluator;
use edgesmith_search_space::residual_blocks;

use super::prune::{compress, residual};
use super::recipe::{run, step, study};
use super::*;

/// Lets a test take single steps of an attempt.
fn with_run<T>(task: &TaskWork, context: &AttemptContext, test: impl FnOnce(&Run<'_>) -> T) -> T {
    let worker = worker();
    let study = Study::of(&task.spec, None).unwrap();
    let data = worker.data(&study).unwrap();
    let busy = worker.gate.busy();
    test(&Run {
        device: worker.training_device().unwrap(),
        cores: &worker.cores,
        study: &study,
        dataset: &data.set,
        class_names: Vec::new(),
        memory: &worker.memory,
        context,
        busy: &busy,
        info: &worker.info,
        multiples: &worker.multiples,
    })
}

/// What a training goes back to is what a training had that was stopped there, but for the weights
/// that went. So all of it can be done again, one step after the other.
#[test]
fn a_training_goes_back_to_the_weights_of_one_that_was_stopped_there() {
    let settings = "granularity = \"weights\"\nof = \"parameters\"\nshare = 0.5\nepochs = 2\n\
                    rewind = \"weights\"";
    let text = study(&step("prune", settings));
    let (context, task) = (AttemptContext::offline(Vec::new()), task_of(&text, None, None));
    let rewound = run(&text, &context).unwrap();
    let rewound = safetensors::from_bytes(&context.fetch(rewound.weights).unwrap()).unwrap();
    let Work::TrainTrial { number, genotype, .. } = &task.work else { unreachable!() };
    with_run(&task, &context, |run| {
        let space = &run.study.work.space;
        let graph = space.decode(genotype).graph(space.data()).unwrap();
        let seed = run.study.seed.derive(Purpose::Weights(*number));
        let fresh = edgesmith_train::fresh_weights(&graph, seed);
        let first = Phase {
            name: "epoch",
            span: (0.0, 0.5),
            graph: &graph,
            start: Checkpoint::fresh(fresh.clone()),
            epochs: 6,
            until: 6,
            learning_rate: 0.01,
            skipped: 0,
            shrink: (Shrink::None, 0.0),
            ties: false,
            first: None,
            keeps_statistics: false,
            shuffle: Purpose::Shuffle(*number),
            teacher: None,
            quantization: None,
            masks: None,
        };
        let stopped_after = |until: u32| {
            let stopped = Phase { until, ..first.clone() };
            run.train(stopped).unwrap().weights
        };
        let (trained, four) = (stopped_after(6), stopped_after(4));
        assert!(four != fresh && four != trained);
        let (through, kept) = run.train_with_early(first.clone(), &[2, 5, 9]).unwrap();
        assert_eq!((&through.weights, kept.epochs), (&trained, 6));
        let early = [(2, four.clone()), (5, stopped_after(1)), (9, fresh)];
        assert_eq!(kept.early, BTreeMap::from(early));

        let masks = Masks::least_globally(&WeightScores::magnitudes(&graph, &trained), 0.5);
        let mut start = four;
        masks.apply(&mut start);
        let again = Phase {
            start: Checkpoint::fresh(start),
            epochs: 2,
            until: 2,
            // The last two of the six.
            skipped: 4,
            shuffle: Purpose::FineTune(*number),
            masks: Some(&masks),
            ..first
        };
        assert_eq!(run.train(again).unwrap().weights, rewound);
    });
}

/// Against the plain evaluation of networks that were built without the block.
#[test]
fn blocks_matter_as_much_as_the_outputs_differ_without_them() {
    let graph = residual(&["one", "two"]);
    let weights = edgesmith_testing::random_weights(&graph, 5);
    let settings = "granularity = \"blocks\"\nshare = 0.2\nimportance = \"output\"";
    let (task, _) = compress(&graph, &weights, &step("prune", settings));
    let context = AttemptContext::offline(Vec::new());
    with_run(&task, &context, |run| {
        let images = run.important_images();
        assert_eq!(images.len(), 160);
        let outputs = |graph: &Graph| -> Vec<f64> {
            let evaluator = Evaluator::<f64>::new(graph, &weights);
            let of_image = |place: usize| {
                // Its pixels are from 0 to 1.
                let pixels = images.image(place).iter().map(|byte| f64::from(*byte) / 255.0);
                evaluator.output(pixels.collect())
            };
            (0..images.len()).flat_map(of_image).collect()
        };
        let whole = outputs(&graph);
        let moved = run.moved_without(&graph, &weights, &residual_blocks(&graph)).unwrap();
        assert_eq!(moved.len(), 2);
        for (moved, left) in moved.iter().zip(["two", "one"]) {
            let without = outputs(&residual(&[left]));
            let mut sum = 0.0;
            for (whole, without) in whole.iter().zip(&without) {
                sum += (whole - without).powi(2);
            }
            let expected = sum / (160.0 * 10.0);
            assert!((moved - expected).abs() < 1e-3 * expected, "{moved} instead of {expected}");
        }
    });
}

/// Neither training, nor pruning, nor calibration looks at validation images. With the pictures of
/// both classes exchanged among them, the share of them that is right is what was wrong before.
#[test]
fn other_validation_images_change_only_the_validation_figures() {
    let directory = tempfile::tempdir().unwrap();
    let picture = |class: u32, i: u32| {
        image::GrayImage::from_fn(8, 8, |x, y| {
            let bright = u32::from(x / 4 == class) * 150;
            image::Luma([(bright + (x * 7 + y * 13 + i * 29) % 90) as u8])
        })
    };
    let write = |folder: &str, class: u32, i: u32, picture: image::GrayImage| {
        let path = directory.path().join(folder).join(class.to_string());
        std::fs::create_dir_all(&path).unwrap();
        picture.save(path.join(format!("{i:02}.png"))).unwrap();
    };
    let study = |train: &str| {
        let at = |folder: &str| directory.path().join(folder).display().to_string();
        let data = format!(
            "data = {{ source = \"image-folder\", train = {:?}, test = {:?}, side = 8, classes = 2 }}",
            at(train),
            at("test")
        );
        STUDY
            .replace("data = { source = \"digits\", train_limit = 200, test_limit = 50 }", &data)
            .replace("epochs = 4", "epochs = 40, learning_rate = 0.005")
    };
    for class in [0, 1] {
        for i in 0..30 {
            write("train", class, i, picture(class, i));
            write("test", class, i, picture(class, i + 30));
        }
    }
    // Which of the files are for validation is the same for files of the same names.
    let data = data_of(&study("train"));
    let is_validation = |class: u32, i: u32| {
        let pixels = picture(class, i).into_raw();
        (0..data.validation.len()).any(|place| data.validation.image(place)[..64] == pixels[..])
    };
    let held_back =
        [0, 1].map(|class| -> Vec<u32> { (0..30).filter(|&i| is_validation(class, i)).collect() });
    assert_eq!(held_back.each_ref().map(Vec::len), [6, 6]);
    for class in [0, 1] {
        for i in 0..30 {
            let [own, others] = [class, 1 - class].map(|class| &held_back[class as usize]);
            let other = own.iter().position(|held| *held == i).map(|place| others[place]);
            let picture = other.map_or_else(|| picture(class, i), |i| picture(1 - class, i));
            write("swapped", class, i, picture);
        }
    }
    let swapped_data = data_of(&study("swapped"));
    assert_eq!(swapped_data.train, data.train);
    assert_ne!(swapped_data.validation, data.validation);

    let (right, right_weights, right_model) = train(&study("train"));
    let (swapped, swapped_weights, swapped_model) = train(&study("swapped"));
    assert!(right_model.has_integers());
    assert_eq!(right_model, swapped_model, "with all of its scales");
    assert_eq!(right_weights, swapped_weights);
    let accuracy = |trial: &TrainedTrial| trial.compressed.validation_accuracy().unwrap();
    assert!(accuracy(&right) > 0.8, "{right:?}");
    assert!((accuracy(&right) + accuracy(&swapped) - 1.0).abs() < 1e-9, "{right:?} {swapped:?}");
    let blind = |mut trial: TrainedTrial| {
        trial.compressed.remove(&Metric::TRAINING_SECONDS.whole());
        let stages = trial.stages.iter_mut().map(|stage| {
            stage.classes.clear();
            &mut stage.figures
        });
        for figures in stages.chain([&mut trial.compressed, &mut trial.uncompressed]) {
            let other = figures.iter().filter(|(of, _)| of.split() != Some(&Split::Validation));
            *figures = other.map(|(of, value)| (of.clone(), value)).collect();
        }
        trial
    };
    assert_eq!(blind(right), blind(swapped));
}

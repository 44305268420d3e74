//! Measures how many images per second a training processes. It does not decide what follows from
//! the result.
//!
//! The images are random, because the time of a step does not depend on their content. A timed step
//! is a complete one (batch, forward, loss, backward, optimizer), as in a study's trials without
//! augmentation. The first steps are not timed.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use edgesmith_common::Seed;
use edgesmith_common::spec::{Augmentation, OptimizerSpec, TrainingSpec};
use edgesmith_data::{Dataset, ImageSet, Normalization, Origin, Views};
use edgesmith_graph::{Graph, Quantization};
use edgesmith_search_space::Shrink;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::classifier::Classifier;
use super::{Checkpoint, Cores, TrainDevice, TrainError, TrainRequest, train};
use crate::network::fresh_weights;

/// Number of batches in the random data set, which is used repeatedly. If batches are small, there
/// are more of them, so that the data set has about [`IMAGES`] images.
const BATCHES: usize = 16;
const IMAGES: usize = 1024;
/// Smallest number of steps before timing starts. Kernels are tuned during these steps.
const WARM_UP: u64 = 3;

/// The timed steps of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Number of steps, at least 1.
    pub steps: u64,
    /// Images per step.
    pub batch_size: u32,
    /// Wall time of all these steps.
    pub took: Duration,
}

impl Throughput {
    /// Times training steps of a network, with the batch size and optimizer of `spec`, until
    /// they have taken `enough` time. With `quantization`, which is simulated, the network is
    /// folded.
    ///
    /// # Errors
    /// If the training fails.
    pub fn measure(
        (graph, quantization): (&Graph, Option<&Quantization>),
        spec: &TrainingSpec,
        device: TrainDevice,
        cores: &Cores,
        enough: Duration,
    ) -> Result<Self, TrainError> {
        let batch_size = spec.batch_size;
        // A multiple of the batch size, so that all batches are full.
        let images = batch_size as usize;
        let dataset = noise(Classifier::of(graph)?, images * (IMAGES / images).max(BATCHES));
        let request = TrainRequest {
            graph,
            start: Checkpoint::fresh(fresh_weights(graph, [1; 32])),
            dataset: &dataset,
            views: &Views::new(&spec.augmentation, Seed(1)),
            spec,
            epochs: u32::MAX,
            until: u32::MAX,
            learning_rate: spec.learning_rate,
            skipped: 0,
            shrink: (Shrink::None, 0.0),
            ties: false,
            first: None,
            keeps_statistics: false,
            at_once: u32::MAX,
            shuffle_seed: [2; 32],
            distillation: None,
            quantization,
            kept: None,
            device,
            cores,
        };
        let mut since: Option<(u64, Instant)> = None;
        let (mut steps, mut took) = (0, Duration::ZERO);
        let ended = train(request, &mut |progress| {
            let done = u64::from(progress.epoch) * u64::from(progress.steps)
                + u64::from(progress.step)
                + 1;
            match since {
                None if done >= WARM_UP => since = Some((done, Instant::now())),
                None => {}
                Some((before, start)) => (steps, took) = (done - before, start.elapsed()),
            }
            let over = steps > 0 && took >= enough;
            if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match ended {
            Ok(_) | Err(TrainError::Stopped) => Ok(Self { steps, batch_size, took }),
            Err(error) => Err(error),
        }
    }

    /// Images per second.
    pub fn images_per_second(self) -> f64 {
        self.steps as f64 * f64::from(self.batch_size) / self.took.as_secs_f64()
    }

    /// The training that is timed by default: AdamW, without augmentation.
    pub fn usual_training(batch_size: u32) -> TrainingSpec {
        TrainingSpec {
            epochs: 1,
            fine_tune_epochs: 0,
            inherit_epochs: 0,
            batch_size,
            optimizer: OptimizerSpec::AdamW,
            learning_rate: 1e-3,
            fine_tune_learning_rate: 1e-3,
            warmup_fraction: 0.0,
            weight_decay: 0.01,
            label_smoothing: 0.1,
            augmentation: Augmentation { shift: 0, flip: false, views: 1 },
        }
    }
}

/// Random images of a network's size and number of classes.
fn noise(sizes: Classifier, images: usize) -> Dataset {
    let Classifier { channels, side, classes } = sizes;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut set = |images: usize| ImageSet {
        channels,
        height: side,
        width: side,
        pixels: (0..images * channels * side * side).map(|_| rng.random()).collect(),
        labels: (0..images).map(|i| (i % classes) as u16).collect(),
    };
    let (train, validation, test) = (set(images), set(1), set(1));
    let normalization = Normalization::of(&train);
    let origin = Origin::whole(train.len());
    Dataset { train, validation, test, classes, normalization, origin }
}

//! Prints how many images a second training gets through, on one thread: networks of the size that
//! the digits study searches, on the digits. Where the system tells it, time is that on the
//! processor, so that a busy machine gives the same numbers.
//!
//!     cargo run --release -p edgesmith-worker --example train_speed [epochs]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use edgesmith_common::Seed;
use edgesmith_common::spec::{Augmentation, DataSource, DataSpec, OptimizerSpec, TrainingSpec};
use edgesmith_search_space::{Activation, Architecture, DataShape, Operation, Plan, Stage};
use edgesmith_worker::data::{Dataset, Views};
use edgesmith_worker::network::Weights;
use edgesmith_worker::train::{Checkpoint, TrainDevice, TrainRequest, evaluate, train};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let epochs = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    let shape = DataShape { channels: 1, classes: 10 };
    let data = DataSpec {
        source: DataSource::Digits,
        validation_fraction: 0.2,
        train_limit: None,
        test_limit: None,
    };
    let dataset = Dataset::load(&data, shape, Seed(1), Path::new(".")).expect("embedded digits");
    let spec = TrainingSpec {
        epochs,
        fine_tune_epochs: 0,
        batch_size: 64,
        optimizer: OptimizerSpec::AdamW,
        learning_rate: 5e-3,
        fine_tune_learning_rate: 0.0,
        warmup_fraction: 0.1,
        weight_decay: 0.01,
        label_smoothing: 0.1,
        augmentation: Augmentation { shift: 1, flip: false, views: 4 },
    };
    let views = Views::new(&spec.augmentation, Seed(1));
    let stages = |operation, widths: [u32; 2]| -> Vec<Stage> {
        let stage = |(index, width)| Stage {
            depth: 2,
            width,
            kernel: 3,
            operation,
            stride: 1 + index as u32,
            activation: Activation::Relu,
        };
        widths.into_iter().enumerate().map(stage).collect()
    };
    let residual = Operation::InvertedResidual { expansion: 4 };
    for (name, operation) in [
        ("conv", Operation::Conv),
        ("separable", Operation::Separable),
        ("inverted-residual", residual),
    ] {
        let stages = stages(operation, [16, 32]);
        let architecture = Architecture { resolution: 8, stem_width: 16, stages };
        let plan = Plan::lower(&architecture, shape).expect("a network");
        let cost = plan.cost(edgesmith_search_space::Precision::Fp32);
        let start = Stopwatch::start();
        let request = TrainRequest {
            plan: &plan,
            start: Checkpoint::fresh(Weights::init(&plan, [1; 32])),
            dataset: &dataset,
            views: &views,
            spec: &spec,
            epochs,
            until: epochs,
            learning_rate: spec.learning_rate,
            shuffle_seed: [2; 32],
            distillation: None,
            device: TrainDevice::Flex,
        };
        let trained = train(request, &mut |_| ControlFlow::Continue(())).expect("training");
        let seconds = start.seconds();
        let accuracy = evaluate(
            &plan,
            &trained.weights,
            &dataset.validation,
            &dataset.normalization,
            TrainDevice::Flex,
        );
        println!(
            "{name:18} {:7.0} images/s  {:.2} s  {} kMAC  {:.1} % validation accuracy",
            trained.images_seen as f64 / seconds,
            seconds,
            cost.macs / 1000,
            100.0 * accuracy,
        );
    }
}

/// Processor time of this thread, or wall time.
struct Stopwatch {
    wall: Instant,
    processor: Option<f64>,
}

impl Stopwatch {
    fn start() -> Self {
        Self { wall: Instant::now(), processor: processor_seconds() }
    }

    fn seconds(&self) -> f64 {
        let processor = self.processor.zip(processor_seconds()).map(|(from, to)| to - from);
        processor.unwrap_or_else(|| self.wall.elapsed().as_secs_f64())
    }
}

/// Linux counts nanoseconds on the processor in the first field.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse::<f64>().ok().map(|nanoseconds| nanoseconds * 1e-9)
}

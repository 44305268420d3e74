//! An executor that computes nothing, for system tests and load tests of a coordinator. Its figures
//! are derived from the genotype, not from training or timing, and its measurements have
//! `synthetic` as the engine version. No command uses it.

use std::time::{Duration, Instant};

use edgesmith_common::spec::TrainWork;
use edgesmith_common::{
    ArtifactHash, AttemptError, DeviceInfo, Figures, Measurement, Metric, Outcome, RungReport,
    ScopedMetric, Target, TrainedTrial, Work,
};
use edgesmith_graph::Graph;
use edgesmith_search_space::{Cost, Precision, pruned};

use super::{AttemptContext, TaskExecutor, TaskWork};

/// Size of a made-up model file without its weights, in bytes.
const HEADER_BYTES: u64 = 256;
/// How often a sleeping task checks whether it is stopped.
const GLANCE: Duration = Duration::from_millis(5);

/// Makes up outcomes. They are the same for the same study, candidate and device on every machine.
#[derive(Debug, Clone)]
pub struct SyntheticExecutor {
    device: DeviceInfo,
    delay: Duration,
}

impl SyntheticExecutor {
    /// An executor for this device, without delay.
    pub fn new(device: DeviceInfo) -> Self {
        Self { device, delay: Duration::ZERO }
    }

    /// Makes every task take this long, unless it is stopped.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn sleep(&self, context: &AttemptContext) -> Result<(), AttemptError> {
        let began = Instant::now();
        while began.elapsed() < self.delay {
            if context.is_stopped() {
                return Err(AttemptError::stopped());
            }
            let left = self.delay - began.elapsed().min(self.delay);
            std::thread::sleep(left.min(GLANCE));
            context.progress(began.elapsed().as_secs_f64() / self.delay.as_secs_f64(), "sleeping");
        }
        Ok(())
    }

    fn measure(
        &self,
        task: &TaskWork,
        model: ArtifactHash,
        target: &Target,
        context: &AttemptContext,
    ) -> Result<Measurement, AttemptError> {
        let bytes = context.fetch(model)?;
        let spec = &training(task)?.measurement;
        let salt = format!("latency on {}", self.device.class);
        let p50_ms = 0.1 + 10.0 * unit(&salt, &bytes);
        Ok(Measurement {
            device: self.device.clone(),
            engine: target.engine.clone(),
            engine_version: "synthetic".to_owned(),
            threads: target.threads,
            batch: 1,
            warmup_runs: spec.warmup_runs,
            samples: spec.min_runs,
            p50_ms,
            p95_ms: 1.2 * p50_ms,
            min_ms: 0.9 * p50_ms,
            noise: None,
            energy_mj: None,
            original: None,
            slower_layers: Vec::new(),
            unquantized: None,
            slower_in_integers: Vec::new(),
        })
    }
}

impl TaskExecutor for SyntheticExecutor {
    fn execute(&self, task: TaskWork, context: &AttemptContext) -> Result<Outcome, AttemptError> {
        self.sleep(context)?;
        let (spec, work) = (&task.spec, training(&task)?);
        match &task.work {
            Work::CheckData => {
                Err(AttemptError::hopeless("the synthetic executor has no data to check"))
            }
            Work::TrainTeacher { .. } => {
                let teacher = work.teacher.as_ref();
                let teacher =
                    teacher.ok_or_else(|| AttemptError::hopeless("the study has no teacher"))?;
                let graph = teacher
                    .architecture
                    .graph(work.space.data())
                    .map_err(AttemptError::hopeless)?;
                let seed = format!("teacher of {} with seed {}", task.study, spec.seed.0);
                let network = report(&seed, &graph, Precision::Fp32);
                let trained = trained(&seed, network.clone(), network, context)?;
                let soft_targets = context.put(format!("soft targets of {seed}").into_bytes())?;
                Ok(Outcome::TeacherTrained { trained, soft_targets })
            }
            Work::ScoreTrial { genotype, .. } => {
                let seed = format!("{:?} with seed {}", genotype.indices(), spec.seed.0);
                Ok(Outcome::Scored(unit("score", seed.as_bytes())))
            }
            Work::TrainTrial { genotype, soft_targets, rung, checkpoint, .. } => {
                for hash in soft_targets.iter().chain(checkpoint) {
                    context.fetch(*hash)?;
                }
                let candidate = work.space.decode(genotype);
                let graph = candidate.graph(work.space.data()).map_err(AttemptError::hopeless)?;
                let seed = format!("{:?} with seed {}", genotype.indices(), spec.seed.0);
                if let Some(epochs) = *rung {
                    let salt = format!("validation after {epochs} epochs");
                    let accuracy = 0.5 * unit(&salt, seed.as_bytes());
                    return Ok(Outcome::RungReached(RungReport {
                        epochs,
                        figures: spent().with(ScopedMetric::VALIDATION_ACCURACY, accuracy),
                        checkpoint: Some(context.put(format!("{salt} of {seed}").into_bytes())?),
                    }));
                }
                let pruned = candidate.recipe.prunings().fold(graph.clone(), pruned);
                let compressed = report(&seed, &pruned, candidate.recipe.precision());
                let uncompressed = report(&seed, &graph, Precision::Fp32);
                Ok(Outcome::TrialTrained(trained(&seed, compressed, uncompressed, context)?))
            }
            Work::LookUpTrial { .. } => {
                Err(AttemptError::hopeless("the synthetic executor does not look up trials"))
            }
            Work::MeasureModel { model, target, .. } => {
                Ok(Outcome::Measured(self.measure(&task, *model, target, context)?))
            }
        }
    }
}

fn training(task: &TaskWork) -> Result<&TrainWork, AttemptError> {
    let work = task.spec.training();
    work.ok_or_else(|| {
        AttemptError::hopeless("the synthetic executor only runs studies that train")
    })
}

fn trained(
    seed: &str,
    mut compressed: Figures,
    uncompressed: Figures,
    context: &AttemptContext,
) -> Result<TrainedTrial, AttemptError> {
    compressed.extend(&spent());
    Ok(TrainedTrial {
        compressed,
        uncompressed,
        model: context.put(format!("model of {seed}").into_bytes())?,
        weights: context.put(format!("weights of {seed}").into_bytes())?,
        stages: Vec::new(),
    })
}

/// The cost of a training that did not happen.
fn spent() -> Figures {
    let figures = Figures::new().with(Metric::TRAINING_SECONDS.whole(), 0.0);
    figures.with(Metric::IMAGES_SEEN.whole(), 0.0)
}

fn report(seed: &str, graph: &Graph, precision: Precision) -> Figures {
    let cost = Cost::of(graph, precision);
    let accuracy = |part: &str| 0.5 + 0.5 * unit(part, seed.as_bytes());
    let bytes = HEADER_BYTES + cost.parameters * precision.weight_bytes();
    Figures::of_cost(&cost)
        .with(ScopedMetric::VALIDATION_ACCURACY, accuracy("validation"))
        .with(ScopedMetric::TEST_ACCURACY, accuracy("test"))
        .with(Metric::MODEL_BYTES.whole(), bytes as f64)
}

/// A number in `0.0..1.0` that is derived from `salt` and `bytes`.
fn unit(salt: &str, bytes: &[u8]) -> f64 {
    let hash = blake3::Hasher::new().update(salt.as_bytes()).update(b"\0").update(bytes).finalize();
    let mut low = [0; 4];
    low.copy_from_slice(&hash.as_bytes()[..4]);
    f64::from(u32::from_le_bytes(low)) / (f64::from(u32::MAX) + 1.0)
}

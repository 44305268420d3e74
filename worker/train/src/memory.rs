//! How much memory a training, a pass of the teacher or one that renews statistics holds at most,
//! computed from its network before it begins. Data sets and soft targets, which trainings share,
//! are not counted.
//!
//! It is an upper bound: what each operation keeps for the backward pass was measured once
//! (`tests/memory.rs` compares), and rounded up. The bound is a pure function of the network and
//! the settings, so it is the same on every machine.

use std::collections::BTreeMap;

use edgesmith_common::Seed;
use edgesmith_common::spec::{OptimizerSpec, TrainingSpec};
use edgesmith_data::{Dataset, ImageSet, Views};
use edgesmith_graph::{Graph, Op, Quantization};
use edgesmith_search_space::Features;

use super::TrainDevice;
use super::classifier::Classifier;
use super::features::stage_ends;
use super::logits::BATCH;
use super::padding::Padding;
use crate::network::{Kept, Rounding, kept, rounding};

/// Bytes of a number.
const NUMBER: u64 = 4;

/// Bytes of whatever does not depend on sizes: bookkeeping of graphs, buffers of threads.
const SLACK: u64 = 2 << 20;

/// Images that the kernels of the fast path compute together; fewer take as much work space.
const LANES: u64 = 16;

/// The memory of a training, in bytes, by what it grows with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Parameters, their gradients and moments during a step.
    step: u64,
    /// The same when the training ends and writes them down. No batch is there then.
    end: u64,
    /// For each image of a batch: itself, in the batch that is computed and in the next one.
    image: u64,
    /// For each image that is computed at once: what the backward pass reads.
    kept: u64,
    /// For each image that is computed at once: what the largest operation works on.
    work: u64,
    /// For each image that is computed at once, whole vectors of them, but not where the images
    /// fill these: what kernels copy.
    widened: u64,
    /// Whether the network normalises with the statistics of a batch, which needs all of it.
    whole: bool,
}

/// A batch that needs more memory than is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "training needs {} of memory for {what}, but {} are allowed; give it more (--memory), or choose \
     a smaller {mend}",
    shown(*needed),
    shown(*allowed)
)]
pub struct TooLarge {
    /// Bytes.
    pub needed: u64,
    /// Bytes.
    pub allowed: u64,
    /// The smallest piece that could be computed at once.
    what: String,
    mend: &'static str,
}

impl Memory {
    /// The memory of training `graph` with the settings of `spec` on a device.
    pub fn of(graph: &Graph, spec: &TrainingSpec, dataset: &Dataset, device: TrainDevice) -> Self {
        let padding = Padding::new(graph, device.manner().channel_multiple);
        let graph = padding.graph();
        let parameters: u64 = graph.parameters().map(|(_, p)| p.elements()).sum();
        let moments = match spec.optimizer {
            OptimizerSpec::AdamW => 2,
            OptimizerSpec::Sgd { .. } => 1,
        };
        let input = graph.input().elements();
        let [kept, work, widened] = of_operations(graph);
        let views = Views::new(&spec.augmentation, Seed(0));
        let resized = resized(graph, &dataset.train, Some(&views));
        Self {
            // The gradients of a batch, of its parts together, and what a step makes on the way.
            step: NUMBER * parameters * (5 + moments) + resized + SLACK,
            end: NUMBER * parameters * (3 + 3 * moments) + resized + SLACK,
            image: NUMBER * 4 * input,
            kept: NUMBER * kept,
            work: NUMBER * work,
            widened: NUMBER * widened,
            whole: normalizes(graph),
        }
    }

    /// The memory of the same training with these features copied, or of the same answers with
    /// them.
    pub fn copying(self, graph: &Graph, features: &[Features]) -> Self {
        // Squares, their gradients, and what is summed of them.
        let numbers = if features.contains(&Features::Attention) {
            stage_ends(graph).into_iter().map(|end| 3 * graph.shape(end).elements()).sum()
        } else {
            0
        };
        // The largest value that may be compared, its slopes in f64, and the hint.
        let hints = if features.contains(&Features::Hints) {
            let ends = stage_ends(graph).into_iter();
            ends.map(|end| 6 * graph.shape(end).elements()).max().unwrap_or(0)
        } else {
            0
        };
        let numbers: u64 = numbers + hints;
        let relations = features.contains(&Features::Relations);
        // Products, distances and their gradients; twice as much where the batch is small.
        let pairs = if relations { 64 * 1024 } else { 0 };
        Self {
            kept: self.kept + NUMBER * numbers + pairs,
            whole: self.whole || relations && self.end > 0,
            ..self
        }
    }

    /// The memory of the same training with its quantization simulated.
    pub fn quantized(self, graph: &Graph, quantization: &Quantization) -> Self {
        let Rounding { kept, work, weights } = rounding(graph, quantization);
        Self {
            // Rounded weights, and their gradients.
            step: self.step + NUMBER * 2 * weights,
            kept: self.kept + NUMBER * kept,
            work: self.work + NUMBER * work,
            ..self
        }
    }

    /// The memory of the same training with the weights that `kept` names held at zero in part.
    pub fn masked(
        self,
        graph: &Graph,
        kept: &BTreeMap<String, Vec<bool>>,
        device: TrainDevice,
    ) -> Self {
        let padding = Padding::new(graph, device.manner().channel_multiple);
        let masked = padding.graph().parameters().filter(|(_, p)| kept.contains_key(&*p.name));
        let masks: u64 = masked.map(|(_, p)| p.elements()).sum();
        Self {
            // A number for each weight during the whole training, and the gradients without those
            // of the others.
            step: self.step + NUMBER * 2 * masks,
            end: self.end + NUMBER * masks,
            ..self
        }
    }

    /// The memory of running `graph` on views of the images of a set whose answers are kept,
    /// without learning.
    pub fn answering(graph: &Graph, train: &ImageSet, views: &Views) -> Self {
        let parameters: u64 = graph.parameters().map(|(_, p)| p.elements()).sum();
        let fixed = NUMBER * 3 * parameters + resized(graph, train, Some(views)) + SLACK;
        let [_, work, widened] = of_operations(graph).map(|numbers| NUMBER * numbers);
        let image = NUMBER * graph.input().elements();
        Self { step: fixed, end: 0, image, kept: image, work, widened, whole: false }
    }

    /// The memory of [`renew_statistics`](super::renew_statistics): batches are computed as for
    /// training, but nothing is learned from them. All images are resized once, because they are
    /// not augmented.
    pub fn renewing(graph: &Graph, train: &ImageSet) -> Self {
        let parameters: u64 = graph.parameters().map(|(_, p)| p.elements()).sum();
        let fixed = NUMBER * 3 * parameters + resized(graph, train, None) + SLACK;
        let [kept, work, widened] = of_operations(graph).map(|numbers| NUMBER * numbers);
        let image = NUMBER * 2 * graph.input().elements();
        Self { step: fixed, end: 0, image, kept, work, widened, whole: normalizes(graph) }
    }

    /// Most images that [`soft_targets`](super::soft_targets) computes at once.
    pub const ANSWERED_AT_ONCE: u32 = BATCH as u32;

    /// For each image, the bytes of its values and of what is made of them.
    #[cfg(test)]
    pub(crate) fn of_operations(graph: &Graph, quantization: Option<&Quantization>) -> u64 {
        let [kept, work, _] = of_operations(graph);
        let more = quantization.map_or(0, |quantization| {
            let Rounding { kept, work, .. } = rounding(graph, quantization);
            kept + work
        });
        NUMBER * (graph.input().elements() + kept + work + more)
    }

    /// Bytes with batches of so many images, of which so many are computed at once.
    pub fn bytes(&self, batch: u32, at_once: u32) -> u64 {
        let (batch, at_once) = (u64::from(batch), u64::from(at_once.min(batch)));
        let lanes = at_once.next_multiple_of(LANES);
        let widened = if lanes == at_once { 0 } else { self.widened.saturating_mul(lanes) };
        let computed = self.kept.saturating_add(self.work).saturating_mul(at_once);
        let of_images = self.image.saturating_mul(batch);
        let all = [of_images, computed, widened].into_iter().fold(self.step, u64::saturating_add);
        all.max(self.end)
    }

    /// How many images of a batch of so many are computed at once, so that the training needs at
    /// most `allowed` bytes: all of them, or else parts that are about equally large. A network
    /// that normalises with the statistics of its batch needs all of them.
    ///
    /// # Errors
    /// If not even one image fits, or a whole batch that is needed does not.
    pub fn part(&self, batch: u32, allowed: u64) -> Result<u32, TooLarge> {
        let parts = if self.whole { 1 } else { batch };
        let sizes = || (1..=parts).map(|parts| batch.div_ceil(parts));
        if let Some(fits) = sizes().find(|at_once| self.bytes(batch, *at_once) <= allowed) {
            return Ok(fits);
        }
        let needed = sizes().map(|at_once| self.bytes(batch, at_once)).min().unwrap_or(0);
        let (what, mend) = if self.whole {
            let what = format!(
                "a batch of {batch} images, which batch normalisation or relations need as a whole"
            );
            (what, "batch_size, resolution or network")
        } else {
            ("a few images at a time".to_owned(), "resolution or network")
        };
        Err(TooLarge { needed, allowed, what, mend })
    }
}

/// For each image: numbers that are kept for the backward pass; those that the largest operation
/// works on, with the gradients that wait meanwhile; and those that kernels copy where images do
/// not fill whole vectors.
fn of_operations(graph: &Graph) -> [u64; 3] {
    let (mut all, mut largest, mut widest) = (0, 0, 0);
    for Kept { kept, work, widened } in kept(graph) {
        all += kept;
        largest = largest.max(work);
        widest = widest.max(widened);
    }
    [all, largest + graph.cost().peak_elements, widest]
}

/// Whether a network has batch normalisation, which needs the statistics of whole batches.
pub fn normalizes(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| matches!(node.op, Op::BatchNormalization(_)))
}

/// Bytes of the images of a set at the network's resolution, if all of them are held so: they have
/// another one, and they are not augmented, or their views do not differ.
fn resized(graph: &Graph, set: &ImageSet, views: Option<&Views>) -> u64 {
    match Classifier::of(graph) {
        Ok(Classifier { side, channels, .. })
            if (set.height, set.width) != (side, side) && !views.is_some_and(Views::differ) =>
        {
            [channels, side, side].map(|n| n as u64).iter().product::<u64>() * set.len() as u64
        }
        // What is no classifier is not run at all.
        Ok(_) | Err(_) => 0,
    }
}

/// `3.1 GiB`, rounded up.
fn shown(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x10_0000 => (1 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    let tenths = (u128::from(bytes) * 10).div_ceil(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn batches_that_do_not_fit_are_cut_into_equal_parts() {
        let (step, end) = (10 * MIB, 12 * MIB);
        let of = |whole| Memory { step, end, image: 0, kept: MIB, work: 0, widened: 0, whole };
        let memory = of(false);
        assert_eq!(memory.bytes(64, 64), 74 * MIB);
        assert_eq!(memory.bytes(64, 1), end);
        assert_eq!(memory.part(64, 74 * MIB), Ok(64));
        // 40 fit, so two parts of 32.
        assert_eq!(memory.part(64, 50 * MIB), Ok(32));
        assert_eq!(memory.part(65, 50 * MIB), Ok(33));
        assert_eq!(memory.part(64, 12 * MIB), Ok(2));
        let error = memory.part(64, 11 * MIB).unwrap_err();
        assert_eq!((error.needed, error.allowed), (end, 11 * MIB));
        let said = "training needs 12.0 MiB of memory for a few images at a time, but 11.0 MiB \
                    are allowed; give it more (--memory), or choose a smaller resolution or network";
        assert_eq!(error.to_string(), said);
        let error = of(true).part(64, 50 * MIB).unwrap_err().to_string();
        assert!(error.contains("74.0 MiB of memory for a batch of 64 images, which"), "{error}");
        assert!(error.ends_with("a smaller batch_size, resolution or network"), "{error}");
    }

    #[test]
    fn figures_are_rounded_up() {
        let figures = [1, 1 << 20, (1 << 30) + 1].map(shown);
        assert_eq!(figures, ["0.1 KiB", "1.0 MiB", "1.1 GiB"]);
    }
}

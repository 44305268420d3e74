//! What a network does with some of the training images, as they are: the means of its layers, the
//! effect of its filters, and what anything else wants to see. It trains nothing and evaluates
//! nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use edgesmith_common::AttemptError;
use edgesmith_compress::{Unfolded, fold, unfold};
use edgesmith_data::ImageSet;
use edgesmith_graph::{Cut, Graph, Quantization, Weights};
use edgesmith_train::{Memory, TaylorRequest, TrainError, normalizes};

use super::super::hopeless;
use super::{Run, run_failed, training_failed};
use crate::evaluate::{correct_biases, normalized};
use crate::export::input_spec;

/// Largest number of training images that say how important channels are.
const IMPORTANCE_IMAGES: usize = 256;
/// Largest number of training images on which means of layers are compared.
const BIAS_IMAGES: usize = 64;
/// Largest number of numbers that are held for it, if one image does not need more.
const MAX_HELD_NUMBERS: u64 = 1 << 27;

/// [`edgesmith_train::taylor`], or [`edgesmith_train::taylor_of_weights`].
type Effects = fn(
    TaylorRequest,
    &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<BTreeMap<String, Vec<f64>>, TrainError>;

impl Run<'_> {
    /// The weights `slim` of a network that was cut and normalises no batches, with the biases with
    /// which its layers keep the means that they had. If it does, its statistics do that.
    pub fn correct_biases(
        &self,
        graph: &Graph,
        weights: &Weights,
        cut: &Cut,
        slim: Weights,
    ) -> Result<Weights, AttemptError> {
        if normalizes(graph) {
            return Ok(slim);
        }
        // Both networks are held. Only they say how many images are used, so that the result does
        // not depend on the memory of the machine.
        let of = |graph: &Graph| -> u64 {
            graph.values().map(|(id, _)| graph.shape(id).elements()).sum()
        };
        let numbers = (of(graph) + of(&cut.graph)).max(1);
        let fit = (MAX_HELD_NUMBERS / numbers).max(1);
        let images = self.some_images(BIAS_IMAGES.min(usize::try_from(fit).unwrap_or(usize::MAX)));
        let bytes = 4 * numbers * images.len() as u64;
        let input = input_spec(graph, &self.dataset.normalization).map_err(hopeless)?;
        let pause = &mut || self.pause_or_stop();
        let _share = self.memory.take(bytes, pause).ok_or_else(AttemptError::stopped)?;
        let corrected = correct_biases((graph, weights), (cut, &slim), &input, &images, pause);
        corrected.map_err(run_failed)
    }

    /// A network of integers with batch normalisation behind its layers; `None` if none can have
    /// it.
    pub fn unfolded(
        &self,
        graph: &Graph,
        weights: &Weights,
        quantization: &Quantization,
    ) -> Result<Option<Unfolded>, AttemptError> {
        unfold(graph, weights, quantization, |observe| {
            self.each_example(graph, |example| {
                observe(example);
                Ok(())
            })
        })
    }

    /// What `effects` says of a network over some of the training images: that of each filter on
    /// the loss, by layer, or that of each weight, by parameter.
    pub fn effects(
        &self,
        effects: Effects,
        graph: &Graph,
        weights: &Weights,
    ) -> Result<BTreeMap<String, Vec<f64>>, AttemptError> {
        let (graph, weights) = fold(graph, weights);
        let images = self.some_images(IMPORTANCE_IMAGES);
        let memory = Memory::of(&graph, &self.study.work.training, self.dataset, self.device);
        let (_whole, _share) = self.memory_for(&memory, 1)?;
        let request = TaylorRequest {
            graph: &graph,
            weights: &weights,
            images: &images,
            normalization: &self.dataset.normalization,
            device: self.device,
            cores: self.cores,
        };
        effects(request, &mut || self.pause_or_stop()).map_err(training_failed)
    }

    /// Gives `observe` what a network reads of some of the training images.
    pub fn each_example(
        &self,
        graph: &Graph,
        mut observe: impl FnMut(Vec<f32>) -> Result<(), AttemptError>,
    ) -> Result<(), AttemptError> {
        let input = input_spec(graph, &self.dataset.normalization).map_err(hopeless)?;
        let side = (input.height as usize, input.width as usize);
        let images = self.some_images(IMPORTANCE_IMAGES).resized_to(side);
        for i in 0..images.len() {
            if self.pause_or_stop().is_break() {
                return Err(AttemptError::stopped());
            }
            observe(normalized(images.image(i), &input))?;
        }
        Ok(())
    }

    /// The training images that say how important parts of a network are.
    pub fn important_images(&self) -> ImageSet {
        self.some_images(IMPORTANCE_IMAGES)
    }

    /// At most so many of the training images, by the study's seed and balanced by class.
    pub(super) fn some_images(&self, most: usize) -> ImageSet {
        self.dataset.train.for_calibration(most, self.study.seed)
    }
}

//! Runs networks on sets of images: a model file to evaluate it, a folded network to calibrate its
//! quantization, and a pruned one to correct its biases. All see the images in the same way:
//! resized to the network's input, and normalised as the model file says.

use std::ops::ControlFlow;

use edgesmith_common::{ClassCount, Figures, Metric, Split};
use edgesmith_compress::{
    Calibration, Coarse, QuantizeError, Rounding, Scheme, correct_biases as bias_correction,
    correct_quantized, equalize, held_numbers, learn_rounding,
};
use edgesmith_data::ImageSet;
use edgesmith_edge_runtime::{InputError, InputSpec, Model, ModelError, Numbers, Session, Tensor};
use edgesmith_graph::{Cut, Graph, Quantization, Weights};

use crate::export::LowerError;

/// Number of images between two checks whether to stop.
const CHUNK: usize = 64;

/// Largest number of numbers that are held to learn the rounding of weights and to correct biases,
/// if one image does not need more. It decides how many images are used, so the result does not
/// depend on the memory of the machine.
const MAX_HELD_NUMBERS: u64 = 1 << 25;

/// Why a network was not run on all images.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// `pause` asked to stop.
    #[error("stopped")]
    Stopped,
    /// The engine does not accept the model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine does not accept an image.
    #[error(transparent)]
    Image(#[from] InputError),
    /// The engine does not run the network.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The network cannot be quantized.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
}

/// Every figure of a classifier on `set`, which is the part `split` of the study's data. `pause` is
/// called from time to time.
///
/// # Errors
/// If `pause` breaks, or the engine refuses the model or an image.
pub fn evaluate(
    model: &Model,
    set: &ImageSet,
    split: Split,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Figures, RunError> {
    Ok(confusion(model, set, pause)?.figures(split))
}

/// The figures of [`evaluate`], and for each class how many of its images are classified right.
///
/// # Errors
/// See [`evaluate`].
pub fn evaluate_by_class(
    model: &Model,
    set: &ImageSet,
    split: Split,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<(Figures, Vec<ClassCount>), RunError> {
    let counts = confusion(model, set, pause)?;
    Ok((counts.figures(split), counts.by_class()))
}

/// Runs a classifier on `set`.
fn confusion(
    model: &Model,
    set: &ImageSet,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Confusion, RunError> {
    let mut session = Session::new(model)?;
    let mut counts = Confusion::new(session.classes());
    let input = model.image().ok_or(InputError::NotAnImage)?;
    each_image(set, size(&input), pause, |image, label| {
        counts.add(usize::from(label), session.classify(image)?);
        Ok(())
    })?;
    Ok(counts)
}

/// A model that tells classes of images apart, whatever it reads and answers.
pub struct Classifier<'a> {
    /// It reads one input.
    pub model: &'a Model,
    /// Which of its outputs has a number per class.
    pub output: usize,
    /// Height and width of its images.
    pub size: (usize, usize),
    /// For each class of the data, its place in the output.
    pub labels: &'a [usize],
    /// What the model reads of an image of bytes `[channels][height][width]`.
    pub prepare: &'a dyn Fn(&[u8]) -> Numbers,
}

/// Every figure of a classifier on `set`, as [`evaluate`].
///
/// # Errors
/// If `pause` breaks, or the engine refuses the model or an image.
///
/// # Panics
/// If a label of the set has no place in the output.
pub fn evaluate_classifier(
    classifier: &Classifier<'_>,
    set: &ImageSet,
    split: Split,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Figures, RunError> {
    let Classifier { model, output, size, labels, prepare } = *classifier;
    let mut session = Session::new(model)?;
    let mut counts = Confusion::new(session.output(output).len());
    each_image(set, size, pause, |image, label| {
        let numbers = prepare(image);
        session.run_on(&[Tensor::from(&numbers)])?;
        let logits = session.output(output);
        // The first of several equal ones.
        let best = |best, (class, &logit)| if logit > logits[best] { class } else { best };
        let chosen = logits.iter().enumerate().fold(0, best);
        counts.add(labels[usize::from(label)], chosen);
        Ok(())
    })?;
    Ok(counts.figures(split))
}

/// The quantization by `scheme` of a folded network that reads `input`, and the weights to lower
/// with it: equalized, rounded and with corrected biases, as the scheme says. It is calibrated on
/// all images of `set`. Rounding and biases are learned on as many of its first ones as need
/// 2^25 numbers (128 MiB) at most. `pause` is called from time to time.
///
/// # Errors
/// See [`calibrate`].
///
/// # Panics
/// If `weights` do not fit `graph`.
pub fn quantize(
    graph: &Graph,
    weights: &Weights,
    input: &InputSpec,
    set: &ImageSet,
    scheme: &Scheme,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<(Weights, Quantization), RunError> {
    let equalized = if scheme.equalize { equalize(graph, weights) } else { weights.clone() };
    let quantization = calibrate(graph, &equalized, input, set, scheme, pause)?;
    if scheme.rounding == Rounding::Nearest && !scheme.correct_biases {
        return Ok((equalized, quantization));
    }
    // Two networks are held.
    let chosen = held_at_once(set.len(), 2 * held_numbers(graph));
    let examples = examples(&set.subset(&chosen), input, pause)?;
    let rounded = match scheme.rounding {
        Rounding::Nearest => equalized.clone(),
        Rounding::Learned => learn_rounding(graph, &equalized, &quantization, &examples, pause)
            .ok_or(RunError::Stopped)?,
    };
    if !scheme.correct_biases {
        return Ok((rounded, quantization));
    }
    let corrected = correct_quantized(graph, &equalized, &rounded, &quantization, &examples, pause);
    Ok((corrected.ok_or(RunError::Stopped)?, quantization))
}

/// The levels by `scheme` of a folded network that reads `input`, where no engine computes in
/// integers or values stay in fp32, and the weights that they stand for: equalized and with
/// corrected biases, as the scheme says. It learns no rounding. See [`quantize`].
///
/// # Errors
/// See [`calibrate`].
///
/// # Panics
/// If `weights` do not fit `graph`.
pub fn quantize_coarsely(
    graph: &Graph,
    weights: &Weights,
    input: &InputSpec,
    set: &ImageSet,
    scheme: &Scheme,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<(Weights, Coarse), RunError> {
    let equalized = if scheme.equalize { equalize(graph, weights) } else { weights.clone() };
    let mut calibration = Calibration::new(graph, &equalized);
    if scheme.widths.activations < 32 {
        each_image(set, size(input), pause, |image, _| {
            Ok(calibration.observe(normalized(image, input))?)
        })?;
    }
    let coarse = calibration.coarse(image_range(input), scheme)?;
    if !scheme.correct_biases {
        return Ok((coarse.rounded(graph, &equalized), coarse));
    }
    let chosen = held_at_once(set.len(), 2 * held_numbers(graph));
    let examples = examples(&set.subset(&chosen), input, pause)?;
    let corrected = coarse.corrected(graph, &equalized, &examples, pause);
    Ok((corrected.ok_or(RunError::Stopped)?, coarse))
}

/// The quantization by `scheme` of a folded network that reads `input`, from the values that it
/// computes on the images of `set`. The range of the image covers all possible bytes. `pause` is
/// called from time to time.
///
/// # Errors
/// If `pause` breaks, if the set has no images, if the network computes a value that is not finite,
/// or if the scheme names a layer that does not exist.
///
/// # Panics
/// If `weights` do not fit `graph`.
pub fn calibrate(
    graph: &Graph,
    weights: &Weights,
    input: &InputSpec,
    set: &ImageSet,
    scheme: &Scheme,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Quantization, RunError> {
    let mut calibration = Calibration::new(graph, weights);
    each_image(set, size(input), pause, |image, _| {
        Ok(calibration.observe(normalized(image, input))?)
    })?;
    Ok(calibration.finish(image_range(input), scheme)?)
}

/// The weights `slim` of a network that was cut, with the biases with which its layers keep the
/// means that those of the original `graph` have on the images of `set`. The network reads `input`.
///
/// # Errors
/// If `pause` breaks.
///
/// # Panics
/// If the weights do not fit their networks.
pub fn correct_biases(
    (graph, weights): (&Graph, &Weights),
    (cut, slim): (&Cut, &Weights),
    input: &InputSpec,
    set: &ImageSet,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Weights, RunError> {
    let examples = examples(set, input, pause)?;
    let (original, changed) = ((graph, weights), (&cut.graph, slim));
    let corrected = bias_correction(original, changed, |value| cut.kept(value), &examples, pause);
    corrected.ok_or(RunError::Stopped)
}

/// The images that are held if each needs so many numbers; at least one, if there is one. They are
/// the first ones, because the beginning of a set for calibration is balanced like the whole.
fn held_at_once(images: usize, numbers: u64) -> Vec<usize> {
    let most = usize::try_from(MAX_HELD_NUMBERS / numbers).unwrap_or(usize::MAX);
    (0..images.min(most.max(1))).collect()
}

/// What a network reads of each image.
fn examples(
    set: &ImageSet,
    input: &InputSpec,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<Vec<f32>>, RunError> {
    let mut examples = Vec::with_capacity(set.len());
    each_image(set, size(input), pause, |image, _| {
        examples.push(normalized(image, input));
        Ok(())
    })?;
    Ok(examples)
}

/// The numbers that a network reads of an image of bytes.
pub(crate) fn normalized(image: &[u8], input: &InputSpec) -> Vec<f32> {
    let plane = (input.height * input.width) as usize;
    image.iter().enumerate().map(|(i, &byte)| input.normalized(i / plane, byte)).collect()
}

/// From the darkest to the brightest normalised byte of any channel.
fn image_range(input: &InputSpec) -> (f32, f32) {
    (0..input.channels as usize).fold((0.0f32, 0.0f32), |(low, high), channel| {
        (low.min(input.normalized(channel, 0)), high.max(input.normalized(channel, 255)))
    })
}

/// Height and width of an image.
pub(crate) fn size(input: &InputSpec) -> (usize, usize) {
    (input.height as usize, input.width as usize)
}

/// Calls `f` with the bytes and the label of each image, resized to this height and width.
pub(crate) fn each_image(
    set: &ImageSet,
    size: (usize, usize),
    pause: &mut dyn FnMut() -> ControlFlow<()>,
    mut f: impl FnMut(&[u8], u16) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let images = set.resized_to(size);
    for (i, &label) in images.labels.iter().enumerate() {
        if i % CHUNK == 0 && pause().is_break() {
            return Err(RunError::Stopped);
        }
        f(images.image(i), label)?;
    }
    Ok(())
}

/// A confusion matrix: how often each class was predicted for each label.
struct Confusion {
    classes: usize,
    /// `[label][prediction]`.
    counts: Vec<u64>,
}

impl Confusion {
    /// A matrix of no images.
    fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts one image. Both numbers are below the number of classes.
    fn add(&mut self, label: usize, prediction: usize) {
        self.counts[label * self.classes + prediction] += 1;
    }

    fn right(&self, class: usize) -> u64 {
        self.counts[class * self.classes + class]
    }

    /// For each class, how many of its images are classified right.
    fn by_class(&self) -> Vec<ClassCount> {
        let count = |images: u64| u32::try_from(images).unwrap_or(u32::MAX);
        let of_class = |class: usize| {
            let images = &self.counts[class * self.classes..][..self.classes];
            ClassCount { images: count(images.iter().sum()), right: count(self.right(class)) }
        };
        (0..self.classes).map(of_class).collect()
    }

    /// The figures on a split.
    fn figures(&self, split: Split) -> Figures {
        Figures::new()
            .with(Metric::ACCURACY.on(split.clone()), self.accuracy())
            .with(Metric::F1_MACRO.on(split), self.f1_macro())
    }

    /// Share of correctly classified images, `0..=1`; 0 without images.
    fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes).map(|class| self.right(class)).sum();
        let all: u64 = self.counts.iter().sum();
        right as f64 / all.max(1) as f64
    }

    /// Mean of `2 TP / (2 TP + FP + FN)` over the classes that have images or predictions, like
    /// scikit-learn's `f1_score(average="macro")`; 0 if there are none.
    fn f1_macro(&self) -> f64 {
        let f1 = |class: usize| {
            let labels: u64 =
                (0..self.classes).map(|p| self.counts[class * self.classes + p]).sum();
            let predictions: u64 =
                (0..self.classes).map(|label| self.counts[label * self.classes + class]).sum();
            // Correct images are in both: labels + predictions = 2 TP + FP + FN.
            let both = labels + predictions;
            (both > 0).then(|| 2.0 * self.right(class) as f64 / both as f64)
        };
        let all: Vec<f64> = (0..self.classes).filter_map(f1).collect();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_testing::{conv_graph, images_for, normalization, random_bytes, random_weights};

    use super::*;
    use crate::export::{float_model, integer_model};

    #[test]
    fn both_stop_when_asked() {
        let graph = conv_graph();
        let (weights, normalization) = (random_weights(&graph, 1), normalization(&graph));
        let set = images_for(&graph, &[random_bytes(&graph, 1)]);
        let stop = &mut || ControlFlow::Break(());
        let model = float_model(&graph, &weights, &normalization).unwrap();
        let evaluated = evaluate(&model, &set, Split::Test, stop);
        assert!(matches!(evaluated, Err(RunError::Stopped)));
        let calibrated =
            integer_model(&graph, &weights, &normalization, &set, &Scheme::default(), stop);
        assert!(matches!(calibrated, Err(RunError::Stopped)));
        // Also while the rounding and the biases are learned, after two runs over the images.
        for (rounding, correct_biases) in [(Rounding::Learned, false), (Rounding::Nearest, true)] {
            let scheme = Scheme { rounding, correct_biases, ..Scheme::default() };
            let mut calls = 0;
            let late = &mut || {
                calls += 1;
                if calls < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            let stopped = integer_model(&graph, &weights, &normalization, &set, &scheme, late);
            assert!(matches!(stopped, Err(RunError::Stopped)));
            assert_eq!(calls, 3);
        }
    }

    #[test]
    fn no_more_images_are_held_than_fit() {
        assert_eq!(held_at_once(5, 1), [0, 1, 2, 3, 4]);
        assert_eq!(held_at_once(5, MAX_HELD_NUMBERS / 3), [0, 1, 2]);
        assert_eq!(held_at_once(5, 2 * MAX_HELD_NUMBERS), [0]);
        assert_eq!(held_at_once(0, 1), [0; 0]);
    }

    fn predicted(classes: usize, pairs: &[(usize, usize)]) -> Confusion {
        let mut counts = Confusion::new(classes);
        pairs.iter().for_each(|(label, prediction)| counts.add(*label, *prediction));
        counts
    }

    #[test]
    fn right_images_are_counted_by_class() {
        let counts = predicted(3, &[(0, 0), (0, 1), (0, 0), (2, 1)]);
        let expected = [(3, 2), (0, 0), (1, 0)].map(|(images, right)| ClassCount { images, right });
        assert_eq!(counts.by_class(), expected);
    }

    #[test]
    fn f1_is_the_mean_over_classes() {
        // scikit-learn's example of f1_score: labels 0 1 2 0 1 2, predictions 0 2 1 0 0 1, macro
        // 0.2667.
        let pairs = [(0, 0), (1, 2), (2, 1), (0, 0), (1, 0), (2, 1)];
        let counts = predicted(3, &pairs);
        assert!((counts.f1_macro() - 0.8 / 3.0).abs() < 1e-12);
        assert_eq!(counts.accuracy(), 2.0 / 6.0);
        // A class without images and predictions changes nothing. One that is only predicted counts
        // as 0.
        assert_eq!(predicted(5, &pairs).f1_macro(), counts.f1_macro());
        assert_eq!(predicted(2, &[(0, 0), (0, 1)]).f1_macro(), (2.0 / 3.0 + 0.0) / 2.0);
        assert_eq!(predicted(3, &[]).f1_macro(), 0.0);
        assert_eq!(predicted(3, &[(0, 0), (1, 1), (2, 2)]).f1_macro(), 1.0);
    }
}

//! Evaluates a model file on a set of images by running it.

use std::ops::ControlFlow;

use edgesmith_common::{Figures, Metric, Split};
use edgesmith_edge_runtime::{Model, Session};

use edgesmith_data::ImageSet;

/// Number of images between two checks whether to stop.
const CHUNK: usize = 64;

/// Every figure of a classifier on `set`, which is the part `split` of the study's data. Images are
/// resized to the model's input. `Err(None)` means that it was stopped.
pub fn evaluate(
    model: &Model,
    set: &ImageSet,
    split: Split,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Figures, Option<String>> {
    let mut session = Session::new(model).map_err(|e| Some(e.to_string()))?;
    let images = set.resized(model.input.height as usize);
    let mut counts = Confusion::new(session.classes());
    for i in 0..images.len() {
        if i % CHUNK == 0 && pause().is_break() {
            return Err(None);
        }
        let class = session.classify(images.image(i)).map_err(|e| Some(e.to_string()))?;
        counts.add(usize::from(images.labels[i]), class);
    }
    Ok(Figures::new()
        .with(Metric::ACCURACY.on(split.clone()), counts.accuracy())
        .with(Metric::F1_MACRO.on(split), counts.f1_macro()))
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
    use super::*;

    fn confusion(classes: usize, pairs: &[(usize, usize)]) -> Confusion {
        let mut counts = Confusion::new(classes);
        pairs.iter().for_each(|(label, prediction)| counts.add(*label, *prediction));
        counts
    }

    #[test]
    fn f1_is_the_mean_over_classes() {
        // scikit-learn's example of f1_score: labels 0 1 2 0 1 2, predictions 0 2 1 0 0 1, macro
        // 0.2667.
        let pairs = [(0, 0), (1, 2), (2, 1), (0, 0), (1, 0), (2, 1)];
        let counts = confusion(3, &pairs);
        assert!((counts.f1_macro() - 0.8 / 3.0).abs() < 1e-12);
        assert_eq!(counts.accuracy(), 2.0 / 6.0);
        // A class without images and predictions changes nothing. One that is only predicted counts
        // as 0.
        assert_eq!(confusion(5, &pairs).f1_macro(), counts.f1_macro());
        assert_eq!(confusion(2, &[(0, 0), (0, 1)]).f1_macro(), (2.0 / 3.0 + 0.0) / 2.0);
        assert_eq!(confusion(3, &[]).f1_macro(), 0.0);
        assert_eq!(confusion(3, &[(0, 0), (1, 1), (2, 2)]).f1_macro(), 1.0);
    }
}

//! Figures of a model file on a set of images, by running it.

use std::ops::ControlFlow;

use edgesmith_common::{Figures, Metric, Split};
use edgesmith_edge_runtime::{Model, Session};

use crate::data::ImageSet;

/// Images between two looks at whether to stop.
const CHUNK: usize = 64;

/// Every figure of a classifier on `set`, which is this `split` of the study's data; images are resized to
/// the model's input. `Err(None)`: told to stop.
pub fn evaluate(
    model: &Model,
    set: &ImageSet,
    split: Split,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Figures, Option<String>> {
    let mut session = Session::new(model).map_err(|e| Some(e.to_string()))?;
    let images = set.resized(model.input.height as usize);
    let mut right = 0_usize;
    for i in 0..images.len() {
        if i % CHUNK == 0 && pause().is_break() {
            return Err(None);
        }
        let class = session.classify(images.image(i)).map_err(|e| Some(e.to_string()))?;
        right += usize::from(class == usize::from(images.labels[i]));
    }
    let accuracy = right as f64 / images.len().max(1) as f64;
    Ok(Figures::new().with(Metric::ACCURACY.on(split), accuracy))
}

//! Accuracy of a model file, by running it on images.

use std::ops::ControlFlow;

use edgesmith_edge_runtime::{Model, Session};

use crate::data::ImageSet;

/// Images between two looks at whether to stop.
const CHUNK: usize = 64;

/// Share of `set` that `model` classifies right, images resized to the model's input. `Err(None)`:
/// told to stop.
pub fn accuracy(
    model: &Model,
    set: &ImageSet,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<f64, Option<String>> {
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
    Ok(right as f64 / images.len().max(1) as f64)
}

//! Names of layers and of what belongs to them. They depend only on where a layer stands. Search
//! lowers thousands of networks for a proposal, so the names of each place are put together once
//! and kept as long as the program runs. There are few: a space has at most as many places as
//! its deepest network has layers.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use edgesmith_graph::Place;
use foldhash::fast::FixedState;

/// The names of a layer, of its parameters, and of what is computed along with it.
#[derive(Debug)]
pub struct LayerNames {
    /// `stage2.block1.expand`; the part alone outside of blocks.
    pub layer: &'static str,
    /// `stage2.block1.expand.weight`
    pub weight: &'static str,
    /// `classifier.bias`
    pub bias: &'static str,
    /// Of the normalisation: its scale.
    pub gamma: &'static str,
    /// Its shift.
    pub beta: &'static str,
    /// Its running mean.
    pub mean: &'static str,
    /// Its running variance.
    pub variance: &'static str,
    /// Its output.
    pub normalized: &'static str,
    /// The output of the activation.
    pub activated: &'static str,
}

impl LayerNames {
    /// The names of the layer at this place.
    pub fn of(place: &Place) -> &'static Self {
        static KNOWN: LazyLock<RwLock<HashMap<Place, &LayerNames, FixedState>>> =
            LazyLock::new(Default::default);
        if let Some(names) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(place) {
            return names;
        }
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(place.clone()).or_insert_with(|| Box::leak(Box::new(Self::new(place))))
    }

    fn new(place: &Place) -> Self {
        let layer = match (place.stage, place.block) {
            (Some(stage), Some(block)) => {
                format!("stage{}.block{}.{}", stage + 1, block + 1, place.part)
            }
            _ => place.part.to_string(),
        };
        let part = |part: &str| -> &'static str { format!("{layer}.{part}").leak() };
        Self {
            weight: part("weight"),
            bias: part("bias"),
            gamma: part("gamma"),
            beta: part("beta"),
            mean: part("mean"),
            variance: part("variance"),
            normalized: part("normalized"),
            activated: part("activated"),
            layer: layer.leak(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_its_names_once() {
        let expand = Place { stage: Some(1), block: Some(0), part: "expand".into() };
        let names = LayerNames::of(&expand);
        assert_eq!(names.layer, "stage2.block1.expand");
        assert_eq!(names.variance, "stage2.block1.expand.variance");
        assert!(std::ptr::eq(names, LayerNames::of(&expand.clone())));
        let stem = Place { stage: Some(0), block: None, part: "stem".into() };
        assert_eq!(LayerNames::of(&stem).weight, "stem.weight");
    }
}

//! Version 4 of the kind of record that has changed once more, frozen, with the upcast from
//! version 3.
//!
//! What changed: a measurement of a network in integers has the timing of the same network in fp32,
//! with the layers that are slower than there; and of a layer it is said whether it is the layer
//! itself, or the conversions that it makes necessary.

use serde::{Deserialize, Serialize};

use super::v3::OriginalTiming;
use super::{frozen, v1, v2, v3};

frozen! { 4:
    10 Measured,
}

/// Kind 10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub study: String,
    pub task: u64,
    pub measurement: v1::Measurement,
    pub noise: Option<v2::Noise>,
    pub energy_mj: Option<f64>,
    pub original: Option<OriginalTiming>,
    pub slower_layers: Vec<LayerTimes>,
    pub unquantized: Option<OriginalTiming>,
    pub slower_in_integers: Vec<LayerTimes>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerTimes {
    pub layer: String,
    pub conversions: bool,
    pub shipped_ms: f64,
    pub original_ms: f64,
}

impl v3::Measured {
    /// In version 3, the network was not timed in fp32, and layers were compared with all that is
    /// computed since the one before.
    pub fn upcast(self) -> Measured {
        let v3::Measured { study, task, measurement, noise, energy_mj, original, slower_layers } =
            self;
        let layer = |v3::LayerTimes { layer, shipped_ms, original_ms }| LayerTimes {
            layer,
            conversions: false,
            shipped_ms,
            original_ms,
        };
        Measured {
            study,
            task,
            measurement,
            noise,
            energy_mj,
            original,
            slower_layers: slower_layers.into_iter().map(layer).collect(),
            unquantized: None,
            slower_in_integers: Vec::new(),
        }
    }
}

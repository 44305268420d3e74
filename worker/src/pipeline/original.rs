//! Times the network of a study on a user's network as it came, in fp32, so that it can be compared
//! with the trials on each device. It is timed once for each way of measuring, not for each trial;
//! again only if other work disturbed it.

use std::sync::{Mutex, PoisonError};

use edgesmith_common::spec::MeasurementSpec;
use edgesmith_common::{ArtifactHash, LayerTimes, Measurement, OriginalTiming};
use edgesmith_edge_runtime::{Layer, Model};
use edgesmith_search_space::layer_names;

use super::gate::QuietGate;
use super::inputs;
use super::run::Study;
use super::start::imported;
use crate::export::float_model;
use crate::probe::ProbeError;
use crate::session::AttemptContext;

/// Most timings that are kept. Each is of one study, and few run at the same time.
const MOST: usize = 64;

/// Most layers that are named.
const MOST_LAYERS: usize = 8;

/// The timings so far.
#[derive(Debug, Default)]
pub struct Originals(Mutex<Vec<(Key, OriginalTiming)>>);

/// What a timing depends on: the network's file and weights, how it is timed, and the threads.
type Key = ([ArtifactHash; 2], MeasurementSpec, u32);

impl Originals {
    /// The timing of the study's own network by `time`. `None` if the study has none, or if it
    /// cannot be timed here: the trial still can. While the network is made ready, `gate` lets
    /// nothing be measured.
    ///
    /// # Errors
    /// If it was stopped.
    pub fn timing(
        &self,
        study: &Study<'_>,
        threads: u32,
        (gate, context): (&QuietGate, &AttemptContext),
        time: impl FnOnce(&Model) -> Result<Measurement, ProbeError>,
    ) -> Result<Option<OriginalTiming>, ProbeError> {
        let Some(own) = &study.work.model else { return Ok(None) };
        let key = ([own.file.file, own.file.weights], study.work.measurement.clone(), threads);
        if let Some(known) = self.known(&key) {
            return Ok(Some(known));
        }
        let Some(model) = model(study, gate, context) else { return Ok(None) };
        let timing = match time(&model) {
            Ok(timed) => OriginalTiming {
                p50_ms: timed.p50_ms,
                p95_ms: timed.p95_ms,
                min_ms: timed.min_ms,
                noisy: timed.is_noisy(),
                energy_mj: timed.energy_mj,
            },
            Err(ProbeError::Stopped) => return Err(ProbeError::Stopped),
            Err(_) => return Ok(None),
        };
        self.keep(key, timing);
        Ok(Some(timing))
    }

    fn known(&self, key: &Key) -> Option<OriginalTiming> {
        self.lock().iter().find(|(known, _)| known == key).map(|(_, timing)| *timing)
    }

    /// A noisy one is for its trial only, because later ones would be compared with it.
    fn keep(&self, key: Key, timing: OriginalTiming) {
        if timing.noisy {
            return;
        }
        let mut known = self.lock();
        if known.len() == MOST {
            known.remove(0);
        }
        known.push((key, timing));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Key, OriginalTiming)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layers of a trial that take longer than the same layers of the study's own network, by
/// `nodes`, the times of all nodes of a model. Layers are those with weights, each with what is
/// computed since the one before, such as a conversion to bytes; a pass removes none of them. Empty
/// if the trial has other ones.
///
/// # Errors
/// If it was stopped.
pub fn slower_layers(
    study: &Study<'_>,
    shipped: &Model,
    (gate, context): (&QuietGate, &AttemptContext),
    nodes: impl Fn(&Model) -> Result<Vec<f64>, ProbeError>,
) -> Result<Vec<LayerTimes>, ProbeError> {
    let (Some(own), Some(original)) = (&study.work.model, model(study, gate, context)) else {
        return Ok(Vec::new());
    };
    let of_layers = |model: &Model| -> Result<Vec<f64>, ProbeError> {
        let times = match nodes(model) {
            Err(ProbeError::Stopped) => return Err(ProbeError::Stopped),
            times => times.unwrap_or_default(),
        };
        let ends = model.nodes.iter().map(|node| has_weights(&node.layer));
        Ok(by_layer(ends.zip(times)))
    };
    let names: Vec<&str> = layer_names(&own.file.network).collect();
    Ok(slower(&names, &of_layers(shipped)?, &of_layers(&original)?))
}

/// The times of layers, from those of nodes in order, with whether a layer ends there. What follows
/// the last layer counts as part of it.
fn by_layer(nodes: impl IntoIterator<Item = (bool, f64)>) -> Vec<f64> {
    let (mut layers, mut since) = (Vec::new(), 0.0);
    for (ends, ms) in nodes {
        since += ms;
        if ends {
            layers.push(std::mem::take(&mut since));
        }
    }
    if let Some(last) = layers.last_mut() {
        *last += since;
    }
    layers
}

/// The layers that take longer than before, the greatest difference first. Empty if the numbers of
/// layers differ.
fn slower(names: &[&str], shipped: &[f64], original: &[f64]) -> Vec<LayerTimes> {
    if shipped.len() != names.len() || original.len() != names.len() {
        return Vec::new();
    }
    let times = shipped.iter().zip(original);
    let mut slower: Vec<LayerTimes> = names
        .iter()
        .zip(times)
        .filter(|(_, (shipped, original))| **shipped > (1.0 + Measurement::SLOWER) * **original)
        .map(|(layer, (&shipped_ms, &original_ms))| LayerTimes {
            layer: (*layer).to_owned(),
            shipped_ms,
            original_ms,
        })
        .collect();
    let more = |of: &LayerTimes| of.shipped_ms - of.original_ms;
    slower.sort_by(|a, b| more(b).total_cmp(&more(a)));
    slower.truncate(MOST_LAYERS);
    slower
}

/// Whether a layer of the engine is one with weights.
fn has_weights(layer: &Layer) -> bool {
    matches!(
        layer,
        Layer::FloatConv(_)
            | Layer::IntConv(_)
            | Layer::FloatConvTranspose(_)
            | Layer::IntConvTranspose(_)
            | Layer::FloatLinear(_)
            | Layer::IntLinear(_)
            | Layer::Leveled(_)
    )
}

/// The study's own network as a model of the engine; `None` if there is none.
fn model(study: &Study<'_>, gate: &QuietGate, context: &AttemptContext) -> Option<Model> {
    let own = study.work.model.as_ref()?;
    let _busy = gate.busy();
    let weights = imported(study, context).ok()?;
    let normalization = inputs::normalization(&own.read_pixels());
    float_model(&own.file.network, &weights, &normalization).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_timing_is_not_kept() {
        let originals = Originals::default();
        let key = || {
            let files = [ArtifactHash::of(b"network"), ArtifactHash::of(b"weights")];
            (files, MeasurementSpec::default(), 1)
        };
        let (p50_ms, p95_ms, min_ms, energy_mj) = (2.0, 3.0, 1.0, None);
        let timing = |noisy| OriginalTiming { p50_ms, p95_ms, min_ms, noisy, energy_mj };
        originals.keep(key(), timing(true));
        assert_eq!(originals.known(&key()), None);
        originals.keep(key(), timing(false));
        assert_eq!(originals.known(&key()), Some(timing(false)));
    }

    #[test]
    fn what_is_between_layers_belongs_to_the_next_one() {
        let nodes = [(false, 1.0), (true, 2.0), (true, 4.0), (false, 8.0), (true, 16.0)];
        assert_eq!(by_layer(nodes), [3.0, 4.0, 24.0]);
        assert_eq!(by_layer([(true, 1.0), (false, 2.0)]), [3.0]);
        assert!(by_layer([(false, 2.0)]).is_empty());
    }

    #[test]
    fn the_layer_that_takes_most_time_more_comes_first() {
        let names = ["a", "b", "c", "d"];
        let slower = |shipped: &[f64]| slower(&names, shipped, &[1.0, 1.0, 1.0, 4.0]);
        let found = slower(&[1.04, 2.0, 0.5, 6.0]);
        let found: Vec<(&str, f64)> = found.iter().map(|of| (&*of.layer, of.shipped_ms)).collect();
        assert_eq!(found, [("d", 6.0), ("b", 2.0)], "4 % more is within the spread");
        assert_eq!(slower(&[2.0; 3]), [], "other layers cannot be compared");
    }
}

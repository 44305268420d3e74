//! Times the network of a study on a user's network as it came, in fp32, so that it can be compared
//! with the trials on each device. It is timed once for each way of measuring, not for each trial;
//! again only if other work disturbed it.

use std::sync::{Mutex, PoisonError};

use edgesmith_common::spec::MeasurementSpec;
use edgesmith_common::{ArtifactHash, Fp32Timing, Measurement};
use edgesmith_compress::fold;
use edgesmith_edge_runtime::Model;
use edgesmith_graph::NodeId;
use edgesmith_search_space::layer_names;

use super::gate::QuietGate;
use super::inputs;
use super::run::Study;
use super::start::imported;
use crate::export::{layers, lower};
use crate::probe::ProbeError;
use crate::session::AttemptContext;

/// Most timings that are kept. Each is of one study, and few run at the same time.
const MOST: usize = 64;

/// The timings so far.
#[derive(Debug, Default)]
pub struct Originals(Mutex<Vec<(Key, Fp32Timing)>>);

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
    ) -> Result<Option<Fp32Timing>, ProbeError> {
        let Some(own) = &study.work.model else { return Ok(None) };
        let key = ([own.file.file, own.file.weights], study.work.measurement.clone(), threads);
        if let Some(known) = self.known(&key) {
            return Ok(Some(known));
        }
        let Some(own) = Own::of(study, gate, context) else { return Ok(None) };
        let timing = match time(&own.model) {
            Ok(timed) => timed.timing(),
            Err(ProbeError::Stopped) => return Err(ProbeError::Stopped),
            Err(_) => return Ok(None),
        };
        self.keep(key, timing);
        Ok(Some(timing))
    }

    fn known(&self, key: &Key) -> Option<Fp32Timing> {
        self.lock().iter().find(|(known, _)| known == key).map(|(_, timing)| *timing)
    }

    /// A noisy one is for its trial only, because later ones would be compared with it.
    fn keep(&self, key: Key, timing: Fp32Timing) {
        if timing.noisy {
            return;
        }
        let mut known = self.lock();
        if known.len() == MOST {
            known.remove(0);
        }
        known.push((key, timing));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Key, Fp32Timing)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The study's own network, in fp32.
pub struct Own {
    /// As a model of the engine.
    pub model: Model,
    /// By layer of the model: its name in the network.
    pub names: Vec<String>,
}

impl Own {
    /// `None` if the study has none, or if it cannot be had here.
    pub fn of(study: &Study<'_>, gate: &QuietGate, context: &AttemptContext) -> Option<Self> {
        let own = study.work.model.as_ref()?;
        let _busy = gate.busy();
        let weights = imported(study, context).ok()?;
        let normalization = inputs::normalization(&own.read_pixels());
        let (graph, weights) = fold(&own.file.network, &weights);
        let model = lower(&graph, &weights, None, &normalization).ok()?;
        // Folding keeps the layers with weights. Those are known by their names in the network.
        let mut weighted = layer_names(&own.file.network).map(str::to_owned);
        let name = |(id, _): &(NodeId, _)| {
            let node = graph.node(*id);
            let weighted = if graph.has_weight(node) { weighted.next() } else { None };
            weighted.unwrap_or_else(|| graph.value(node.output).name.to_string())
        };
        let names = layers(&graph).iter().map(name).collect();
        Some(Self { model, names })
    }
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
        let timing = |noisy| Fp32Timing { p50_ms, p95_ms, min_ms, noisy, energy_mj };
        originals.keep(key(), timing(true));
        assert_eq!(originals.known(&key()), None);
        originals.keep(key(), timing(false));
        assert_eq!(originals.known(&key()), Some(timing(false)));
    }
}

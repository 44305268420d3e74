//! What a network costs where that is measured: the bytes of its model file, its time in the
//! engine on this machine, and which multiples of channels the engine likes. It decides nothing
//! about devices other than this one.

use std::sync::OnceLock;

use edgesmith_common::AttemptError;
use edgesmith_common::spec::MeasurementSpec;
use edgesmith_compress::{Calibration, Scheme};
use edgesmith_data::Normalization;
use edgesmith_edge_runtime::Model;
use edgesmith_graph::{
    Conv, GlobalAveragePool, Graph, GraphBuilder, GraphError, Linear, Place, Role, Shape, Weights,
};
use edgesmith_search_space::Counted;
use edgesmith_train::fresh_weights;

use super::super::hopeless;
use super::super::run::Run;
use crate::export::{float_model, lower};
use crate::probe::{self, ProbeError};

/// Multiples that are compared.
const MULTIPLES: [u32; 5] = [1, 2, 4, 8, 16];
/// The multiple where nothing can be measured: the lanes of vectors on common processors.
const FALLBACK: u32 = 8;
/// Multiples of which the times differ by no more than this are equally fast.
const EQUALLY_FAST: f64 = 1.02;
/// Numbers of channels that are timed: each multiple has several of them.
const WIDTHS: std::ops::RangeInclusive<u32> = 17..=32;
/// Side of the image that a timed convolution reads.
const SIDE: u32 = 16;

/// The multiples of channels that are fast on this machine, once they were measured.
#[derive(Debug, Default)]
pub struct Multiples {
    fp32: OnceLock<u32>,
    integers: OnceLock<u32>,
}

impl Multiples {
    /// That of layers in integers of 8 bits, or in fp32.
    pub fn of(&self, integers: bool) -> &OnceLock<u32> {
        if integers { &self.integers } else { &self.fp32 }
    }
}

impl Run<'_> {
    /// How much a network takes of what is measured, and `None` of what is counted.
    pub fn measured(
        &self,
        counted: Counted,
        graph: &Graph,
        weights: &Weights,
    ) -> Result<Option<f64>, AttemptError> {
        match counted {
            Counted::Channels | Counted::Macs | Counted::Parameters => Ok(None),
            Counted::Bytes => Ok(Some(self.model(graph, weights)?.counted_bytes() as f64)),
            Counted::Latency => {
                let model = self.model(graph, weights)?;
                let time = self.time(&model, &self.study.work.measurement);
                time.map(Some).map_err(|error| match error {
                    ProbeError::Stopped => AttemptError::stopped(),
                    other => AttemptError::retryable(other),
                })
            }
        }
    }

    /// The median time of a model on this machine, milliseconds, while nothing else of the process
    /// computes.
    fn time(&self, model: &Model, spec: &MeasurementSpec) -> Result<f64, ProbeError> {
        let stopped = || self.context.is_stopped();
        let quiet = || self.busy.quiet(stopped);
        probe::measure(model, spec, 1, self.info, quiet, stopped).map(|timing| timing.p50_ms)
    }

    /// The multiple of channels that is fastest in the engine on this machine, of layers in
    /// integers of 8 bits or in fp32. It is measured once per process.
    pub fn fast_multiple(&self, integers: bool) -> Result<u32, AttemptError> {
        let known = self.multiples.of(integers);
        if let Some(known) = known.get() {
            return Ok(*known);
        }
        let spec = &self.study.work.measurement;
        let times: Result<Vec<f64>, ProbeError> = WIDTHS
            .map(|width| match convolution(width, integers) {
                Some(model) => self.time(&model, spec),
                None => Ok(f64::NAN),
            })
            .collect();
        let multiple = match times {
            Ok(times) => fastest(&times),
            Err(ProbeError::Stopped) => return Err(AttemptError::stopped()),
            Err(ProbeError::Threads { .. } | ProbeError::Model(_) | ProbeError::Input(_)) => {
                FALLBACK
            }
        };
        Ok(*known.get_or_init(|| multiple))
    }
}

/// The multiple with the least time for all of [`WIDTHS`] rounded up to it, given their times; the
/// smallest of those that are about equally fast, because it lets a pruning remove most.
fn fastest(times: &[f64]) -> u32 {
    let (first, last) = (*WIDTHS.start(), *WIDTHS.end());
    let total = |multiple: u32| -> f64 {
        let rounded = WIDTHS.map(|width| width.next_multiple_of(multiple).min(last));
        rounded.filter_map(|width| times.get((width - first) as usize)).sum()
    };
    let totals = MULTIPLES.map(total);
    if times.len() != WIDTHS.count() || totals.iter().any(|total| !total.is_finite()) {
        return FALLBACK;
    }
    let least = totals.iter().copied().fold(f64::INFINITY, f64::min);
    let mut fast = MULTIPLES.iter().zip(totals).filter(|(_, all)| *all <= least * EQUALLY_FAST);
    fast.next().map_or(FALLBACK, |(multiple, _)| *multiple)
}

/// The model of a convolution of so many channels, and of what it needs around it. `None` if the
/// engine refuses it, which would be a mistake of this module.
fn convolution(width: u32, integers: bool) -> Option<Model> {
    let graph = around(width).ok()?;
    let weights = fresh_weights(&graph, [0; 32]);
    let normalization = Normalization { mean: vec![0.0], std: vec![1.0] };
    if !integers {
        return float_model(&graph, &weights, &normalization).ok();
    }
    // Any scales do: the engine's time does not depend on them.
    let mut calibration = Calibration::new(&graph, &weights);
    calibration.observe(vec![1.0; graph.input().elements() as usize]).ok()?;
    let quantization = calibration.finish((0.0, 1.0), &Scheme::default()).ok()?;
    lower(&graph, &weights, Some(&quantization), &normalization).ok()
}

fn around(width: u32) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new();
    let side = Shape::new(1, &[SIDE, SIDE]).expect("a picture");
    let image = b.input("image", side)?;
    let first = b.parameter("first.weight", &[width, 1, 1, 1], Role::Weight)?;
    let first = b.node("first", Conv::dense(1, 1), &[image], &[first], Place::default())?;
    let weight = b.parameter("conv.weight", &[width, width, 3, 3], Role::Weight)?;
    let conv = b.node("conv", Conv::dense(3, 1), &[first], &[weight], Place::default())?;
    let pool = b.node("pool", GlobalAveragePool, &[conv], &[], Place::default())?;
    let weight = b.parameter("classes.weight", &[2, width], Role::Weight)?;
    let classes = b.node("classes", Linear, &[pool], &[weight], Place::default())?;
    b.finish(&[classes])
}

/// What a pruning is to make smaller, for what the stage says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    pub counted: Counted,
    /// How much of it the network had.
    pub before: f64,
    /// How much of it may be left, where the recipe says that and not a share.
    pub most: Option<f64>,
}

impl Goal {
    /// Whether no more than what may be left is.
    pub fn is_met(&self, now: f64) -> bool {
        // A share of a whole number may be a little more than the number that is meant.
        self.most.is_none_or(|most| now <= most * (1.0 + 1e-9))
    }

    /// What came of it, for people: `0.651 of 1.302 ms`; if too much is left, how much may be, too.
    pub fn said(&self, now: f64) -> String {
        let unit = self.counted.unit();
        let text = format!("{} of {} {unit}", self.number(now), self.number(self.before));
        match self.most {
            Some(most) if !self.is_met(now) => format!("{text}, above {most}"),
            Some(_) | None => text,
        }
    }

    /// That nothing had to go: `1.302 of at most 2 ms`.
    pub fn kept(&self, now: f64) -> String {
        let most = self.most.unwrap_or(self.before);
        format!("{} of at most {most} {}", self.number(now), self.counted.unit())
    }

    fn number(&self, number: f64) -> String {
        match self.counted {
            // Small networks take some microseconds.
            Counted::Latency if number < 0.1 => format!("{number:.4}"),
            Counted::Latency => format!("{number:.3}"),
            Counted::Bytes | Counted::Channels | Counted::Macs | Counted::Parameters => {
                format!("{number:.0}")
            }
        }
    }
}

/// An error of a network that a pass of this process made, which another attempt would repeat.
pub(super) fn broken(error: GraphError) -> AttemptError {
    hopeless(format!("removing blocks left no network: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_the_fastest_multiples_is_taken() {
        let times = |of: &dyn Fn(u32) -> f64| WIDTHS.map(of).collect::<Vec<f64>>();
        // Time that grows with every channel: rounding up only costs.
        assert_eq!(fastest(&times(&f64::from)), 1);
        // Whole vectors of eight, and what is left over one by one.
        let vectors = |width: u32| f64::from(width / 8) + 2.0 * f64::from(width % 8);
        assert_eq!(fastest(&times(&vectors)), 8);
        // Vectors of four that cost the same whether they are full.
        let padded = |width: u32| f64::from(width.div_ceil(4));
        assert_eq!(fastest(&times(&padded)), 1, "rounding up gains nothing");
        let odd = |width: u32| f64::from(width) * if width % 2 == 1 { 3.0 } else { 1.0 };
        assert_eq!(fastest(&times(&odd)), 2);
    }

    #[test]
    fn without_times_it_is_the_fallback() {
        assert_eq!(fastest(&[]), FALLBACK);
        let mut times: Vec<f64> = WIDTHS.map(f64::from).collect();
        times[3] = f64::NAN;
        assert_eq!(fastest(&times), FALLBACK);
    }

    #[test]
    fn the_engine_takes_what_is_timed() {
        for width in WIDTHS {
            let model = |integers: bool| convolution(width, integers).expect("the engine takes it");
            assert!(model(true).has_integers() && !model(false).has_integers(), "{width}");
        }
    }
}

//! Predicts latencies from a study's own measurements, so that candidates that would almost
//! certainly break a limit are not trained.
//!
//! Each target with a limit has its own predictor. It has one model ([`model`]) for fp32 and one
//! for int8, because they run different code. Predictors change only when records are applied. A
//! candidate that they rule out is recorded with the reason
//! ([`Record::TrialTooSlow`](crate::core::Record::TrialTooSlow)), so a replay applies the decision
//! and does not make it again.
//!
//! A wrong predictor has to be able to correct itself, so every tenth trial is trained whatever its
//! prediction. Then networks above the limit are measured too, the fit learns from them, and the
//! share of right predictions is not that of accepted candidates alone.

mod model;

use std::collections::BTreeMap;

use edgesmith_common::{Measurement, StudySpec, Target, TrialNumber};
use edgesmith_graph::Graph;
use edgesmith_search_space::{Candidate, Genotype, Precision};

use self::model::{Features, Jackknife, Samples};

/// One trial in this many is trained whatever its prediction.
const TRIED: u32 = 10;

/// A prediction counts as right if its error is at most this share of the measured latency.
const CLOSE: f64 = 0.1;

/// The predictors of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictors(BTreeMap<Target, Predictor>);

/// The predictor of one target.
#[derive(Debug, Clone, PartialEq)]
struct Predictor {
    limit: f64,
    samples: BTreeMap<Precision, Samples>,
    measurements: u32,
    predicted: u32,
    close: u32,
    saved: u32,
}

/// How good the latency predictions on a target are, and how many trainings they saved.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionView {
    /// The target.
    pub target: Target,
    /// The study's latency limit on it, milliseconds.
    pub limit_ms: f64,
    /// Number of trials measured on it.
    pub measurements: u32,
    /// How many of them had a prediction before they were measured.
    pub predicted: u32,
    /// How many of the predictions were within 10 % of the measurement.
    pub within_tenth: u32,
    /// Number of candidates that were not trained, because they were predicted to be above the
    /// limit.
    pub trainings_saved: u32,
}

impl Predictors {
    /// For a new study. There are no predictors if it has no latency limit or turns predictions
    /// off.
    pub(super) fn new(spec: &StudySpec) -> Self {
        let predictor = |(target, limit)| {
            let samples = BTreeMap::new();
            let (measurements, predicted, close, saved) = (0, 0, 0, 0);
            (target, Predictor { limit, samples, measurements, predicted, close, saved })
        };
        Self(spec.predicted_limits().into_iter().map(predictor).collect())
    }

    /// Learns from the measured latency of a trial's network.
    pub(super) fn learn(
        &mut self,
        spec: &StudySpec,
        genotype: &Genotype,
        measurement: &Measurement,
    ) {
        let target = measurement.target();
        // Most studies predict nothing, and building the network takes longer than all else.
        if !self.0.contains_key(&target) {
            return;
        }
        let Some(work) = spec.training() else { return };
        let candidate = work.space.decode(genotype);
        if !candidate.recipe.fixes_costs() {
            return;
        }
        // It was trained, so it is a valid network.
        if let Ok(network) = candidate.pruned_graph(work.space.data()) {
            self.measured(&target, candidate.recipe.precision(), &network, measurement.p50_ms);
        }
    }

    /// Adds a measurement in milliseconds; `network` is the one that was measured.
    fn measured(&mut self, target: &Target, precision: Precision, network: &Graph, ms: f64) {
        let Some(predictor) = self.0.get_mut(target) else { return };
        let samples = predictor.samples.entry(precision).or_default();
        let features = Features::of(network);
        predictor.measurements += 1;
        // Predict before adding the measurement, so that the prediction does not know the answer.
        if let Some(predicted) = samples.predict(&features) {
            predictor.predicted += 1;
            predictor.close += u32::from((predicted - ms).abs() <= CLOSE * ms);
        }
        samples.add(&features, ms);
    }

    /// Counts a candidate that was not trained because of a prediction on this target.
    pub(super) fn saved(&mut self, target: &Target) {
        if let Some(predictor) = self.0.get_mut(target) {
            predictor.saved += 1;
        }
    }

    pub(super) fn view(&self) -> Vec<PredictionView> {
        let view = |(target, of): (&Target, &Predictor)| PredictionView {
            target: target.clone(),
            limit_ms: of.limit,
            measurements: of.measurements,
            predicted: of.predicted,
            within_tenth: of.close,
            trainings_saved: of.saved,
        };
        self.0.iter().map(view).collect()
    }
}

/// The predictors at one moment, fitted once and used for any number of candidates.
#[derive(Debug)]
pub(super) struct Judge {
    limits: Vec<(Target, f64, BTreeMap<Precision, Jackknife>)>,
}

impl Judge {
    /// Fits the predictors as they are now.
    pub(super) fn of(predictors: &Predictors) -> Self {
        let intervals = |predictor: &Predictor| {
            let fitted = predictor.samples.iter();
            fitted.filter_map(|(precision, of)| Some((*precision, of.jackknife()?))).collect()
        };
        let limits = predictors.0.iter();
        let limits = limits.map(|(target, of)| (target.clone(), of.limit, intervals(of)));
        Self { limits: limits.collect() }
    }

    /// The target on which a candidate, trial `number`, is predicted to be too slow, and the
    /// reason; `None` if it should be trained.
    pub(super) fn too_slow(
        &self,
        number: TrialNumber,
        candidate: &Candidate,
        network: &Graph,
    ) -> Option<(Target, String)> {
        if number.0 % TRIED == TRIED - 1 {
            return None;
        }
        let features = Features::of(network);
        self.limits.iter().find_map(|(target, limit, intervals)| {
            let jackknife = intervals.get(&candidate.recipe.precision())?;
            let interval = jackknife.interval(&features);
            (interval.low > *limit).then(|| {
                let reason = format!(
                    "predicted latency_ms on {target} is {} to {}, above the limit of {limit} (from \
                     {} measurements)",
                    digits(interval.low),
                    digits(interval.high),
                    jackknife.measurements()
                );
                (target.clone(), reason)
            })
        })
    }
}

/// Rounds to three significant digits; predictions are less precise than that.
fn digits(ms: f64) -> String {
    let places = (2 - ms.max(1e-9).log10().floor() as i32).clamp(0, 9);
    format!("{ms:.*}", places as usize)
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::{Quantizing, Recipe, Step};

    use super::*;

    fn spec() -> StudySpec {
        let text = "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 1\n\
                    objectives = [{ metric = \"macs\" }]\n\
                    constraints = [{ metric = \"latency_ms\", device = \"pi\", max = 5 }]\n\
                    space = { resolution = 8, stem_width = 8, stages = [{ width = 16 }] }\n";
        StudySpec::parse(text).unwrap()
    }

    #[test]
    fn predictions_for_one_precision_or_device_do_not_apply_to_another() {
        let spec = spec();
        let space = &spec.training().unwrap().space;
        let genotype = spec.space.genotype(vec![0; spec.space.choices().len()]).unwrap();
        let fp32 = space.decode(&genotype);
        let recipe = Recipe { steps: vec![Step::Quantize(Quantizing::default())] };
        let int8 = Candidate { recipe, ..fp32.clone() };
        let network = fp32.pruned_graph(space.data()).unwrap();
        let mut predictors = Predictors::new(&spec);
        let ruled_out = |predictors: &Predictors, number: u32, candidate: &Candidate| {
            Judge::of(predictors).too_slow(TrialNumber(number), candidate, &network)
        };
        let [pi, board] = ["pi", "board"].map(|class| Target::on(class.parse().unwrap()));
        for _ in 0..30 {
            assert_eq!(ruled_out(&predictors, 20, &int8), None);
            predictors.measured(&board, Precision::Int8, &network, 50.0);
            predictors.measured(&pi, Precision::Fp32, &network, 50.0);
        }
        assert_eq!(ruled_out(&predictors, 20, &int8), None);
        let (target, reason) = ruled_out(&predictors, 20, &fp32).unwrap();
        assert_eq!(target, pi);
        let text = "predicted latency_ms on pi is 50.0 to 50.0, above the limit of 5 (from 30 \
                    measurements)";
        assert_eq!(reason, text);
        // Every tenth trial is trained anyway.
        let tried: Vec<u32> =
            (20..40).filter(|n| ruled_out(&predictors, *n, &fp32).is_none()).collect();
        assert_eq!(tried, [29, 39]);
    }

    #[test]
    fn predictions_are_shown_with_three_digits() {
        let told = [0.001_234_5, 0.1, 6.149, 99.96, 1234.5, 0.0].map(digits);
        assert_eq!(told, ["0.00123", "0.100", "6.15", "100.0", "1234", "0.000000000"]);
    }
}

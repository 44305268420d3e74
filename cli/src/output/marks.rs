//! Marks on a front: the knee, and the trials that timing cannot tell apart.

use edgesmith_common::{DeviceClass, Metric, Objective, StudySpec, Target, TrialValues, pareto};

use super::TrialRow;

/// Number of ties that are shown in words.
const SHOWN: usize = 3;

/// Marks of a front's trials, in the order of the front.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// Place of the knee on the front.
    knee: Option<usize>,
    /// For each place, the numbers of the trials that it is tied with.
    tied: Vec<Vec<u32>>,
}

impl Marks {
    /// Marks of a front by the study's objectives. With a `device`, only objectives on it and
    /// objectives that are not tied to a device count.
    pub fn new(front: &[TrialRow], spec: &StudySpec, device: Option<&DeviceClass>) -> Self {
        let counts =
            |o: &&Objective| device.is_none() || o.device().is_none() || o.device() == device;
        let objectives: Vec<Objective> = spec.objectives.iter().filter(counts).cloned().collect();
        let points: Option<Vec<Vec<f64>>> = front
            .iter()
            .map(|row| pareto::oriented(&objectives, row.values.as_ref()?.figures()))
            .collect();
        let knee = points.as_deref().and_then(pareto::knee);
        let tied = |row: &TrialRow| {
            let others = front.iter().filter(|other| other.number != row.number);
            others.filter(|other| tie(row, other, &objectives)).map(|other| other.number).collect()
        };
        Self { knee, tied: front.iter().map(tied).collect() }
    }

    /// Whether the trial at a place is the knee.
    pub fn is_knee(&self, place: usize) -> bool {
        self.knee == Some(place)
    }

    /// The trials that the one at a place is tied with.
    pub fn tied_with(&self, place: usize) -> &[u32] {
        self.tied.get(place).map(Vec::as_slice).unwrap_or_default()
    }

    /// The marks of a place in words: `knee`, `≈ 3, 7`. Only the first few ties are shown.
    pub fn words(&self, place: usize) -> String {
        let mut words = Vec::new();
        if self.is_knee(place) {
            words.push("knee".to_owned());
        }
        if !self.tied_with(place).is_empty() {
            let all = self.tied_with(place);
            let numbers: Vec<String> = all.iter().take(SHOWN).map(u32::to_string).collect();
            let more = if all.len() > SHOWN { ", …" } else { "" };
            words.push(format!("≈ {}{more}", numbers.join(", ")));
        }
        words.join(" ")
    }
}

/// Whether two trials are tied: there is at least one latency objective, and in all of them the
/// trials differ by less than the spread of either.
fn tie(a: &TrialRow, b: &TrialRow, objectives: &[Objective]) -> bool {
    let mut timed = objectives.iter().filter(|o| o.of.metric == Metric::LATENCY_MS).peekable();
    let within = |objective: &Objective| {
        let target = objective.of.target()?;
        let [(p50, spread), (other, others)] =
            [timing(a.values.as_ref()?, target)?, timing(b.values.as_ref()?, target)?];
        Some((p50 - other).abs() < f64::min(spread, others))
    };
    timed.peek().is_some() && timed.all(|objective| within(objective) == Some(true))
}

/// Median and spread of a trial's latency on a target, in milliseconds. The spread is the distance
/// from the median to the 95th percentile of the single runs. `None` if this study did not time it.
fn timing(values: &TrialValues, target: &Target) -> Option<(f64, f64)> {
    let of = values.measurements().iter().find(|m| m.target() == *target)?;
    Some((of.p50_ms, of.p95_ms - of.p50_ms))
}

#[cfg(test)]
pub mod tests {
    use edgesmith_common::{Figures, Noise, ScopedMetric, Waiting};
    use edgesmith_proto::v1;

    use super::*;

    /// A study on two devices.
    pub fn spec() -> StudySpec {
        StudySpec::parse(
            "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 9\n\
             objectives = [{ metric = \"validation_accuracy\" }, \
             { metric = \"latency_ms\", device = \"board\" }, \
             { metric = \"latency_ms\", device = \"phone\" }]\n\
             space = { resolution = 8, stem_width = [4, 8], stages = [{ width = 4 }] }",
        )
        .unwrap()
    }

    /// A complete trial with a median and a 95th percentile on each device.
    pub fn row(number: u32, accuracy: f64, board: (f64, f64), phone: (f64, f64)) -> TrialRow {
        let spec = spec();
        let figures: Figures = [
            (ScopedMetric::VALIDATION_ACCURACY, accuracy),
            (ScopedMetric::TEST_ACCURACY, accuracy),
            (Metric::MODEL_BYTES.whole(), 1000.0),
            (Metric::MACS.whole(), 10.0),
            (Metric::PARAMETERS.whole(), 20.0),
            (Metric::PEAK_MEMORY_BYTES.whole(), 30.0),
            (Metric::TRAINING_SECONDS.whole(), 40.0),
        ]
        .into_iter()
        .collect();
        let network = v1::Figures::from(&figures);
        let timing = |class: &str, (p50_ms, p95_ms): (f64, f64)| v1::Measurement {
            device: Some(v1::DeviceInfo {
                class: class.to_owned(),
                cores: 1,
                ..Default::default()
            }),
            engine: "edge-runtime".to_owned(),
            engine_version: "1".to_owned(),
            threads: 1,
            batch: 1,
            samples: 50,
            p50_ms,
            p95_ms,
            min_ms: p50_ms,
            ..Default::default()
        };
        let trial = v1::Trial {
            number,
            state: v1::TrialState::Complete.into(),
            genotype: vec![0; spec.space.choices().len()],
            trained: Some(v1::TrainedTrial {
                compressed: Some(network.clone()),
                uncompressed: Some(network),
                model: vec![0; 32],
                weights: vec![0; 32],
                stages: Vec::new(),
            }),
            measurements: vec![timing("board", board), timing("phone", phone)],
            ..Default::default()
        };
        TrialRow::new(trial, &spec).unwrap()
    }

    /// The same trial, but with much other work on the board while it was timed.
    pub fn noisy_on_board(mut row: TrialRow) -> TrialRow {
        let Some(TrialValues::Trained { measurements, .. }) = &mut row.values else { panic!() };
        let waiting = Some(Waiting { share: 0.25, per_run: 2.0 });
        measurements[0].noise = Some(Noise { noisy: true, spread: 0.5, waiting, timings: 3 });
        measurements[1].noise =
            Some(Noise { noisy: false, spread: 0.01, waiting: None, timings: 1 });
        row
    }

    #[test]
    fn trials_are_tied_if_every_timing_is_within_the_spread() {
        let front = [
            row(3, 0.9, (1.00, 1.10), (5.0, 5.2)),
            row(5, 0.8, (1.05, 1.15), (5.1, 5.3)),
            row(8, 0.7, (1.05, 1.15), (4.0, 4.1)),
            // Its own spread is zero, so it cannot be tied.
            row(9, 0.6, (1.04, 1.04), (5.0, 5.2)),
        ];
        let marks = Marks::new(&front, &spec(), None);
        assert_eq!([0, 1, 2, 3].map(|place| marks.words(place)), ["knee ≈ 5", "≈ 3", "", ""]);
        // On the board alone, timing cannot tell the third from the first two.
        let board = Marks::new(&front, &spec(), Some(&"board".parse().unwrap()));
        assert_eq!(board.tied_with(2), [3, 5]);
    }

    #[test]
    fn the_knee_is_by_the_objectives_that_count() {
        let front = [
            row(0, 0.99, (9.0, 9.0), (1.0, 1.0)),
            row(1, 0.98, (2.0, 2.0), (1.0, 1.0)),
            row(2, 0.90, (1.0, 1.0), (1.0, 1.0)),
        ];
        let board = Marks::new(&front, &spec(), Some(&"board".parse().unwrap()));
        assert_eq!([0, 1, 2].map(|place| board.words(place)), ["", "knee", ""]);
    }
}

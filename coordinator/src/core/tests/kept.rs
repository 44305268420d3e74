//! What is kept of complete trials is what was known of them.

use edgesmith_common::{Fp32Timing, LayerTimes, Noise, TrainedTrial, TrialValues, Waiting};

use super::super::study::{Kept, Setups};
use super::builders::*;

#[test]
fn everything_but_the_stages_is_kept() {
    let (mut names, mut setups) = (Default::default(), Setups::default());
    let mut plain = measurement(&class("board"), 2.5);
    plain.energy_mj = None;
    let mut full = measurement(&class("phone"), 0.1);
    let waiting = Some(Waiting { share: 0.25, per_run: 3.0 });
    full.noise = Some(Noise { noisy: true, spread: 0.5, waiting, timings: 3 });
    let (p50_ms, p95_ms, min_ms, energy_mj) = (4.0, 4.5, 3.5, Some(5.25));
    full.original = Some(Fp32Timing { p50_ms, p95_ms, min_ms, noisy: true, energy_mj });
    let slower = |layer: &str, conversions| {
        let (layer, shipped_ms, original_ms) = (layer.to_owned(), 1.5, 1.25);
        vec![LayerTimes { layer, conversions, shipped_ms, original_ms }]
    };
    full.slower_layers = slower("stem", false);
    full.unquantized = Some(Fp32Timing { p50_ms: 3.75, energy_mj: None, ..full.original.unwrap() });
    full.slower_in_integers = slower("norm", true);
    let mut quiet = measurement(&class("phone"), 0.2);
    quiet.threads = 4;
    quiet.noise = Some(Noise { noisy: false, spread: 0.0, waiting: None, timings: 1 });
    let report = TrainedTrial { stages: Vec::new(), ..trained(AttemptId(7), 0.75) };
    let values = TrialValues::measured(report.clone(), vec![plain, full, quiet]);
    let known = TrialValues::Known(report.uncompressed.clone().into());
    for values in [values.clone(), known, values] {
        let kept = Kept::new(values.clone(), &mut names, &mut setups);
        assert_eq!(kept.values(&setups), values);
        assert_eq!(kept.figures(), values.figures());
        let artifacts = values.trained().map(|of| [of.model, of.weights]);
        assert_eq!(kept.artifacts(), artifacts);
    }
    // What the machines have in common is held once for all trials.
    assert_eq!(format!("{setups:?}").matches("Setup {").count(), 3);
}

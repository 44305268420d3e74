//! Prunings that say how much of a network stays.

use super::recipe::{run, step, study};
use super::*;

fn context() -> AttemptContext {
    AttemptContext::offline(Vec::new())
}

fn figure(figures: &Figures, metric: Metric) -> f64 {
    figures.get(&metric.whole()).unwrap()
}

fn pruned(settings: &str, more: &str) -> TrainedTrial {
    run(&study(&(step("prune", settings) + more)), &context()).unwrap()
}

fn last_pass(trained: &TrainedTrial) -> &str {
    &trained.stages.last().unwrap().pass
}

#[test]
fn channels_go_until_no_more_than_the_budget_is_left() {
    for (of, metric) in
        [("macs", Metric::MACS), ("parameters", Metric::PARAMETERS), ("bytes", Metric::MODEL_BYTES)]
    {
        let whole = figure(&pruned("share = 0.0", "").compressed, metric);
        for part in [0.4, 0.7] {
            let most = (part * whole).round();
            let trained = pruned(&format!("of = \"{of}\"\nat_most = {most}"), "");
            let left = figure(&trained.compressed, metric);
            assert!(left <= most && left > 0.75 * most, "{of}: {left} of {most}");
            assert_eq!(last_pass(&trained), format!("prune to {left} of {whole} {of}"));
            // It is the share that the budget is of the network.
            let share = 1.0 - most / whole;
            let same = pruned(&format!("of = \"{of}\"\nshare = {share}"), "");
            assert_eq!(same.weights, trained.weights, "{of}");
        }
    }
}

#[test]
fn rounds_end_at_the_budget() {
    let whole = figure(&pruned("share = 0.0", "").compressed, Metric::MACS);
    let most = (0.5 * whole).round();
    let settings = format!("of = \"macs\"\nat_most = {most}\nrounds = 3\nepochs = 1");
    let trained = pruned(&settings, "");
    let left = figure(&trained.compressed, Metric::MACS);
    assert!(left <= most && left > 0.75 * most, "{left} of {most}");
    assert_eq!(trained.compressed.images_seen(), Some(8 * 160));
    assert_eq!(last_pass(&trained), format!("prune to {left} of {whole} macs"));
}

#[test]
fn a_network_that_keeps_the_budget_stays_as_it_is() {
    let plain = pruned("share = 0.0", "");
    let tune = step("fine-tune", "epochs = 2");
    for (of, metric) in [("macs", Metric::MACS), ("bytes", Metric::MODEL_BYTES)] {
        let whole = figure(&plain.compressed, metric);
        for most in [whole, 2.0 * whole] {
            let settings = format!("of = \"{of}\"\nat_most = {most}\nrounds = 2\nepochs = 1");
            let trained = pruned(&settings, &tune);
            assert_eq!(trained.weights, plain.weights, "{of}");
            assert_eq!(trained.compressed.images_seen(), plain.compressed.images_seen());
            let said = format!("prune not needed: {whole} of at most {most} {of}");
            let last: Vec<&str> = trained.stages.iter().rev().map(|s| s.pass.as_str()).collect();
            assert_eq!(last[..2], ["fine-tune left out: nothing was pruned", &said]);
        }
    }
    // What another pruning removed is trained.
    let settings = "of = \"macs\"\nat_most = 1e12";
    let before = step("prune", "of = \"macs\"\nshare = 0.5") + &step("prune", settings);
    let trained = run(&study(&(before + &tune)), &context()).unwrap();
    assert_eq!(last_pass(&trained), "fine-tune");
    assert!(trained.compressed.images_seen() > plain.compressed.images_seen());
}

#[test]
fn what_cannot_be_met_says_how_far_it_got() {
    for of in ["macs", "bytes"] {
        let trained = pruned(&format!("of = \"{of}\"\nat_most = 10"), "");
        // One channel of each layer is left.
        let all_gone = pruned(&format!("of = \"{of}\"\nshare = 0.9999"), "");
        assert_eq!(trained.weights, all_gone.weights);
        let metric = if of == "macs" { Metric::MACS } else { Metric::MODEL_BYTES };
        let [left, all] =
            [&trained.compressed, &trained.uncompressed].map(|figures| figure(figures, metric));
        assert_eq!(last_pass(&trained), format!("prune to {left} of {all} {of}, above 10"));
    }
}

/// What is removed depends on the machine; that the pass measures, and says so, does not.
#[test]
fn a_time_is_a_budget() {
    let trained = pruned("of = \"latency\"\nat_most = 1e9", "");
    let pass = last_pass(&trained);
    assert!(pass.starts_with("prune not needed: "), "{pass}");
    assert!(pass.ends_with(" of at most 1000000000 ms"), "{pass}");
    let trained = pruned("of = \"latency\"\nat_most = 1e-6", "");
    let pass = last_pass(&trained);
    assert!(pass.starts_with("prune to ") && pass.ends_with(" ms, above 0.000001"), "{pass}");
}

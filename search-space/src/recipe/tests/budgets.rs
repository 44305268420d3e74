//! Prunings that say what stays of the network, and not which share of it goes.

use super::*;

/// At most one of these.
fn at_most(of: Scope, most: &[f64]) -> PruneSpace {
    PruneSpace { at_most: most.to_vec(), ..prune(of, &[]) }
}

fn blocks(of: Scope, most: &[f64]) -> PruneSpace {
    let (unit, importance) = (PruneUnit::Blocks, vec![Importance::Output]);
    PruneSpace { unit, importance, ..at_most(of, most) }
}

fn whole_macs() -> u64 {
    let space = space(Vec::new());
    let graph = space.decode(&genotype(&space, &[])).graph(DATA).unwrap();
    graph.cost().macs
}

#[test]
fn what_stays_is_a_choice() {
    let steps = vec![StepSpace::Prune(at_most(Scope::Macs, &[9000.0, 4000.5]))];
    let space = space(steps);
    assert_eq!(searched(&space), ["prune.at_most"]);
    let choices = space.choices();
    let options = &choices.iter().find(|choice| choice.name == "prune.at_most").unwrap().options;
    assert_eq!(options[..], ["9000", "4000.5"]);
    let [large, small] = [0, 1].map(|option| recipe(&space, &[("prune.at_most", option)]));
    let amount = |most| Amount::AtMost { unit: PruneUnit::Channels, counted: Counted::Macs, most };
    assert_eq!(large.prunings().next().unwrap().amount, amount(9000.0));
    assert_eq!(small.to_string(), "fp32 prune to 4000.5 macs");
    // The weights decide what stays of each layer.
    let of_space = &space.definition().recipe;
    assert!(!of_space.fixes_costs() && !small.fixes_costs());
    assert!(of_space.most_pruned(2).is_none() && of_space.least_pruned(2).is_empty());
    // All settings of the pruning count.
    let space = super::space(vec![StepSpace::Prune(PruneSpace {
        importance: vec![Importance::L1, Importance::Taylor],
        rounds: vec![1, 2],
        epochs: vec![1, 2],
        ..at_most(Scope::Bytes, &[4000.0])
    })]);
    let marks = Space::from(space.clone()).active(&genotype(&space, &[("prune.rounds", 1)]));
    let of_pruning = space.choices().iter().zip(marks).filter(|(c, _)| c.name.starts_with("prune"));
    let marks: Vec<bool> = of_pruning.map(|(_, active)| active).collect();
    assert_eq!(marks, [true, true, true]);
}

#[test]
fn estimates_meet_the_budget() {
    let whole = whole_macs();
    for most in [0.25, 0.5, 2.0] {
        let most = (most * whole as f64).round();
        let space = space(vec![StepSpace::Prune(at_most(Scope::Macs, &[most]))]);
        let graph = space.decode(&genotype(&space, &[])).pruned_graph(DATA).unwrap();
        let left = graph.cost().macs as f64;
        assert!(left <= most && (left == whole as f64 || left > 0.7 * most), "{left} of {most}");
    }
    // About four bytes for each parameter; nothing is known of time.
    let all = parameters(&space(Vec::new()), &[]);
    let of = |of, most| parameters(&space(vec![StepSpace::Prune(at_most(of, &[most]))]), &[]);
    let half = of(Scope::Bytes, 2.0 * all as f64);
    assert!(2 * half <= all && 5 * half > 2 * all, "{half} of {all}");
    assert_eq!(of(Scope::Latency, 1.0), all);
}

#[test]
fn budgets_that_the_network_keeps_are_one_candidate() {
    let whole = whole_macs() as f64;
    let with = |of, most: &[f64], tunes: &[u32]| {
        let steps = vec![StepSpace::Prune(at_most(of, most)), StepSpace::FineTune(tune(tunes))];
        space(steps)
    };
    let space = with(Scope::Macs, &[whole, 2.0 * whole, 0.5 * whole, 0.25 * whole], &[1, 2]);
    let of = |option| hash(&space, &[("prune.at_most", option)]);
    assert_eq!(of(0), of(1));
    assert_eq!(HashSet::from([of(1), of(2), of(3)]).len(), 3);
    // Nothing is trained then, so the epochs say nothing, but the report says why.
    let longer = ("fine-tune.epochs", 1);
    assert_eq!(hash(&space, &[longer]), of(0));
    assert_ne!(hash(&space, &[("prune.at_most", 2), longer]), of(2));
    let candidate = space.decode(&genotype(&space, &[]));
    let passes = candidate.recipe.passes(&candidate.graph(DATA).unwrap()).len();
    assert_eq!(passes, 1);
    // What is measured is not known before.
    let space = with(Scope::Bytes, &[1e9, 2e9], &[1]);
    assert_ne!(hash(&space, &[]), hash(&space, &[("prune.at_most", 1)]));
    let candidate = space.decode(&genotype(&space, &[]));
    assert_eq!(candidate.recipe.passes(&candidate.graph(DATA).unwrap()).len(), 2);
}

#[test]
fn a_budget_is_a_share_of_what_a_network_has() {
    let of = |unit, counted, most| Amount::AtMost { unit, counted, most }.of_whole(400.0);
    let (counted, share) = (Counted::Parameters, 0.75);
    assert_eq!(of(PruneUnit::Channels, counted, 100.0), Amount::Network { counted, share });
    assert_eq!(of(PruneUnit::Blocks, counted, 100.0), Amount::Blocks { counted, share });
    let all = Amount::Network { counted, share: 0.0 };
    assert_eq!(of(PruneUnit::Channels, counted, 400.0), all);
    assert_eq!(all.of_whole(7.0), all);
}

#[test]
fn only_channels_and_blocks_of_the_whole_network_have_budgets() {
    let of = |prune| definition(RecipeSpace::Steps(vec![StepSpace::Prune(prune)]));
    for fits in [Scope::Macs, Scope::Parameters, Scope::Bytes, Scope::Latency] {
        assert!(StagedSpace::new(of(at_most(fits, &[0.5, 3.0])), DATA).is_ok(), "{fits}");
        assert!(StagedSpace::new(of(blocks(fits, &[7.0])), DATA).is_ok(), "{fits}");
    }
    assert!(StagedSpace::new(of(at_most(Scope::Channels, &[7.0])), DATA).is_ok());
    let weights = PruneSpace { unit: PruneUnit::Weights, ..at_most(Scope::Parameters, &[7.0]) };
    for (wrong, said) in [
        (
            at_most(Scope::Layer, &[7.0]),
            "recipe.steps[0].of: a budget is one of the whole network, and of = \"layer\" is not; \
             use \"channels\", \"macs\", \"parameters\", \"bytes\" or \"latency\"",
        ),
        (
            weights,
            "recipe.steps[0].at_most: channels and blocks only have such a budget; with \
             granularity = \"weights\" give the share that goes",
        ),
        (
            at_most(Scope::Macs, &[0.0]),
            "recipe.steps[0].at_most: 0.0 is not allowed; use a number above 0",
        ),
        (
            at_most(Scope::Macs, &[7.0, 7.0]),
            "recipe.steps[0].at_most: 7.0 is listed twice; keep one",
        ),
    ] {
        let errors = StagedSpace::new(of(wrong), DATA).unwrap_err();
        assert_eq!(errors[0].to_string(), said);
    }
}

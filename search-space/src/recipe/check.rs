//! What the options of a recipe may be, in new studies and in recorded ones.

use super::{
    Granularity, Importance, Multiple, PruneSpace, PruneUnit, RecipeSpace, Rounding, Scheduled,
    Scope, StepSpace,
};
use crate::mistakes::Errors;

/// Most steps of a recipe in new studies.
const MAX_STEPS: usize = 32;
/// Most steps of a recorded recipe.
const MAX_RECORDED_STEPS: usize = 64;

/// Checks the options of a recipe by the rules for new studies.
pub fn check_recipe(errors: &mut Errors, recipe: &RecipeSpace) {
    let share = (|v: &f64| (0.0..1.0).contains(v), "a number of at least 0 and below 1");
    let alpha = (|v: &f64| (0.0..=1.0).contains(v), "a number from 0 to 1");
    let warm = (|v: &f64| *v > 0.0 && *v <= 100.0, "a number above 0 and at most 100");
    let steps = match recipe {
        RecipeSpace::Flat(flat) => {
            errors.check("recipe.prune", &flat.prune, share.0, share.1);
            errors.check("recipe.precision", &flat.precision, |_| true, "");
            errors.check("recipe.alpha", &flat.alpha, alpha.0, alpha.1);
            return errors.check("recipe.temperature", &flat.temperature, warm.0, warm.1);
        }
        RecipeSpace::Steps(steps) => steps,
    };
    if steps.len() > MAX_STEPS {
        let text = format!("{} steps are too many; at most {MAX_STEPS} are allowed", steps.len());
        return errors.push("recipe.steps", text);
    }
    for (i, step) in steps.iter().enumerate() {
        let at = |setting: &str| at(i, setting);
        match step {
            StepSpace::Distil(s) => {
                let fault = |v: &Scheduled| v.fault(alpha.0, "from 0 to 1");
                errors.check_each(&at("alpha"), &s.alpha, fault);
                let fault = |v: &Scheduled| v.fault(warm.0, "above 0 and at most 100");
                errors.check_each(&at("temperature"), &s.temperature, fault);
                errors.check(&at("answers"), &s.answers, |_| true, "");
                errors.check(&at("features"), &s.features, |_| true, "");
                let weight = |v: &f64| *v > 0.0 && *v <= 1_000_000.0;
                let fault = |v: &Scheduled| v.fault(weight, "above 0 and at most 1000000");
                errors.check_each(&at("feature_weight"), &s.feature_weight, fault);
            }
            StepSpace::Prune(s) => {
                if s.at_most.is_empty() {
                    errors.check(&at("share"), &s.share, share.0, share.1);
                } else {
                    errors.check(&at("at_most"), &s.at_most, |v| *v > 0.0, "a number above 0");
                }
                errors.check(&at("importance"), &s.importance, |_| true, "");
                let rounds = |v: &u32| (1..=100).contains(v);
                errors.check(&at("rounds"), &s.rounds, rounds, "a number from 1 to 100");
                let epochs = |v: &u32| *v <= 10_000;
                errors.check(&at("epochs"), &s.epochs, epochs, "a number from 0 to 10000");
                let multiple = |v: &Multiple| v.known().is_none_or(|v| v.get() <= 256);
                let multiple = |v: &Multiple| *v != Multiple::Of(0) && multiple(v);
                let text = "a number from 1 to 256, or \"auto\"";
                errors.check(&at("multiple_of"), &s.multiple_of, multiple, text);
                errors.check(&at("rewind"), &s.rewind, |_| true, "");
                for (setting, text) in unsuited(s) {
                    errors.push(&at(setting), text);
                }
            }
            StepSpace::FineTune(s) | StepSpace::QuantizeAwareTrain(s) => {
                if !s.epochs.is_empty() {
                    let epochs = |v: &u32| *v <= 100_000;
                    errors.check(&at("epochs"), &s.epochs, epochs, "a number from 0 to 100000");
                }
                if !s.learning_rate.is_empty() {
                    let rate = |v: &f64| (1e-9..=1000.0).contains(v);
                    let text = "a number from 1e-9 to 1000";
                    errors.check(&at("learning_rate"), &s.learning_rate, rate, text);
                }
                errors.check(&at("shrink"), &s.shrink, |_| true, "");
                let weight = |v: &f64| *v > 0.0 && *v <= 1000.0;
                let text = "a number above 0 and at most 1000";
                errors.check(&at("shrink_by"), &s.shrink_by, weight, text);
                errors.check(&at("normalize"), &s.normalize, |_| true, "");
            }
            StepSpace::Cluster(s) => {
                let clusters = |v: &u32| *v == 0 || (2..=256).contains(v);
                let text = "a number from 2 to 256, or 0 for none";
                errors.check(&at("clusters"), &s.clusters, clusters, text);
            }
            StepSpace::Quantize(s) => {
                errors.check(&at("precision"), &s.precision, |_| true, "");
                errors.check(&at("calibration"), &s.calibration, |_| true, "");
                let examples = |v: &u32| (1..=100_000).contains(v);
                errors.check(&at("examples"), &s.examples, examples, "a number from 1 to 100000");
                errors.check(&at("clip_ranges"), &s.clip_ranges, |_| true, "");
                errors.check(&at("granularity"), &s.granularity, |_| true, "");
                errors.check(&at("equalize"), &s.equalize, |_| true, "");
                errors.check(&at("correct_biases"), &s.correct_biases, |_| true, "");
                errors.check(&at("rounding"), &s.rounding, |_| true, "");
                s.widths.check(errors, at, !s.mixed.is_empty());
                for (setting, names) in [("fp32", &s.fp32), ("mixed", &s.mixed)] {
                    if !names.is_empty() {
                        errors.check(&at(setting), names, |name| !name.is_empty(), "a name");
                    }
                }
            }
        }
    }
    for (i, setting, text) in misplaced(steps) {
        errors.push(&at(i, setting), text);
    }
    for (i, text) in regrouped(steps) {
        errors.push(&at(i, "pass"), text);
    }
    for (i, setting, text) in untrainable(steps) {
        errors.push(&at(i, setting), text);
    }
    for (i, setting, text) in unclustering(steps) {
        errors.push(&at(i, setting), text);
    }
    for (i, setting, text) in without_own_scales(steps) {
        errors.push(&at(i, setting), text);
    }
}

/// Checks the options of a recipe that was accepted once.
pub fn check_recorded_recipe(errors: &mut Errors, recipe: &RecipeSpace) {
    let finite = |v: &f64| v.is_finite();
    let steps = match recipe {
        RecipeSpace::Flat(flat) => {
            errors.check_recorded("recipe.prune", &flat.prune, finite);
            errors.check_recorded("recipe.precision", &flat.precision, |_| true);
            errors.check_recorded("recipe.alpha", &flat.alpha, finite);
            return errors.check_recorded("recipe.temperature", &flat.temperature, finite);
        }
        RecipeSpace::Steps(steps) => steps,
    };
    if steps.len() > MAX_RECORDED_STEPS {
        return errors.push("recipe.steps", format!("{} are too many", steps.len()));
    }
    let share = |v: &f64| (0.0..1.0).contains(v);
    let count = |v: &u32| *v <= 100_000;
    for (i, step) in steps.iter().enumerate() {
        let at = |setting: &str| at(i, setting);
        match step {
            StepSpace::Distil(s) => {
                let finite = |v: &Scheduled| v.ends().iter().all(|end| end.is_finite());
                errors.check_recorded(&at("alpha"), &s.alpha, finite);
                errors.check_recorded(&at("temperature"), &s.temperature, finite);
                errors.check_recorded(&at("answers"), &s.answers, |_| true);
                errors.check_recorded(&at("features"), &s.features, |_| true);
                errors.check_recorded(&at("feature_weight"), &s.feature_weight, finite);
            }
            StepSpace::Prune(s) => {
                if s.at_most.is_empty() {
                    errors.check_recorded(&at("share"), &s.share, share);
                } else {
                    errors.check_recorded(&at("at_most"), &s.at_most, |v| *v > 0.0);
                }
                errors.check_recorded(&at("importance"), &s.importance, |_| true);
                errors.check_recorded(&at("rounds"), &s.rounds, |v| (1..=100).contains(v));
                errors.check_recorded(&at("epochs"), &s.epochs, count);
                let multiple = |v: &Multiple| *v != Multiple::Of(0);
                errors.check_recorded(&at("multiple_of"), &s.multiple_of, multiple);
                errors.check_recorded(&at("rewind"), &s.rewind, |_| true);
                for (setting, text) in unsuited(s) {
                    errors.push(&at(setting), text);
                }
            }
            StepSpace::FineTune(s) | StepSpace::QuantizeAwareTrain(s) => {
                if !s.epochs.is_empty() {
                    errors.check_recorded(&at("epochs"), &s.epochs, count);
                }
                if !s.learning_rate.is_empty() {
                    errors.check_recorded(&at("learning_rate"), &s.learning_rate, finite);
                }
                errors.check_recorded(&at("shrink"), &s.shrink, |_| true);
                errors.check_recorded(&at("shrink_by"), &s.shrink_by, finite);
                errors.check_recorded(&at("normalize"), &s.normalize, |_| true);
            }
            StepSpace::Cluster(s) => {
                let clusters = |v: &u32| *v == 0 || (2..=256).contains(v);
                errors.check_recorded(&at("clusters"), &s.clusters, clusters);
            }
            StepSpace::Quantize(s) => {
                errors.check_recorded(&at("precision"), &s.precision, |_| true);
                errors.check_recorded(&at("calibration"), &s.calibration, |_| true);
                errors.check_recorded(&at("examples"), &s.examples, |v| *v > 0 && count(v));
                errors.check_recorded(&at("clip_ranges"), &s.clip_ranges, |_| true);
                errors.check_recorded(&at("granularity"), &s.granularity, |_| true);
                errors.check_recorded(&at("equalize"), &s.equalize, |_| true);
                errors.check_recorded(&at("correct_biases"), &s.correct_biases, |_| true);
                errors.check_recorded(&at("rounding"), &s.rounding, |_| true);
                s.widths.check_recorded(errors, at);
                for (setting, names) in [("fp32", &s.fp32), ("mixed", &s.mixed)] {
                    if !names.is_empty() {
                        errors.check_recorded(&at(setting), names, |_| true);
                    }
                }
            }
        }
    }
    for (i, setting, text) in misplaced(steps) {
        errors.push(&at(i, setting), text);
    }
}

/// The settings of a pruning that have no meaning for what it removes: each with a sentence.
fn unsuited(space: &PruneSpace) -> Vec<(&'static str, String)> {
    let name = match space.unit {
        PruneUnit::Channels => return unsuited_to_channels(space),
        PruneUnit::Blocks => return unsuited_to_blocks(space),
        PruneUnit::Weights | PruneUnit::TwoOfFour => space.unit.name(),
    };
    let mut mistakes = Vec::new();
    let mut push = |setting, text: String| mistakes.push((setting, text));
    if !space.at_most.is_empty() {
        let text = format!(
            "channels and blocks only have such a budget; with granularity = \"{name}\" give the \
             share that goes"
        );
        push("at_most", text);
    }
    match (space.unit, space.of) {
        (_, Scope::Layer) | (PruneUnit::Weights, Scope::Parameters) => {}
        (PruneUnit::TwoOfFour, of) => push(
            "of",
            format!("\"{of}\" has no meaning with granularity = \"{name}\"; use \"layer\""),
        ),
        (_, of) => push(
            "of",
            format!(
                "\"{of}\" counts channels; with granularity = \"{name}\" use \"layer\" (weights \
                 of each layer) or \"parameters\" (weights of the whole network)"
            ),
        ),
    }
    for importance in &space.importance {
        match importance {
            Importance::L1 | Importance::Taylor | Importance::Random => {}
            // Within a layer it ranks as the magnitude does.
            Importance::Lamp
                if (space.unit, space.of) == (PruneUnit::Weights, Scope::Parameters) => {}
            Importance::Lamp => {
                let text = "\"lamp\" compares layers with each other; without of = \"parameters\" \
                            use \"l1\", which ranks the weights of a layer in the same order";
                push("importance", text.to_owned());
            }
            Importance::L2
            | Importance::Scale
            | Importance::GeometricMedian
            | Importance::Activity
            | Importance::Influence
            | Importance::Output => {
                let text = format!(
                    "\"{importance}\" does not rank single weights; with granularity = \"{name}\" \
                     use \"l1\", \"lamp\", \"taylor\" or \"random\""
                );
                push("importance", text);
            }
        }
    }
    if space.multiple_of.iter().any(|multiple| *multiple != Multiple::ONE) {
        let text = format!(
            "multiples are of channels; leave the setting out with granularity = \"{name}\""
        );
        push("multiple_of", text);
    }
    if space.unit == PruneUnit::TwoOfFour {
        for share in space.share.iter().filter(|share| ![0.0, 0.5].contains(*share)) {
            let text = format!(
                "{share:?} is not allowed; granularity = \"2:4\" removes two weights of four, so \
                 use 0.5 (or 0 for no pruning)"
            );
            push("share", text);
        }
        if space.rounds.iter().any(|rounds| *rounds != 1) {
            let text = "two weights of four go in one round; leave the setting out with \
                        granularity = \"2:4\"";
            push("rounds", text.to_owned());
        }
    }
    mistakes
}

fn unsuited_to_channels(space: &PruneSpace) -> Vec<(&'static str, String)> {
    let mut mistakes = Vec::new();
    if space.importance.contains(&Importance::Lamp) {
        let text = "\"lamp\" ranks single weights only; use it with granularity = \"weights\"";
        mistakes.push(("importance", text.to_owned()));
    }
    if space.importance.contains(&Importance::Output) {
        let text = "\"output\" ranks blocks only; use it with granularity = \"blocks\"";
        mistakes.push(("importance", text.to_owned()));
    }
    let fixed = matches!(space.of, Scope::Stage | Scope::Layer);
    if fixed && !space.at_most.is_empty() {
        let text = format!(
            "a budget is one of the whole network, and of = \"{}\" is not; use \"channels\", \
             \"macs\", \"parameters\", \"bytes\" or \"latency\"",
            space.of
        );
        mistakes.push(("of", text));
    }
    if fixed && space.multiple_of.contains(&Multiple::Auto) {
        let text = format!(
            "\"auto\" is measured, but with of = \"{}\" sizes have to follow from the recipe; use \
             a number, or a share of the whole network such as of = \"macs\"",
            space.of
        );
        mistakes.push(("multiple_of", text));
    }
    mistakes
}

fn unsuited_to_blocks(space: &PruneSpace) -> Vec<(&'static str, String)> {
    let mut mistakes = Vec::new();
    match space.of {
        Scope::Macs | Scope::Parameters | Scope::Bytes | Scope::Latency => {}
        Scope::Stage | Scope::Layer | Scope::Channels => {
            let text = format!(
                "\"{}\" counts channels; with granularity = \"blocks\" use \"macs\", \
                 \"parameters\", \"bytes\" or \"latency\"",
                space.of
            );
            mistakes.push(("of", text));
        }
    }
    let ranks = |one: &Importance| matches!(one, Importance::Output | Importance::Random);
    for importance in space.importance.iter().filter(|one| !ranks(one)) {
        let text = format!(
            "\"{importance}\" does not rank blocks; with granularity = \"blocks\" use \"output\" \
             or \"random\""
        );
        mistakes.push(("importance", text));
    }
    if space.multiple_of.iter().any(|multiple| *multiple != Multiple::ONE) {
        let text = "multiples are of channels; leave the setting out with granularity = \"blocks\"";
        mistakes.push(("multiple_of", text.to_owned()));
    }
    mistakes
}

/// The steps that remove channels after one that keeps two of four inputs: each with a sentence.
/// The inputs that are left would make other groups of four, with three or four weights in some.
fn regrouped(steps: &[StepSpace]) -> Vec<(usize, String)> {
    let removes = |space: &PruneSpace| {
        !space.at_most.is_empty() || space.share.iter().any(|share| *share != 0.0)
    };
    let (mut mistakes, mut grouped) = (Vec::new(), None);
    for (i, step) in steps.iter().enumerate() {
        let StepSpace::Prune(space) = step else { continue };
        match (space.unit, grouped) {
            (PruneUnit::TwoOfFour, None) if removes(space) => grouped = Some(i),
            (PruneUnit::Channels, Some(first)) if removes(space) => {
                let text = format!(
                    "steps[{first}] keeps two of four inputs, and removing channels would regroup \
                     them; put this step before it"
                );
                mistakes.push((i, text));
            }
            (
                PruneUnit::Channels | PruneUnit::Weights | PruneUnit::TwoOfFour | PruneUnit::Blocks,
                _,
            ) => {}
        }
    }
    mistakes
}

/// The steps that learn how integers are rounded where no candidate has integers that they can
/// learn for: each with a setting and a sentence.
fn untrainable(steps: &[StepSpace]) -> Vec<(usize, &'static str, String)> {
    let (mut mistakes, mut levels) = (Vec::new(), None);
    for (i, step) in steps.iter().enumerate() {
        match step {
            StepSpace::Quantize(s) => {
                let mixed = !s.mixed.is_empty();
                if s.rounding == [Rounding::Adaround] && !s.widths.may_learn_rounding(mixed) {
                    let text = "\"adaround\" needs symmetric weights of 2 to 8 bits and values of \
                                8 bits; use \"nearest\"";
                    mistakes.push((i, "rounding", text.to_owned()));
                }
                if !s.widths.may_be_trained(mixed) {
                    levels = Some(i);
                }
            }
            StepSpace::QuantizeAwareTrain(_) => {
                if let Some(first) = levels {
                    let text = format!(
                        "steps[{first}] has no integers of 1 to 8 bits with values of 8 bits, \
                         which are all that is simulated in training; leave one of the two out"
                    );
                    mistakes.push((i, "pass", text));
                }
            }
            StepSpace::Distil(_)
            | StepSpace::Prune(_)
            | StepSpace::FineTune(_)
            | StepSpace::Cluster(_) => {}
        }
    }
    mistakes
}

/// The trainings of integers that always normalise where no candidate has a scale for each channel,
/// which would take in what the normalisation learns: each with a setting and a sentence.
fn without_own_scales(steps: &[StepSpace]) -> Vec<(usize, &'static str, String)> {
    let (mut mistakes, mut shared) = (Vec::new(), None);
    for (i, step) in steps.iter().enumerate() {
        match step {
            // Behind clusters in all candidates, `misplaced` refuses the training itself.
            StepSpace::Cluster(s) if !s.clusters.contains(&0) => return mistakes,
            // Of a second one, `misplaced` says which is left.
            StepSpace::Quantize(s) if s.granularity.contains(&Granularity::Channel) => {
                return mistakes;
            }
            StepSpace::Quantize(_) => shared = shared.or(Some(i)),
            StepSpace::QuantizeAwareTrain(s) => {
                if let (Some(first), [true]) = (shared, &s.normalize[..]) {
                    let text = format!(
                        "only layers with a scale for each channel are normalised, and those of \
                         steps[{first}] have one for the whole layer; use granularity = \
                         \"channel\" there, or leave normalize out"
                    );
                    mistakes.push((i, "normalize", text));
                }
            }
            StepSpace::Distil(_)
            | StepSpace::Prune(_)
            | StepSpace::FineTune(_)
            | StepSpace::Cluster(_) => {}
        }
    }
    mistakes
}

/// What `misplaced` leaves to new studies: the steps that would take weights out of clusters, each
/// with a setting and a sentence.
fn unclustering(steps: &[StepSpace]) -> Vec<(usize, &'static str, String)> {
    let mut mistakes = Vec::new();
    // The first steps that cluster in some candidates, and in all.
    let (mut in_some, mut in_all) = (None, None);
    for (i, step) in steps.iter().enumerate() {
        match (step, in_some, in_all) {
            (StepSpace::Cluster(s), ..) => {
                if s.clusters.iter().any(|clusters| *clusters > 0) {
                    in_some = in_some.or(Some(i));
                }
                if !s.clusters.contains(&0) {
                    in_all = in_all.or(Some(i));
                }
            }
            (StepSpace::FineTune(s), _, Some(first))
                if s.shrink.iter().any(|shrink| !shrink.is_none()) =>
            {
                let text = format!(
                    "it would take the weights out of the clusters of steps[{first}]; leave the \
                     setting out"
                );
                mistakes.push((i, "shrink", text));
            }
            (StepSpace::Prune(_), Some(first), None) => {
                let text = format!(
                    "it would take the weights out of the clusters of steps[{first}]; put prune \
                     before it"
                );
                mistakes.push((i, "pass", text));
            }
            _ => {}
        }
    }
    mistakes
}

/// The path of a setting of a step in the study file.
fn at(step: usize, setting: &str) -> String {
    format!("recipe.steps[{step}].{setting}")
}

/// What is wrong with the place of each step: its number, the setting, and a sentence.
fn misplaced(steps: &[StepSpace]) -> Vec<(usize, &'static str, String)> {
    let mut mistakes = Vec::new();
    let (mut quantized, mut clustered) = (None, None);
    for (i, step) in steps.iter().enumerate() {
        let mut push = |text: String| mistakes.push((i, "pass", text));
        match (step, quantized) {
            (StepSpace::QuantizeAwareTrain(_), None) => push(
                "there is nothing quantized yet; put a step with pass = \"quantize\" before it"
                    .to_owned(),
            ),
            (StepSpace::Quantize(_), None) => quantized = Some(i),
            (StepSpace::Quantize(_), Some(first)) => {
                push(format!("steps[{first}] quantizes already; keep one of the two"));
            }
            (StepSpace::Prune(_) | StepSpace::FineTune(_), Some(first)) => push(format!(
                "steps[{first}] has quantized the network; put {} before it, or train with pass = \
                 \"quantize-aware-train\"",
                step.pass()
            )),
            (StepSpace::Cluster(_), Some(first)) => {
                push(format!("steps[{first}] has quantized the network; put cluster before it"))
            }
            (_, _) => {}
        }
        let Some(first) = clustered else {
            // Where there may be none, the settings that do not fit clusters are left out only
            // where there are some. Prunings have none to leave out: see `unclustering`.
            clustered = match step {
                StepSpace::Cluster(s) if !s.clusters.contains(&0) => Some(i),
                StepSpace::Cluster(_)
                | StepSpace::Distil(_)
                | StepSpace::Prune(_)
                | StepSpace::FineTune(_)
                | StepSpace::Quantize(_)
                | StepSpace::QuantizeAwareTrain(_) => None,
            };
            continue;
        };
        match step {
            StepSpace::Cluster(_) => {
                push(format!("steps[{first}] clusters already; keep one of the two"));
            }
            // Weights of one cluster learn together. What shrinks them is for `unclustering`.
            StepSpace::FineTune(_) => {}
            StepSpace::Prune(_) => push(format!(
                "it would take the weights out of the clusters of steps[{first}]; put {} before it",
                step.pass()
            )),
            StepSpace::QuantizeAwareTrain(_) => push(format!(
                "it would take the weights out of the clusters of steps[{first}]; leave one of the \
                 two out"
            )),
            StepSpace::Quantize(s) => {
                let clusters = format!("the clusters of steps[{first}] belong to a whole layer");
                if s.granularity.contains(&Granularity::Channel) {
                    let text = format!("{clusters}; use granularity = \"layer\"");
                    mistakes.push((i, "granularity", text));
                }
                if s.equalize.contains(&true) {
                    let text = format!("{clusters}, and this scales its channels; use false");
                    mistakes.push((i, "equalize", text));
                }
                if s.rounding.contains(&Rounding::Adaround) {
                    let text = format!("{clusters}, and this rounds each weight; use \"nearest\"");
                    mistakes.push((i, "rounding", text));
                }
            }
            StepSpace::Distil(_) => {}
        }
    }
    mistakes
}

//! `[recipe]` in a study file: steps in order, or the four lists of the short form.

use edgesmith_search_space::{
    Answers, ClusterSpace, DistilSpace, Features, FineTuneSpace, FlatRecipe, Importance, Multiple,
    Precision, PruneSpace, PruneUnit, QuantizeSpace, RecipeSpace, Rewind, Scope, StepSpace,
    WidthsSpace,
};
use toml::de::DeValue;

use super::reader::{Mistakes, Scalar, Table};
use super::space::{Places, names, places_of};

/// The lists of the short form.
const LISTS: [&str; 4] = ["prune", "precision", "alpha", "temperature"];

/// The settings of steps.
const SETTINGS: [&str; 33] = [
    "pass",
    "of",
    "alpha",
    "temperature",
    "answers",
    "features",
    "feature_weight",
    "share",
    "at_most",
    "importance",
    "rounds",
    "epochs",
    "multiple_of",
    "rewind",
    "learning_rate",
    "shrink",
    "shrink_by",
    "normalize",
    "clusters",
    "precision",
    "calibration",
    "examples",
    "clip_ranges",
    "granularity",
    "equalize",
    "correct_biases",
    "rounding",
    "fp32",
    "mixed",
    "weight_bits",
    "affine_weights",
    "activation_bits",
    "mixed_bits",
];

/// Reads `[recipe]`, and notes the places of its settings.
pub fn read_recipe(root: &mut Table, places: &mut Places, m: &mut Mistakes) -> RecipeSpace {
    let mut recipe = root.table_or_empty("recipe", m);
    places.extend(places_of(&recipe, &LISTS));
    places.extend(places_of(&recipe, &["steps"]));
    let beside: Vec<&str> = LISTS.into_iter().filter(|list| recipe.has(list)).collect();
    let flat = FlatRecipe {
        prune: recipe.list("prune", m).unwrap_or_else(|| vec![0.0]),
        precision: names(&mut recipe, "precision", m).unwrap_or_else(|| vec![Precision::Fp32]),
        alpha: constants(&mut recipe, "alpha", m).unwrap_or_else(|| vec![0.0]),
        temperature: constants(&mut recipe, "temperature", m)
            .unwrap_or_else(|| vec![DistilSpace::TEMPERATURE]),
    };
    let has_steps = recipe.has("steps");
    let (mut steps, mut unread) = (Vec::new(), false);
    for mut step in recipe.tables("steps", m) {
        places.extend(places_of(&step, &SETTINGS));
        match read_step(&mut step, m) {
            Some(read) => {
                steps.push(read);
                step.finish(m);
            }
            None => unread = true,
        }
    }
    // The others cannot be judged without it: their numbers and what comes before them are wrong.
    if unread {
        steps.clear();
    }
    if has_steps {
        for list in beside {
            let text = "stands beside steps; write it as a setting of one of the steps";
            m.refuse(&recipe.span_of(list), recipe.path(list), text);
        }
    }
    recipe.finish(m);
    if has_steps { RecipeSpace::Steps(steps) } else { RecipeSpace::Flat(flat) }
}

/// Reads one step; `None` if its pass is missing or unknown.
fn read_step(step: &mut Table, m: &mut Mistakes) -> Option<StepSpace> {
    let known = StepSpace::PASSES.join(", ");
    if !step.has("pass") {
        let text = format!("is missing; use one of {known}");
        m.refuse(&step.span(), step.path("pass"), text);
        return None;
    }
    let named = |name: String| {
        let pass = StepSpace::PASSES.into_iter().find(|pass| *pass == name);
        pass.ok_or_else(|| format!("unknown pass {name:?}; use one of {known}"))
    };
    Some(match step.checked("pass", m, named)? {
        "distil" => StepSpace::Distil(DistilSpace {
            alpha: step.list("alpha", m).unwrap_or_else(|| vec![0.5.into()]),
            temperature: step
                .list("temperature", m)
                .unwrap_or_else(|| vec![DistilSpace::TEMPERATURE.into()]),
            answers: names(step, "answers", m).unwrap_or_else(|| vec![Answers::Classes]),
            features: names(step, "features", m).unwrap_or_else(|| vec![Features::None]),
            feature_weight: step
                .list("feature_weight", m)
                .unwrap_or_else(|| vec![DistilSpace::FEATURE_WEIGHT.into()]),
        }),
        "prune" => {
            let named = step.has("granularity");
            let read = step.parsed("granularity", m);
            let unit = read.unwrap_or(PruneUnit::Channels);
            // A name that is not known may be meant to be one that needs no share.
            let may_lack_share = unit == PruneUnit::TwoOfFour || (named && read.is_none());
            let budget = step.has("at_most");
            let at_most: Option<Vec<f64>> = step.list("at_most", m);
            if at_most.as_ref().is_some_and(Vec::is_empty) {
                let text = "the list is empty; give at least one value";
                m.refuse(&step.span_of("at_most"), step.path("at_most"), text);
            }
            let at_most = at_most.unwrap_or_default();
            if !step.has("share") && !budget && !may_lack_share {
                let text = "is missing; give the share that goes, such as 0.5, or what stays as \
                            at_most";
                m.refuse(&step.span(), step.path("share"), text);
            }
            if step.has("share") && budget {
                let text = "stands beside share; give one of the two";
                m.refuse(&step.span_of("at_most"), step.path("at_most"), text);
            }
            // What can be left out stands for what fits.
            let (share, importance) = match unit {
                PruneUnit::Channels => (0.0, Importance::Taylor),
                PruneUnit::Weights => (0.0, Importance::L1),
                PruneUnit::TwoOfFour => (0.5, Importance::L1),
                PruneUnit::Blocks => (0.0, Importance::Output),
            };
            let of = match unit {
                PruneUnit::Channels | PruneUnit::Weights | PruneUnit::TwoOfFour => Scope::Layer,
                PruneUnit::Blocks => Scope::Macs,
            };
            StepSpace::Prune(PruneSpace {
                unit,
                of: step.parsed("of", m).unwrap_or(of),
                share: match step.list("share", m) {
                    Some(shares) => shares,
                    None if at_most.is_empty() => vec![share],
                    None => Vec::new(),
                },
                at_most,
                importance: names(step, "importance", m).unwrap_or_else(|| vec![importance]),
                rounds: step.list("rounds", m).unwrap_or_else(|| vec![1]),
                epochs: step.list("epochs", m).unwrap_or_else(|| vec![1]),
                multiple_of: step.list("multiple_of", m).unwrap_or_else(|| vec![Multiple::ONE]),
                rewind: names(step, "rewind", m).unwrap_or_else(|| vec![Rewind::None]),
            })
        }
        "fine-tune" => {
            let usual = read_training(step, m);
            StepSpace::FineTune(FineTuneSpace {
                shrink: names(step, "shrink", m).unwrap_or(usual.shrink),
                shrink_by: step.list("shrink_by", m).unwrap_or(usual.shrink_by),
                ..usual
            })
        }
        "cluster" => StepSpace::Cluster(ClusterSpace {
            clusters: step.list("clusters", m).unwrap_or_else(|| vec![16]),
        }),
        "quantize-aware-train" => {
            let usual = read_training(step, m);
            StepSpace::QuantizeAwareTrain(FineTuneSpace {
                normalize: step.list("normalize", m).unwrap_or(usual.normalize),
                ..usual
            })
        }
        "quantize" => {
            let usual = QuantizeSpace::default();
            StepSpace::Quantize(QuantizeSpace {
                precision: names(step, "precision", m).unwrap_or(usual.precision),
                calibration: names(step, "calibration", m).unwrap_or(usual.calibration),
                examples: step.list("examples", m).unwrap_or(usual.examples),
                clip_ranges: step.list("clip_ranges", m).unwrap_or(usual.clip_ranges),
                granularity: names(step, "granularity", m).unwrap_or(usual.granularity),
                equalize: step.list("equalize", m).unwrap_or(usual.equalize),
                correct_biases: step.list("correct_biases", m).unwrap_or(usual.correct_biases),
                rounding: names(step, "rounding", m).unwrap_or(usual.rounding),
                fp32: step.list("fp32", m).unwrap_or(usual.fp32),
                mixed: step.list("mixed", m).unwrap_or(usual.mixed),
                widths: WidthsSpace {
                    weights: step.list("weight_bits", m).unwrap_or(usual.widths.weights),
                    affine: step.list("affine_weights", m).unwrap_or(usual.widths.affine),
                    activations: step
                        .list("activation_bits", m)
                        .unwrap_or(usual.widths.activations),
                    layers: step.list("mixed_bits", m).unwrap_or(usual.widths.layers),
                },
            })
        }
        other => unreachable!("{other} is not among the passes"),
    })
}

/// A number of the short form, which has no schedules.
struct Constant(f64);

impl Scalar for Constant {
    const EXPECTED_FIELD: &'static str = f64::EXPECTED_FIELD;

    fn read(value: &DeValue) -> Option<Self> {
        f64::read(value).map(Self)
    }

    fn mistake(value: &DeValue) -> String {
        if value.is_table() {
            "is a table; give a finite number, because only a step can have a schedule: write \
             [[recipe.steps]] with pass = \"distil\" in place of the short form"
                .to_owned()
        } else {
            f64::mistake(value)
        }
    }
}

fn constants(recipe: &mut Table, name: &'static str, m: &mut Mistakes) -> Option<Vec<f64>> {
    let list: Vec<Constant> = recipe.list(name, m)?;
    Some(list.into_iter().map(|Constant(number)| number).collect())
}

fn read_training(step: &mut Table, m: &mut Mistakes) -> FineTuneSpace {
    FineTuneSpace::plain(
        step.list("epochs", m).unwrap_or_default(),
        step.list("learning_rate", m).unwrap_or_default(),
    )
}

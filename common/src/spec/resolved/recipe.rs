//! Recipes in resolved studies.

use edgesmith_search_space::{
    ClusterSpace, DistilSpace, FineTuneSpace, FlatRecipe, Multiple, PruneSpace, PruneUnit,
    QuantizeSpace, RecipeSpace, Rewind, Scheduled, StepSpace, WidthsSpace,
};

use super::ResolvedError;
use super::convert::{parse, parse_all};
use super::document::{MultipleDocument, RecipeDocument, ScheduledDocument, StepDocument};

impl RecipeDocument {
    pub(super) fn of(recipe: &RecipeSpace) -> Self {
        match recipe {
            RecipeSpace::Flat(flat) => Self {
                prune: Some(flat.prune.clone()),
                precision: Some(flat.precision.iter().map(ToString::to_string).collect()),
                alpha: Some(flat.alpha.clone()),
                temperature: Some(flat.temperature.clone()),
                steps: None,
            },
            RecipeSpace::Steps(steps) => Self {
                steps: Some(steps.iter().map(StepDocument::of).collect()),
                ..Self::default()
            },
        }
    }

    pub(super) fn into_space(self) -> Result<RecipeSpace, ResolvedError> {
        if let Some(steps) = self.steps {
            let steps = steps.into_iter().map(StepDocument::into_space);
            return Ok(RecipeSpace::Steps(steps.collect::<Result<_, _>>()?));
        }
        // What is missing is refused as an empty list.
        Ok(RecipeSpace::Flat(FlatRecipe {
            prune: self.prune.unwrap_or_default(),
            precision: parse_all("recipe.precision", &self.precision.unwrap_or_default())?,
            alpha: self.alpha.unwrap_or_default(),
            temperature: self.temperature.unwrap_or_default(),
        }))
    }
}

impl StepDocument {
    fn of(step: &StepSpace) -> Self {
        match step.clone() {
            StepSpace::Distil(space) => {
                let usual = DistilSpace::of_answers(Vec::new(), Vec::new());
                let copies = space.features != usual.features
                    || space.feature_weight != usual.feature_weight;
                Self::Distil {
                    alpha: scheduled(&space.alpha),
                    temperature: scheduled(&space.temperature),
                    answers: (space.answers != usual.answers).then(|| texts(&space.answers)),
                    features: copies.then(|| texts(&space.features)),
                    feature_weight: copies.then(|| scheduled(&space.feature_weight)),
                }
            }
            StepSpace::Prune(space) => Self::Prune {
                granularity: match space.unit {
                    PruneUnit::Channels => None,
                    unit @ (PruneUnit::Weights | PruneUnit::TwoOfFour | PruneUnit::Blocks) => {
                        Some(unit.to_string())
                    }
                },
                of: space.of.to_string(),
                share: space.share,
                at_most: space.at_most,
                importance: texts(&space.importance),
                rounds: space.rounds,
                epochs: space.epochs,
                multiple_of: space.multiple_of.into_iter().map(multiple).collect(),
                rewind: (space.rewind != [Rewind::None]).then(|| texts(&space.rewind)),
            },
            StepSpace::FineTune(FineTuneSpace {
                epochs, learning_rate, shrink, shrink_by, ..
            }) => {
                let usual = FineTuneSpace::plain(Vec::new(), Vec::new());
                let shrinks = shrink != usual.shrink || shrink_by != usual.shrink_by;
                Self::FineTune {
                    epochs,
                    learning_rate,
                    shrink: shrinks.then(|| texts(&shrink)),
                    shrink_by: shrinks.then_some(shrink_by),
                }
            }
            StepSpace::Cluster(ClusterSpace { clusters }) => Self::Cluster { clusters },
            StepSpace::Quantize(space) => {
                let (widths, usual) = (space.widths, WidthsSpace::default());
                let differ = widths != usual;
                Self::Quantize {
                    precision: texts(&space.precision),
                    calibration: texts(&space.calibration),
                    examples: space.examples,
                    clip_ranges: space.clip_ranges,
                    granularity: texts(&space.granularity),
                    equalize: space.equalize,
                    correct_biases: space.correct_biases,
                    rounding: texts(&space.rounding),
                    fp32: space.fp32,
                    mixed: space.mixed,
                    weight_bits: differ.then_some(widths.weights),
                    affine_weights: differ.then_some(widths.affine),
                    activation_bits: differ.then_some(widths.activations),
                    mixed_bits: differ.then_some(widths.layers),
                }
            }
            StepSpace::QuantizeAwareTrain(space) => {
                let FineTuneSpace { epochs, learning_rate, normalize, .. } = space;
                let normalize = (normalize != [false]).then_some(normalize);
                Self::QuantizeAwareTrain { epochs, learning_rate, normalize }
            }
        }
    }

    fn into_space(self) -> Result<StepSpace, ResolvedError> {
        Ok(match self {
            Self::Distil { alpha, temperature, answers, features, feature_weight } => {
                let alpha = into_scheduled("recipe.steps.alpha", &alpha)?;
                let temperature = into_scheduled("recipe.steps.temperature", &temperature)?;
                let mut space = DistilSpace::of_answers(alpha, temperature);
                if let Some(answers) = answers {
                    space.answers = parse_all("recipe.steps.answers", &answers)?;
                }
                if let Some(features) = features {
                    space.features = parse_all("recipe.steps.features", &features)?;
                }
                if let Some(weight) = feature_weight {
                    space.feature_weight = into_scheduled("recipe.steps.feature_weight", &weight)?;
                }
                StepSpace::Distil(space)
            }
            Self::Prune {
                granularity,
                of,
                share,
                at_most,
                importance,
                rounds,
                epochs,
                multiple_of,
                rewind,
            } => {
                let multiples = multiple_of.iter().map(into_multiple);
                let multiple_of = multiples.collect::<Result<_, _>>()?;
                StepSpace::Prune(PruneSpace {
                    unit: match granularity {
                        Some(unit) => parse("recipe.steps.granularity", &unit)?,
                        None => PruneUnit::Channels,
                    },
                    of: parse("recipe.steps.of", &of)?,
                    share,
                    at_most,
                    importance: parse_all("recipe.steps.importance", &importance)?,
                    rounds,
                    epochs,
                    multiple_of,
                    rewind: match rewind {
                        Some(rewind) => parse_all("recipe.steps.rewind", &rewind)?,
                        None => vec![Rewind::None],
                    },
                })
            }
            Self::FineTune { epochs, learning_rate, shrink, shrink_by } => {
                let mut space = FineTuneSpace::plain(epochs, learning_rate);
                if let Some(shrink) = shrink {
                    space.shrink = parse_all("recipe.steps.shrink", &shrink)?;
                }
                if let Some(weight) = shrink_by {
                    space.shrink_by = weight;
                }
                StepSpace::FineTune(space)
            }
            Self::Cluster { clusters } => StepSpace::Cluster(ClusterSpace { clusters }),
            Self::Quantize {
                precision,
                calibration,
                examples,
                clip_ranges,
                granularity,
                equalize,
                correct_biases,
                rounding,
                fp32,
                mixed,
                weight_bits,
                affine_weights,
                activation_bits,
                mixed_bits,
            } => StepSpace::Quantize(QuantizeSpace {
                precision: parse_all("recipe.steps.precision", &precision)?,
                calibration: parse_all("recipe.steps.calibration", &calibration)?,
                examples,
                clip_ranges,
                granularity: parse_all("recipe.steps.granularity", &granularity)?,
                equalize,
                correct_biases,
                rounding: parse_all("recipe.steps.rounding", &rounding)?,
                fp32,
                mixed,
                widths: {
                    let usual = WidthsSpace::default();
                    WidthsSpace {
                        weights: weight_bits.unwrap_or(usual.weights),
                        affine: affine_weights.unwrap_or(usual.affine),
                        activations: activation_bits.unwrap_or(usual.activations),
                        layers: mixed_bits.unwrap_or(usual.layers),
                    }
                },
            }),
            Self::QuantizeAwareTrain { epochs, learning_rate, normalize } => {
                let mut space = FineTuneSpace::plain(epochs, learning_rate);
                if let Some(normalize) = normalize {
                    space.normalize = normalize;
                }
                StepSpace::QuantizeAwareTrain(space)
            }
        })
    }
}

fn multiple(multiple: Multiple) -> MultipleDocument {
    match multiple {
        Multiple::Of(number) => MultipleDocument::Number(number),
        Multiple::Auto => MultipleDocument::Name(Multiple::AUTO.to_owned()),
    }
}

fn into_multiple(document: &MultipleDocument) -> Result<Multiple, ResolvedError> {
    match document {
        MultipleDocument::Number(number) => Ok(Multiple::Of(*number)),
        MultipleDocument::Name(name) if name == Multiple::AUTO => Ok(Multiple::Auto),
        MultipleDocument::Name(name) => {
            let reason = format!("{name:?} is not a number of channels");
            Err(ResolvedError::Unusable { part: "recipe.steps.multiple_of", reason })
        }
    }
}

fn scheduled(numbers: &[Scheduled]) -> Vec<ScheduledDocument> {
    let document = |number: &Scheduled| match *number {
        Scheduled::Constant(number) => ScheduledDocument::Constant(number),
        Scheduled::Changing { from, to, course } => {
            ScheduledDocument::Changing { from, to, schedule: course.to_string() }
        }
    };
    numbers.iter().map(document).collect()
}

fn into_scheduled(
    field: &'static str,
    documents: &[ScheduledDocument],
) -> Result<Vec<Scheduled>, ResolvedError> {
    let number = |document: &ScheduledDocument| {
        Ok(match document {
            ScheduledDocument::Constant(number) => Scheduled::Constant(*number),
            ScheduledDocument::Changing { from, to, schedule } => {
                let course = parse(field, schedule)?;
                Scheduled::Changing { from: *from, to: *to, course }
            }
        })
    };
    documents.iter().map(number).collect()
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

//! Pruning of channels and single weights: what goes for a share or a budget, in rounds, and the
//! training after each. Blocks are removed in [`super::blocks`].

use edgesmith_common::{AttemptError, Purpose};
use edgesmith_compress::budget::{Resource, kept_where, kept_within, least_kept};
use edgesmith_compress::importance::{
    Activity, Influence, geometric_median, l1_norm, l2_norm, normalization_scale, random, taylor,
};
use edgesmith_compress::{Masks, WeightScores, cut_to};
use edgesmith_graph::{ChannelGroup, Channels, Cut, Graph};
use edgesmith_search_space::{
    Among, Amount, Counted, FineTuning, Importance, Multiple, PruneUnit, Pruning, Rewind, pruning,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::hopeless;
use super::Passes;
use super::measured::Goal;
use super::stages::unpruned;

/// What a recipe is told that goes back to weights that are not there.
const NO_WAY_BACK: &str = "rewind = \"weights\" goes back to weights of the first training, but this \
                           network has none: it was taken as it is; use \"rate\"";

impl Passes<'_> {
    /// Carries out a pruning, with its trainings. If it removes nothing, the network is left as it
    /// is, and the answer is no.
    pub(super) fn remove(&mut self, pruning: &Pruning) -> Result<bool, AttemptError> {
        let mut goal = None;
        let mut pruning = pruning.clone();
        if let Amount::AtMost { counted, most, .. } = pruning.amount {
            self.renew_statistics()?;
            let before = self.amount(counted, &self.graph, &self.weights)?;
            let budget = Goal { counted, before, most: Some(most) };
            if budget.is_met(before) {
                self.note = Some(format!(" not needed: {}", budget.kept(before)));
                return Ok(false);
            }
            pruning.amount = pruning.amount.of_whole(before);
            goal = Some(budget);
        }
        match (pruning.amount.unit(), &pruning.amount) {
            (PruneUnit::Channels, _) => self.prune(&pruning, goal),
            (PruneUnit::Blocks, Amount::Blocks { counted, .. }) => {
                let goal = match goal {
                    Some(goal) => goal,
                    None => self.goal(*counted)?,
                };
                self.prune_blocks(&pruning, goal)
            }
            (PruneUnit::Weights | PruneUnit::TwoOfFour | PruneUnit::Blocks, _) => {
                self.prune_weights(&pruning)
            }
        }
    }

    /// Removes channels; says whether any went. `goal` is what the pruning says of it; `None` if
    /// that is said of nothing but what is measured.
    fn prune(&mut self, pruning: &Pruning, goal: Option<Goal>) -> Result<bool, AttemptError> {
        let whole = self.graph.clone();
        let groups = whole.channels();
        let least = least_kept(&groups);
        // By group of the network so far: the group of the whole network that it is left of.
        let mut origin: Vec<usize> = (0..groups.groups().len()).collect();
        let multiple = match pruning.multiple_of {
            Multiple::Of(multiple) => multiple,
            Multiple::Auto => self.run.fast_multiple(self.in_integers)?,
        } as usize;
        let goal = match (goal, pruning.amount.of_network()) {
            (None, Some((counted, _))) if counted.is_measured() => Some(self.goal(counted)?),
            (goal, _) => goal,
        };
        let mut removed = false;
        for round in 1..=pruning.rounds {
            self.note_round(round, pruning);
            self.note = None;
            self.renew_statistics()?;
            let amount = pruning.amount.after(round, pruning.rounds);
            let now = Pruning { amount, ..pruning.clone() };
            let channels = self.graph.channels();
            let importance = self.importance(&channels, pruning.importance)?;
            let kept = match &now.amount {
                // By the groups of the whole network, so that every round has the share that it
                // should.
                Amount::Stage { .. } | Amount::Layer { .. } => {
                    let of_whole = groups.groups().iter().map(|g| pruning::kept(&whole, g, &now));
                    let of_whole: Option<Vec<usize>> = of_whole.collect();
                    let of_whole = of_whole.expect("shares of layers say how many");
                    origin.iter().map(|&group| of_whole[group]).collect()
                }
                Amount::Network { counted, share } => {
                    let least: Vec<usize> = origin.iter().map(|&group| least[group]).collect();
                    match (counted_in(*counted, &whole), goal) {
                        (Some((resource, all)), _) => {
                            let budget = (resource, (1.0 - share) * all as f64);
                            let (graph, importance) = (&self.graph, &importance);
                            kept_within(graph, &channels, importance, budget, &least, multiple)
                        }
                        (None, Some(Goal { counted, before, .. })) => {
                            let budget = (counted, (1.0 - share) * before);
                            self.kept_measured(&channels, &importance, budget, &least, multiple)?
                        }
                        (None, None) => return Err(hopeless("a budget was not measured")),
                    }
                }
                Amount::Weights { .. } | Amount::TwoOfFour { .. } | Amount::Blocks { .. } => {
                    unreachable!("single weights and blocks are removed elsewhere")
                }
                Amount::AtMost { .. } => unreachable!("it is a share of this network"),
            };
            let sizes = channels.groups().iter().map(|group| group.channels.len());
            let fewer = kept.iter().zip(sizes).any(|(kept, channels)| *kept < channels);
            removed |= fewer;
            if fewer {
                self.cut(&channels, &importance, &kept, &mut origin)?;
            }
            let mut unmet = String::new();
            // A share of what is counted is what goes, unless layers would lose all channels.
            let share = now.amount.of_network().and_then(|(counted, share)| {
                let before = counted_in(counted, &whole)?.1 as f64;
                Some(Goal { counted, before, most: Some(((1.0 - share) * before).floor()) })
            });
            if let Some(of) = goal.or(share) {
                let now = self.amount(of.counted, &self.graph, &self.weights)?;
                // A share that was reached says enough.
                if goal.is_some() || !of.is_met(now) {
                    self.note = Some(format!(" to {}", of.said(now)));
                }
                if goal.is_some() && !of.is_met(now) {
                    unmet = format!("; {}", of.said(now));
                }
            }
            if !removed {
                let why = unpruned(&pruning.amount, &self.graph);
                self.note = Some(format!(" nothing: {why}{unmet}"));
            }
            if pruning.multiple_of == Multiple::Auto {
                let note = self.note.take().unwrap_or_default();
                self.note = Some(format!("{note}, in multiples of {multiple}"));
            }
            if removed {
                self.train_after(round, pruning)?;
            }
        }
        Ok(removed)
    }

    /// Leaves each group of channels so many of its most important ones, and corrects the biases.
    /// `origin` follows the groups.
    fn cut(
        &mut self,
        channels: &Channels,
        importance: &[f64],
        kept: &[usize],
        origin: &mut Vec<usize>,
    ) -> Result<(), AttemptError> {
        let cut = cut_to(&self.graph, channels, importance, kept);
        self.masks = self.masks.take().map(|masks| masks.cut(&self.graph, &cut));
        let slim = cut.weights(&self.weights);
        self.early.values_mut().for_each(|early| *early = cut.weights(early));
        self.weights = self.run.correct_biases(&self.graph, &self.weights, &cut, slim)?;
        *origin = origins(channels, &cut).into_iter().map(|group| origin[group]).collect();
        (self.graph, self.stale) = (cut.graph, true);
        Ok(())
    }

    /// How many channels each group keeps so that the network has at most so much of what is
    /// measured.
    fn kept_measured(
        &self,
        channels: &Channels,
        importance: &[f64],
        (counted, most): (Counted, f64),
        least: &[usize],
        multiple: usize,
    ) -> Result<Vec<usize>, AttemptError> {
        kept_where(channels, importance, least, multiple, |kept| {
            let cut = cut_to(&self.graph, channels, importance, kept);
            let slim = cut.weights(&self.weights);
            let now = self.run.measured(counted, &cut.graph, &slim)?;
            Ok(now.is_none_or(|now| now <= most * (1.0 + 1e-9)))
        })
    }

    pub(super) fn note_round(&mut self, round: u32, pruning: &Pruning) {
        let stage = format!("prune {round}/{}", pruning.rounds);
        self.run.context.progress(self.epochs.next(0).0, &stage);
    }

    /// The training after a round of a pruning, if there is one.
    pub(super) fn train_after(
        &mut self,
        round: u32,
        pruning: &Pruning,
    ) -> Result<(), AttemptError> {
        if round > pruning.trainings() || pruning.epochs == 0 {
            return Ok(());
        }
        let tuning = FineTuning::of(Some(pruning.epochs));
        match pruning.rewind {
            Rewind::None => return self.fine_tune(tuning),
            Rewind::Rate => {}
            Rewind::Weights => {
                let early = self.early.get(&pruning.epochs).cloned();
                let mut early = early.ok_or_else(|| hopeless(NO_WAY_BACK))?;
                if let Some(masks) = &self.masks {
                    masks.apply(&mut early);
                }
                self.weights = early;
            }
        }
        // A network that came as it is was trained elsewhere. Its schedule is that of the study.
        let first = match self.first {
            0 => self.run.study.work.training.epochs,
            first => first,
        };
        let skipped = Some(first.saturating_sub(pruning.epochs));
        let (graph, weights) = (self.graph.clone(), self.weights.clone());
        let start = (&graph, weights, None);
        if let Some(tuned) = self.train("fine-tune epoch", tuning, start, skipped)? {
            (self.weights, self.stale) = (tuned.weights, false);
        }
        Ok(())
    }

    /// Sets single weights to 0; says whether more of them are held at 0 than before.
    fn prune_weights(&mut self, pruning: &Pruning) -> Result<bool, AttemptError> {
        let gone = |masks: &Option<Masks>| masks.as_ref().map_or(0, Masks::gone);
        let before = gone(&self.masks);
        for round in 1..=pruning.rounds {
            self.note_round(round, pruning);
            self.renew_statistics()?;
            let (graph, weights) = (&self.graph, &self.weights);
            let scores = self.weight_scores(pruning.importance)?;
            let masks = match pruning.amount.after(round, pruning.rounds) {
                Amount::Weights { among: Among::Layer, share } => {
                    Masks::least_per_layer(&scores, share)
                }
                Amount::Weights { among: Among::Network, share } => {
                    Masks::least_globally(&scores, share)
                }
                Amount::TwoOfFour { .. } => Masks::two_of_four(&scores),
                Amount::Stage { .. }
                | Amount::Layer { .. }
                | Amount::Network { .. }
                | Amount::Blocks { .. }
                | Amount::AtMost { .. } => {
                    unreachable!("channels and blocks are removed elsewhere")
                }
            };
            let masks = match &self.masks {
                Some(before) => masks.and(before),
                None => masks,
            };
            if masks.gone() == before {
                continue;
            }
            let mut sparse = weights.clone();
            masks.apply(&mut sparse);
            self.weights = self.unbiased(graph, weights, sparse)?;
            self.masks = Some(masks);
            self.stale = true;
            self.train_after(round, pruning)?;
        }
        let removed = gone(&self.masks) > before;
        if !removed {
            self.note = Some(match before {
                0 => format!(" nothing: {}", unpruned(&pruning.amount, &self.graph)),
                _ => " nothing: as many weights are 0 already".to_owned(),
            });
        }
        Ok(removed)
    }

    fn importance(
        &self,
        channels: &Channels,
        criterion: Importance,
    ) -> Result<Vec<f64>, AttemptError> {
        let (graph, weights, run) = (&self.graph, &self.weights, self.run);
        Ok(match criterion {
            Importance::L1 => l1_norm(graph, channels, weights),
            Importance::L2 => l2_norm(graph, channels, weights),
            Importance::Scale => normalization_scale(graph, channels, weights).map_err(hopeless)?,
            Importance::GeometricMedian => geometric_median(graph, channels, weights),
            Importance::Taylor => {
                taylor(graph, channels, &run.effects(edgesmith_train::taylor, graph, weights)?)
            }
            Importance::Activity => {
                let mut activity = Activity::new(graph, weights);
                run.each_example(graph, |example| activity.observe(example).map_err(hopeless))?;
                activity.finish(channels).map_err(hopeless)?
            }
            Importance::Influence => {
                let mut influence = Influence::new(graph, weights);
                run.each_example(graph, |example| influence.observe(example).map_err(hopeless))?;
                influence.finish(channels).map_err(hopeless)?
            }
            Importance::Random => {
                let seed = run.study.seed.derive(Purpose::Importance(self.number));
                let mut rng = ChaCha8Rng::from_seed(seed);
                random(channels, || rng.random())
            }
            Importance::Output => return Err(hopeless("the output ranks blocks only")),
            Importance::Lamp => return Err(hopeless("lamp ranks single weights only")),
        })
    }

    /// How important each single weight is.
    fn weight_scores(&self, criterion: Importance) -> Result<WeightScores, AttemptError> {
        let (graph, weights, run) = (&self.graph, &self.weights, self.run);
        Ok(match criterion {
            Importance::L1 => WeightScores::magnitudes(graph, weights),
            Importance::Lamp => WeightScores::lamp(graph, weights),
            Importance::Taylor => {
                let effects = run.effects(edgesmith_train::taylor_of_weights, graph, weights)?;
                WeightScores::of(graph, weights, &effects)
            }
            Importance::Random => {
                let seed = run.study.seed.derive(Purpose::Importance(self.number));
                let mut rng = ChaCha8Rng::from_seed(seed);
                WeightScores::random(graph, weights, || rng.random())
            }
            Importance::L2
            | Importance::Scale
            | Importance::GeometricMedian
            | Importance::Activity
            | Importance::Influence
            | Importance::Output => {
                return Err(hopeless(format!("{criterion} does not rank single weights")));
            }
        })
    }
}

/// What is counted, and how much of it a network has; `None` for what is measured.
pub(super) fn counted_in(counted: Counted, graph: &Graph) -> Option<(Resource, u64)> {
    let resource = match counted {
        Counted::Macs => Resource::Macs,
        Counted::Parameters => Resource::Parameters,
        Counted::Channels => Resource::Channels,
        Counted::Bytes | Counted::Latency => return None,
    };
    pruning::count(graph, counted).map(|all| (resource, all))
}

/// For each group of channels of a network that was cut, the group before that it is left of. They
/// may be in another order: groups are ordered by their first channels.
fn origins(before: &Channels, cut: &Cut) -> Vec<usize> {
    let after = cut.graph.channels();
    let origin = |group: &ChannelGroup| {
        let now = after.of_value(group.first);
        let place = now.iter().position(|channel| group.channels.contains(channel));
        let place = place.expect("the first value of a group has a channel of it");
        let was = before.of_value(group.first)[cut.kept(group.first)[place] as usize];
        let place = before.groups().iter().position(|group| group.channels.contains(&was));
        place.expect("each channel belongs to a group")
    };
    after.groups().iter().map(origin).collect()
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{
        Conv, Gather, GlobalAveragePool, GraphBuilder, Linear, Op, Place, Role, Shape,
    };

    use super::*;

    /// Every second channel goes one way, and the others another way.
    #[test]
    fn groups_are_found_again_in_another_order() {
        let mut b = GraphBuilder::new();
        let x = b.input("x", Shape::new(1, &[2, 2]).unwrap()).unwrap();
        let mut node = |name: &str, op: Op, input, shape: &[u32]| {
            let weight = (!shape.is_empty())
                .then(|| b.parameter(format!("{name}.weight"), shape, Role::Weight).unwrap());
            let weights: Vec<_> = weight.into_iter().collect();
            b.node(name.to_owned(), op, &[input], &weights, Place::default()).unwrap()
        };
        let both = node("both", Conv::dense(1, 1).into(), x, &[6, 1, 1, 1]);
        let even = node("even", Gather { axis: 0, indices: vec![0, 2, 4] }.into(), both, &[]);
        let odd = node("odd", Gather { axis: 0, indices: vec![1, 3, 5] }.into(), both, &[]);
        let even = node("even.pool", GlobalAveragePool.into(), even, &[]);
        let odd = node("odd.pool", GlobalAveragePool.into(), odd, &[]);
        let even = node("a", Linear.into(), even, &[2, 3]);
        let odd = node("b", Linear.into(), odd, &[2, 3]);
        let graph = b.finish(&[even, odd]).unwrap();
        let before = graph.channels();
        // The first channel goes, so that the group of the second one is the first now.
        let first = before.of_value(graph.value_named("both").unwrap())[0];
        let cut = graph.clone().without(&before, [first]).unwrap();
        let after = cut.graph.channels();
        let origins = origins(&before, &cut);
        for (group, origin) in after.groups().iter().zip(&origins) {
            let was = &before.groups()[*origin];
            assert_eq!((was.fixed, was.first), (group.fixed, group.first));
            let lost = usize::from(was.channels.contains(&first));
            assert_eq!(was.channels.len() - lost, group.channels.len());
        }
    }
}

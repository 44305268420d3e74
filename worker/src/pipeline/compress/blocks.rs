//! Pruning of whole residual blocks: which of them matter least, and how many go for a budget. A
//! block that is left out has its input in place of its output, so all shapes stay.

use edgesmith_common::{AttemptError, Purpose};
use edgesmith_edge_runtime::{Model, Session};
use edgesmith_graph::{Graph, Weights};
use edgesmith_search_space::{
    Amount, Counted, Importance, Pruning, ResidualBlock, leave_out, residual_blocks,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::hopeless;
use super::super::run::Run;
use super::Passes;
use super::measured::{Goal, broken};
use super::pruning::counted_in;
use super::stages::unpruned;
use crate::evaluate::{each_image, size};

impl Passes<'_> {
    /// Removes blocks until the share that `pruning` says is gone, or none is left; says whether
    /// any went.
    pub(super) fn prune_blocks(
        &mut self,
        pruning: &Pruning,
        goal: Goal,
    ) -> Result<bool, AttemptError> {
        let Goal { counted, before: all, .. } = goal;
        let mut any_gone = false;
        for round in 1..=pruning.rounds {
            self.note_round(round, pruning);
            self.renew_statistics()?;
            let Amount::Blocks { share, .. } = pruning.amount.after(round, pruning.rounds) else {
                unreachable!("others are removed elsewhere")
            };
            let most = (1.0 - share) * all;
            let blocks = residual_blocks(&self.graph);
            let order = self.ranked(&blocks, pruning.importance)?;
            let mut left = all;
            for gone in 0..=blocks.len() {
                let removed: Vec<&ResidualBlock> =
                    order[..gone].iter().map(|place| &blocks[*place]).collect();
                let graph = leave_out(&self.graph, &removed).map_err(broken)?;
                let weights = of_graph(&graph, &self.weights);
                left = self.amount(counted, &graph, &weights)?;
                // A share of a whole number may be a little less than the number that is meant.
                if left > most * (1.0 + 1e-9) && gone < blocks.len() {
                    continue;
                }
                any_gone |= gone > 0;
                if gone > 0 {
                    self.masks = self.masks.take().map(|mut masks| {
                        masks.kept.retain(|name, _| weights.arrays.contains_key(name));
                        masks
                    });
                    self.early.values_mut().for_each(|early| *early = of_graph(&graph, early));
                    (self.graph, self.weights, self.stale) = (graph, weights, true);
                }
                break;
            }
            let (met, left) = (goal.is_met(left), goal.said(left));
            self.note = Some(match (any_gone, blocks.is_empty()) {
                (true, _) => format!(" to {left}"),
                (false, true) => {
                    let why = unpruned(&pruning.amount, &self.graph);
                    if met {
                        format!(" nothing: {why}")
                    } else {
                        format!(" nothing: {why}; {left}")
                    }
                }
                // A time may be shorter when it is measured again.
                (false, false) => format!(" nothing: {left} already"),
            });
            if any_gone {
                self.train_after(round, pruning)?;
            }
        }
        Ok(any_gone)
    }

    /// What the network has now of what goes.
    pub(super) fn goal(&self, counted: Counted) -> Result<Goal, AttemptError> {
        let before = self.amount(counted, &self.graph, &self.weights)?;
        Ok(Goal { counted, before, most: None })
    }

    /// What a network has of something, counted or measured.
    pub(super) fn amount(
        &self,
        counted: Counted,
        graph: &Graph,
        weights: &Weights,
    ) -> Result<f64, AttemptError> {
        let measured = self.run.measured(counted, graph, weights)?;
        Ok(measured
            .unwrap_or_else(|| counted_in(counted, graph).map_or(0.0, |(_, all)| all as f64)))
    }

    /// The places of blocks from the least important one on. On ties the later block comes first.
    fn ranked(
        &self,
        blocks: &[ResidualBlock],
        importance: Importance,
    ) -> Result<Vec<usize>, AttemptError> {
        let run = self.run;
        let important: Vec<f64> = match importance {
            Importance::Random => {
                let seed = run.study.seed.derive(Purpose::Importance(self.number));
                let mut rng = ChaCha8Rng::from_seed(seed);
                blocks.iter().map(|_| rng.random()).collect()
            }
            Importance::Output => run.moved_without(&self.graph, &self.weights, blocks)?,
            Importance::L1
            | Importance::L2
            | Importance::Scale
            | Importance::Taylor
            | Importance::GeometricMedian
            | Importance::Activity
            | Importance::Influence
            | Importance::Lamp => {
                return Err(hopeless(format!("{importance} does not rank blocks")));
            }
        };
        let mut order: Vec<usize> = (0..blocks.len()).rev().collect();
        order.sort_by(|a, b| important[*a].total_cmp(&important[*b]));
        Ok(order)
    }
}

impl Run<'_> {
    /// How far the outputs of a network move when each of these blocks alone is left out: the mean
    /// square over some of the training images.
    pub fn moved_without(
        &self,
        graph: &Graph,
        weights: &Weights,
        blocks: &[ResidualBlock],
    ) -> Result<Vec<f64>, AttemptError> {
        let whole = self.outputs(&self.model(graph, weights)?)?;
        let moved = blocks.iter().map(|block| {
            let graph = leave_out(graph, &[block]).map_err(broken)?;
            let weights = of_graph(&graph, weights);
            let without = self.outputs(&self.model(&graph, &weights)?)?;
            Ok(mean_square(&whole, &without))
        });
        moved.collect()
    }

    /// The outputs of a model on some of the training images, one after the other.
    fn outputs(&self, model: &Model) -> Result<Vec<f32>, AttemptError> {
        let input = model.image().ok_or_else(|| hopeless("the network reads no image"))?;
        let mut session = Session::new(model).map_err(hopeless)?;
        let (images, mut all) = (self.important_images(), Vec::new());
        let pause = &mut || self.pause_or_stop();
        each_image(&images, size(&input), pause, |image, _| {
            all.extend_from_slice(session.run(image)?);
            Ok(())
        })
        .map_err(super::super::run::run_failed)?;
        Ok(all)
    }
}

/// The weights that a graph still has.
fn of_graph(graph: &Graph, weights: &Weights) -> Weights {
    let named = graph.parameters().filter_map(|(_, parameter)| {
        let name = parameter.name.to_string();
        let array = weights.arrays.get(&name)?.clone();
        Some((name, array))
    });
    Weights { arrays: named.collect() }
}

fn mean_square(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>() / a.len().max(1) as f64
}

//! Carries out the recipe of a candidate on its trained network, pass by pass.

use edgesmith_common::{AttemptError, Purpose, TrialNumber};
use edgesmith_compress::budget::{Budget, Resource, kept_globally};
use edgesmith_compress::cut_to;
use edgesmith_compress::importance::{
    Activity, Influence, geometric_median, l1_norm, l2_norm, normalization_scale, random, taylor,
};
use edgesmith_edge_runtime::Model;
use edgesmith_graph::{Channels, Graph, Quantization, Weights};
use edgesmith_search_space::{
    Amount, Cost, Counted, Distillation, FineTuning, Importance, Precision, Pruning, Quantizing,
    Recipe, Step, pruning,
};
use edgesmith_train::{Checkpoint, SoftTargets, Trained};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::hopeless;
use super::run::{Phase, Quantized, Run};

/// Where the progress of an attempt stands after all trainings.
const TRAINED: f64 = 0.9;

/// A network after all passes of its recipe.
pub struct Compressed {
    pub graph: Graph,
    pub weights: Weights,
    /// Images that were trained on, with those before the passes.
    pub images_seen: u64,
    /// The model of it.
    pub model: Model,
    /// The cost of one inference.
    pub cost: Cost,
}

/// What is done to one network, one pass after the other.
pub struct Passes<'a> {
    run: &'a Run<'a>,
    number: TrialNumber,
    soft_targets: Option<&'a SoftTargets>,
    graph: Graph,
    weights: Weights,
    images_seen: u64,
    /// Whether the statistics of batch normalisation are those of another network.
    stale: bool,
    /// What trainings learn from the teacher from now on.
    teacher: Option<Distillation>,
    /// Trainings so far.
    trainings: u32,
    epochs: Epochs,
}

/// Epochs of all trainings of an attempt, for its progress.
pub struct Epochs {
    all: u32,
    done: u32,
}

impl Epochs {
    /// Of a training of `first` epochs, if there is one, and of the passes of a recipe on its
    /// network.
    pub fn of(first: u32, recipe: &Recipe, graph: &Graph, fine_tune: u32) -> Self {
        let of_pass = |pass: &Step| match pass {
            Step::FineTune(tuning) | Step::QuantizeAwareTrain(tuning) => {
                tuning.epochs.unwrap_or(fine_tune)
            }
            Step::Prune(pruning) => (pruning.rounds - 1) * pruning.epochs,
            Step::Distil(_) | Step::Quantize(_) => 0,
        };
        let passes = recipe.passes(graph);
        Self { all: first + passes.into_iter().map(of_pass).sum::<u32>(), done: 0 }
    }

    /// The part of the progress that the next training covers.
    pub fn next(&mut self, epochs: u32) -> (f64, f64) {
        let at = |done: u32| TRAINED * f64::from(done) / f64::from(self.all.max(1));
        let from = self.done;
        self.done += epochs;
        (at(from), at(self.done).min(TRAINED))
    }
}

impl<'a> Passes<'a> {
    /// Of a network that was trained or is as it came.
    pub fn new(
        run: &'a Run<'a>,
        number: TrialNumber,
        graph: Graph,
        trained: Trained,
        soft_targets: Option<&'a SoftTargets>,
        epochs: Epochs,
    ) -> Self {
        let Trained { weights, images_seen, .. } = trained;
        let (stale, teacher, trainings) = (false, None, 0);
        Self {
            run,
            number,
            soft_targets,
            graph,
            weights,
            images_seen,
            stale,
            teacher,
            trainings,
            epochs,
        }
    }

    /// Takes all passes of a recipe that change the network.
    pub fn carry_out(mut self, recipe: &Recipe) -> Result<Compressed, AttemptError> {
        let mut quantized = None;
        for pass in recipe.passes(&self.graph.clone()) {
            match (pass, &mut quantized) {
                (Step::Distil(distillation), _) => self.teacher = Some(*distillation),
                (Step::Prune(pruning), _) => self.prune(pruning)?,
                (Step::FineTune(tuning), _) => self.fine_tune(*tuning)?,
                (Step::Quantize(quantizing), _) => quantized = Some(self.quantize(quantizing)?),
                (Step::QuantizeAwareTrain(tuning), Some(quantized)) => {
                    self.train_quantized(*tuning, quantized)?;
                }
                (Step::QuantizeAwareTrain(_), None) => {
                    return Err(hopeless("the recipe trains a quantized network before it is one"));
                }
            }
        }
        self.renew_statistics()?;
        let Self { run, graph, weights, images_seen, .. } = self;
        let (model, cost) = match &quantized {
            Some(quantized) => (run.integer_model(quantized)?, quantized.cost()),
            None => (run.model(&graph, &weights)?, Cost::of(&graph, Precision::Fp32)),
        };
        Ok(Compressed { graph, weights, images_seen, model, cost })
    }

    fn quantize(&mut self, quantizing: &Quantizing) -> Result<Quantized, AttemptError> {
        self.renew_statistics()?;
        self.run.context.progress(self.epochs.next(0).1, "quantize");
        self.run.quantized(&self.graph, &self.weights, quantizing)
    }

    /// Trains the network of integers. Its weights become those of the network.
    fn train_quantized(
        &mut self,
        tuning: FineTuning,
        quantized: &mut Quantized,
    ) -> Result<(), AttemptError> {
        let Quantized { graph, weights, quantization, partly: _ } = quantized;
        let start = (&*graph, weights.clone(), Some(&*quantization));
        let Some(trained) = self.train("quantized epoch", tuning, start)? else { return Ok(()) };
        *weights = trained.weights;
        *quantization = trained.quantization.expect("it was simulated");
        (self.graph, self.weights) = (graph.clone(), weights.clone());
        Ok(())
    }

    fn prune(&mut self, pruning: &Pruning) -> Result<(), AttemptError> {
        let whole = self.graph.clone();
        for round in 1..=pruning.rounds {
            let stage = format!("prune {round}/{}", pruning.rounds);
            self.run.context.progress(self.epochs.next(0).0, &stage);
            self.renew_statistics()?;
            let amount = pruning.amount.after(round, pruning.rounds);
            let now = Pruning { amount, ..pruning.clone() };
            let channels = self.graph.channels();
            let importance = self.importance(&channels, pruning.importance)?;
            let kept = match &now.amount {
                Amount::Stage { .. } | Amount::Layer { .. } => {
                    // By the groups of the whole network, so that every round has the share that
                    // it should. They are the groups of the network so far in the same order.
                    let groups = whole.channels();
                    let kept = groups.groups().iter().map(|g| pruning::kept(&whole, g, &now));
                    kept.collect::<Option<Vec<usize>>>().expect("shares of layers say how many")
                }
                Amount::Network { counted, share } => {
                    let share_kept = share_of_rest(*counted, &whole, &self.graph, 1.0 - share);
                    let budget = Budget { of: resource(*counted), share_kept };
                    let multiple = pruning.multiple_of as usize;
                    kept_globally(&self.graph, &channels, &importance, budget, multiple)
                }
            };
            let cut = cut_to(&self.graph, &channels, &importance, &kept);
            let slim = cut.weights(&self.weights);
            self.weights = self.run.correct_biases(&self.graph, &self.weights, &cut, slim)?;
            self.graph = cut.graph;
            self.stale = true;
            if round < pruning.rounds && pruning.epochs > 0 {
                let epochs = Some(pruning.epochs);
                self.fine_tune(FineTuning { epochs, learning_rate: None })?;
            }
        }
        Ok(())
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
            Importance::Taylor => taylor(graph, channels, &run.effects(graph, weights)?),
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
        })
    }

    fn fine_tune(&mut self, tuning: FineTuning) -> Result<(), AttemptError> {
        let (graph, weights) = (self.graph.clone(), self.weights.clone());
        if let Some(tuned) = self.train("fine-tune epoch", tuning, (&graph, weights, None))? {
            (self.weights, self.stale) = (tuned.weights, false);
        }
        Ok(())
    }

    /// Trains a network further; `None` if it is for no epochs.
    fn train(
        &mut self,
        name: &'static str,
        tuning: FineTuning,
        (graph, weights, quantization): (&Graph, Weights, Option<&Quantization>),
    ) -> Result<Option<Trained>, AttemptError> {
        let training = &self.run.study.work.training;
        let epochs = tuning.epochs.unwrap_or(training.fine_tune_epochs);
        if epochs == 0 {
            return Ok(None);
        }
        let shuffle = match self.trainings {
            0 => Purpose::FineTune(self.number),
            time => Purpose::FineTuneAgain(self.number, time),
        };
        let trained = self.run.train(Phase {
            name,
            span: self.epochs.next(epochs),
            graph,
            start: Checkpoint::fresh(weights),
            epochs,
            until: epochs,
            learning_rate: tuning.learning_rate.unwrap_or(training.fine_tune_learning_rate),
            first: None,
            keeps_statistics: false,
            shuffle,
            teacher: self.teacher.zip(self.soft_targets),
            quantization,
        })?;
        self.trainings += 1;
        self.images_seen += trained.images_seen;
        Ok(Some(trained))
    }

    /// Recomputes the statistics of batch normalisation if the network is no longer the one that
    /// has them.
    fn renew_statistics(&mut self) -> Result<(), AttemptError> {
        if std::mem::take(&mut self.stale) {
            self.weights = self.run.renew_statistics(&self.graph, &self.weights)?;
        }
        Ok(())
    }
}

/// The share of what is left of a network that is this share of the whole one.
fn share_of_rest(counted: Counted, whole: &Graph, rest: &Graph, share: f64) -> f64 {
    let count = |graph: &Graph| match counted {
        Counted::Macs => graph.cost().macs,
        Counted::Parameters => graph.cost().parameters,
        Counted::Channels => {
            let groups = graph.group_sizes().into_iter().filter(|group| !group.fixed);
            groups.map(|group| group.channels as u64).sum()
        }
    };
    (share * count(whole) as f64 / count(rest).max(1) as f64).min(1.0)
}

fn resource(counted: Counted) -> Resource {
    match counted {
        Counted::Channels => Resource::Channels,
        Counted::Macs => Resource::Macs,
        Counted::Parameters => Resource::Parameters,
    }
}

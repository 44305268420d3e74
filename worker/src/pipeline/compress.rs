//! Carries out the recipe of a candidate on its trained network, pass by pass.

mod blocks;
mod early;
mod measured;
mod pruning;
mod stages;

use std::collections::BTreeMap;

use edgesmith_common::{AttemptError, Fault, Purpose, StageReport, TrialNumber};
use edgesmith_compress::{Masks, Unfolded, cluster, equalize, fold};
use edgesmith_edge_runtime::Model;
use edgesmith_graph::{Graph, Quantization, Weights};
use edgesmith_search_space::{
    Clustering, Cost, Distillation, FineTuning, Precision, Quantizing, Recipe, Rewind, Step,
};
use edgesmith_train::{Checkpoint, SoftTargets, Trained, settled};

pub use self::measured::Multiples;
use self::stages::{Changed, LEFT_OUT, Pruned, Stages, unpruned};
use super::hopeless;
use super::run::{Pass, Phase, Quantized, Run};

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
    /// What each step did.
    pub stages: Stages,
}

/// What is done to one network, one pass after the other.
pub struct Passes<'a> {
    run: &'a Run<'a>,
    number: TrialNumber,
    soft_targets: Option<&'a SoftTargets>,
    graph: Graph,
    weights: Weights,
    /// The single weights that stay, if some went. The others are 0 in all later passes.
    masks: Option<Masks>,
    images_seen: u64,
    /// Whether the statistics of batch normalisation are those of another network.
    stale: bool,
    /// What trainings learn from the teacher from now on.
    teacher: Option<Distillation>,
    /// Trainings so far.
    trainings: u32,
    /// How many there were when the last step said what is learned of the teacher; `None` if the
    /// first training learned that.
    unlearned: Option<u32>,
    epochs: Epochs,
    /// Epochs of the first training.
    first: u32,
    /// What is left of the weights that the network had so many epochs before the end of the first
    /// training.
    early: BTreeMap<u32, Weights>,
    /// Whether weights that are equal stay so, because they are clusters.
    clustered: bool,
    /// Whether the recipe's layers compute in integers in the end.
    in_integers: bool,
    /// What the pass says beside its name.
    note: Option<String>,
    /// What the prunings since the last training removed.
    pruned: Pruned,
}

/// The first training of a network, for trainings that go back to it.
#[derive(Debug, Clone, Default)]
pub struct First {
    /// How many epochs it had.
    pub epochs: u32,
    /// By how many epochs before its end: the weights that it had then.
    pub early: BTreeMap<u32, Weights>,
}

impl First {
    /// How many epochs before its end a recipe needs the weights.
    pub fn points(recipe: &Recipe) -> Vec<u32> {
        let points = recipe
            .prunings()
            .filter(|pruning| pruning.rewind == Rewind::Weights && !pruning.amount.is_nothing());
        let mut points: Vec<u32> = points.map(|pruning| pruning.epochs).collect();
        points.sort_unstable();
        points.dedup();
        points
    }
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
            Step::Prune(pruning) => pruning.trainings() * pruning.epochs,
            Step::Distil(_) | Step::Cluster(_) | Step::Quantize(_) => 0,
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
        First { epochs: first, early }: First,
    ) -> Self {
        let Trained { weights, images_seen, .. } = trained;
        let (stale, teacher, trainings) = (false, None, 0);
        let (clustered, note, pruned) = (false, None, Pruned::default());
        Self {
            run,
            number,
            soft_targets,
            graph,
            weights,
            masks: None,
            images_seen,
            stale,
            teacher,
            trainings,
            unlearned: None,
            epochs,
            first,
            early,
            clustered,
            // Until the recipe is known.
            in_integers: false,
            note,
            pruned,
        }
    }

    /// Takes all passes of a recipe that change the network. `first` is the stage before them.
    pub fn carry_out(
        mut self,
        recipe: &Recipe,
        first: StageReport,
    ) -> Result<Compressed, AttemptError> {
        self.in_integers = recipe.precision() == Precision::Int8;
        let mut quantized = None;
        let mut stages = Stages::of(first);
        let steps = recipe.steps_on(&self.graph.clone());
        for (place, &(pass, acts)) in steps.iter().enumerate() {
            if self.is_idle(pass, acts) {
                if let Step::Prune(pruning) = pass {
                    self.pruned.add(pruning, false);
                }
                self.idle(pass).into_iter().for_each(|name| stages.idle(name));
                continue;
            }
            if let Some(changes) = self.changes(pass) {
                if let Some(Changed { pass: done, idle }) = stages.take_last() {
                    stages.add(self.stage(done, pass, quantized.as_ref())?, idle);
                }
                stages.begin(changes);
            }
            match (pass, &mut quantized) {
                (Step::Distil(distillation), _) => {
                    self.say_unlearned(&mut stages);
                    self.teacher = Some(*distillation);
                    let learned = place == 0 && self.first > 0;
                    self.unlearned = (!learned).then_some(self.trainings);
                }
                (Step::Prune(pruning), _) => {
                    let trainings = self.trainings;
                    let removed = self.remove(pruning)?;
                    self.pruned.add(pruning, removed);
                    if self.trainings == trainings {
                        stages.trained_nothing();
                    }
                }
                (Step::FineTune(tuning), _) => {
                    self.pruned = Pruned::NotYet;
                    self.fine_tune(*tuning)?;
                }
                (Step::Cluster(clustering), _) => {
                    self.pruned = Pruned::NotYet;
                    self.cluster(*clustering)?;
                }
                (Step::Quantize(quantizing), _) => quantized = Some(self.quantize(quantizing)?),
                (Step::QuantizeAwareTrain(tuning), Some(quantized)) => {
                    self.train_quantized(*tuning, quantized)?;
                }
                (Step::QuantizeAwareTrain(_), None) => {
                    return Err(hopeless("the recipe trains a quantized network before it is one"));
                }
            }
            if let Some(note) = self.note.take() {
                stages.note(&note);
            }
        }
        self.say_unlearned(&mut stages);
        self.renew_statistics()?;
        let Self { run, graph, weights, images_seen, .. } = self;
        let (model, cost) = match &quantized {
            Some(quantized) => run.integer_model(quantized)?,
            None => (run.model(&graph, &weights)?, Cost::of(&graph, Precision::Fp32)),
        };
        Ok(Compressed { graph, weights, images_seen, model, cost, stages })
    }

    /// The stage that a pass ends with; `None` if it leaves the network as it is.
    fn changes(&self, pass: &Step) -> Option<Pass> {
        let name = match pass {
            Step::Distil(_) => return None,
            Step::Prune(_) => "prune",
            Step::FineTune(_) => "fine-tune",
            Step::Cluster(_) => "cluster",
            Step::Quantize(_) => "quantize",
            Step::QuantizeAwareTrain(_) => "quantize-aware-train",
        };
        let trains = self.trains(pass);
        let only_trains = matches!(pass, Step::FineTune(_) | Step::QuantizeAwareTrain(_));
        let taught = self.teacher.is_some() && self.soft_targets.is_some();
        let distilled = trains && taught;
        (trains || !only_trains).then(|| Pass { name: name.to_owned(), distilled })
    }

    /// Whether a pass leaves the network as it is, before it is carried out. `acts` is what the
    /// sizes of the network say; whether channels that compete were removed is known only now.
    fn is_idle(&self, pass: &Step, acts: bool) -> bool {
        !acts || (matches!(pass, Step::FineTune(_)) && self.pruned.leaves_out())
    }

    /// The name of the stage of such a pass; `None` if settings of the recipe switch it off.
    fn idle(&self, pass: &Step) -> Option<String> {
        match pass {
            Step::Prune(pruning) => {
                let why = unpruned(&pruning.amount, &self.graph);
                (!pruning.amount.is_nothing()).then(|| format!("prune nothing: {why}"))
            }
            Step::FineTune(tuning) => {
                // A training of so many epochs is meant even where a share of 0 is chosen.
                let meant =
                    tuning.epochs.is_some() || self.pruned == Pruned::Nothing { meant: true };
                (meant && self.epochs_of(*tuning) > 0).then(|| LEFT_OUT.to_owned())
            }
            Step::Distil(_)
            | Step::Cluster(_)
            | Step::Quantize(_)
            | Step::QuantizeAwareTrain(_) => None,
        }
    }

    /// Whether a pass trains the network.
    fn trains(&self, pass: &Step) -> bool {
        match pass {
            Step::Prune(pruning) => pruning.trainings() > 0 && pruning.epochs > 0,
            Step::FineTune(tuning) | Step::QuantizeAwareTrain(tuning) => {
                self.epochs_of(*tuning) > 0
            }
            Step::Distil(_) | Step::Cluster(_) | Step::Quantize(_) => false,
        }
    }

    /// Says of the last step `distil` that no training came after it.
    fn say_unlearned(&mut self, stages: &mut Stages) {
        if self.unlearned.take() == Some(self.trainings) {
            stages.idle("distil nothing: no training follows".to_owned());
        }
    }

    /// Evaluates the network between two passes. Nothing of what follows depends on it.
    fn stage(
        &mut self,
        done: Pass,
        next: &Step,
        quantized: Option<&Quantized>,
    ) -> Result<StageReport, AttemptError> {
        self.run.context.progress(self.epochs.next(0).0, "evaluate");
        if let Some(quantized) = quantized {
            let (model, cost) = self.run.integer_model(quantized)?;
            return self.run.stage(done, &cost, &model);
        }
        // A training starts from the weights as they are, so it must not see new statistics. Other
        // passes begin with renewing them.
        let renewed = match next {
            Step::FineTune(_) if self.stale => {
                match self.run.renew_statistics(&self.graph, &self.weights) {
                    Ok(renewed) => Some(renewed),
                    // The training may need less, so only this stage stays unmeasured.
                    Err(error) if error.fault == Fault::Memory => return Ok(done.unmeasured()),
                    Err(error) => return Err(error),
                }
            }
            Step::Distil(_)
            | Step::Prune(_)
            | Step::FineTune(_)
            | Step::Cluster(_)
            | Step::Quantize(_)
            | Step::QuantizeAwareTrain(_) => {
                self.renew_statistics()?;
                None
            }
        };
        let model = self.run.model(&self.graph, renewed.as_ref().unwrap_or(&self.weights))?;
        self.run.stage(done, &Cost::of(&self.graph, Precision::Fp32), &model)
    }

    /// Folds the network, because its clusters are those of the weights that ship.
    fn cluster(&mut self, clustering: Clustering) -> Result<(), AttemptError> {
        self.renew_statistics()?;
        self.run.context.progress(self.epochs.next(0).1, "cluster");
        let (graph, weights) = fold(&self.graph, &self.weights);
        let clusters = clustering.clusters as usize;
        let clustered = cluster(&graph, &weights, self.masks.as_ref(), clusters);
        if clustered == weights {
            let text = format!(" nothing: no layer has more than {clusters} different weights");
            self.note = Some(text);
        }
        self.weights = self.unbiased(&graph, &weights, clustered)?;
        (self.graph, self.stale, self.clustered) = (graph, true, true);
        Ok(())
    }

    /// The changed weights of a network, with the biases with which its layers keep the means that
    /// they have with `before`.
    fn unbiased(
        &self,
        graph: &Graph,
        before: &Weights,
        changed: Weights,
    ) -> Result<Weights, AttemptError> {
        let whole = graph.clone().without(&graph.channels(), []);
        let whole = whole.expect("a network without a loss is one");
        self.run.correct_biases(graph, before, &whole, changed)
    }

    fn quantize(&mut self, quantizing: &Quantizing) -> Result<Quantized, AttemptError> {
        self.renew_statistics()?;
        self.run.context.progress(self.epochs.next(0).1, "quantize");
        if quantizing.equalize {
            let (graph, weights) = fold(&self.graph, &self.weights);
            if equalize(&graph, &weights) == weights {
                self.note = Some(", no layers to equalize".to_owned());
            }
        }
        self.run.quantized(&self.graph, &self.weights, quantizing)
    }

    /// Trains the network of integers. Its weights become those of the network.
    fn train_quantized(
        &mut self,
        tuning: FineTuning,
        quantized: &mut Quantized,
    ) -> Result<(), AttemptError> {
        let Quantized { graph, weights, quantization, partly: _, coarse } = quantized;
        if coarse.is_some() {
            return Err(hopeless("the recipe trains levels that no training simulates"));
        }
        let unfolded = match tuning.normalize {
            true => self.run.unfolded(graph, weights, quantization)?,
            false => None,
        };
        if tuning.normalize && self.epochs_of(tuning) > 0 {
            self.note = match unfolded.as_ref().map_or((0, 0), Unfolded::normalized) {
                (0, _) => Some(", no layers to normalize".to_owned()),
                (own, all) if own < all => Some(format!(", {own} of {all} layers normalized")),
                (_, _) => None,
            };
        }
        let start = match &unfolded {
            Some(Unfolded { graph, weights, quantization, .. }) => {
                (graph, weights.clone(), Some(quantization))
            }
            None => (&*graph, weights.clone(), Some(&*quantization)),
        };
        let trained = self.train("quantized epoch", tuning, start, None)?;
        let Some(trained) = trained else { return Ok(()) };
        let learned = trained.quantization.expect("it was simulated");
        (*weights, *quantization) = match unfolded {
            Some(unfolded) => {
                // The last batches of the training say less of the statistics than all images.
                let of = (&unfolded.graph, &trained.weights, Some(&learned));
                let renewed = self.run.renew_statistics_of(of.0, of.1, of.2)?;
                let folded = unfolded.fold(graph, quantization, &renewed, &learned);
                settled(graph, &folded.0, &folded.1)
            }
            None => (trained.weights, learned),
        };
        (self.graph, self.weights) = (graph.clone(), weights.clone());
        Ok(())
    }

    fn fine_tune(&mut self, tuning: FineTuning) -> Result<(), AttemptError> {
        let (graph, weights) = (self.graph.clone(), self.weights.clone());
        let start = (&graph, weights, None);
        if let Some(tuned) = self.train("fine-tune epoch", tuning, start, None)? {
            (self.weights, self.stale) = (tuned.weights, false);
        }
        Ok(())
    }

    /// Trains a network further; `None` if it is for no epochs. `skipped` are the epochs of the
    /// first training's schedule before those that it has the learning rates of.
    fn train(
        &mut self,
        name: &'static str,
        tuning: FineTuning,
        (graph, weights, quantization): (&Graph, Weights, Option<&Quantization>),
        skipped: Option<u32>,
    ) -> Result<Option<Trained>, AttemptError> {
        let training = &self.run.study.work.training;
        let epochs = self.epochs_of(tuning);
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
            learning_rate: match skipped {
                Some(_) => training.learning_rate,
                None => tuning.learning_rate.unwrap_or(training.fine_tune_learning_rate),
            },
            skipped: skipped.unwrap_or(0),
            shrink: (tuning.shrink, tuning.shrink_by),
            ties: self.clustered && quantization.is_none(),
            first: None,
            keeps_statistics: false,
            shuffle,
            teacher: self.teacher.zip(self.soft_targets),
            quantization,
            masks: self.masks.as_ref(),
        })?;
        self.trainings += 1;
        self.images_seen += trained.images_seen;
        Ok(Some(trained))
    }

    fn epochs_of(&self, tuning: FineTuning) -> u32 {
        tuning.epochs.unwrap_or(self.run.study.work.training.fine_tune_epochs)
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

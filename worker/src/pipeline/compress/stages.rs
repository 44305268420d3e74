//! The stages of a network that is compressed: one for each pass that changed it, and one for each
//! step that left it as it was, so that nobody looks for its effect. Steps that their own settings
//! switch off, such as a share of 0, are as if they were not there.

use edgesmith_common::StageReport;
use edgesmith_graph::Graph;
use edgesmith_search_space::{Amount, PruneUnit, Pruning};

use super::super::run::{Evaluated, Pass};

/// The name of the stage of a training that is left out; see [`Pruned`].
pub const LEFT_OUT: &str = "fine-tune left out: nothing was pruned";

/// The stages so far. The last pass that changed the network is known only when the next one
/// begins, or when the network ships.
pub struct Stages {
    /// With the network before the first pass.
    done: Vec<StageReport>,
    last: Option<Changed>,
}

/// A pass that changed the network.
pub struct Changed {
    pub pass: Pass,
    /// What is said of the steps after it that left the network as it was.
    pub idle: Vec<String>,
}

impl Stages {
    /// Of a network that no pass changed yet.
    pub fn of(first: StageReport) -> Self {
        Self { done: vec![first], last: None }
    }

    /// Adds a step that left the network as it was.
    pub fn idle(&mut self, name: String) {
        match &mut self.last {
            Some(last) => last.idle.push(name),
            None => self.repeat(name),
        }
    }

    /// The last pass that changed the network; whoever takes it adds its stage.
    pub fn take_last(&mut self) -> Option<Changed> {
        self.last.take()
    }

    /// Adds the stage of a pass that was taken, and what followed it.
    pub fn add(&mut self, stage: StageReport, idle: Vec<String>) {
        self.done.push(stage);
        idle.into_iter().for_each(|name| self.repeat(name));
    }

    /// Begins a pass that changes the network.
    pub fn begin(&mut self, pass: Pass) {
        self.last = Some(Changed { pass, idle: Vec::new() });
    }

    /// Says of the pass that was begun that it did not train after all.
    pub fn trained_nothing(&mut self) {
        if let Some(last) = &mut self.last {
            last.pass.distilled = false;
        }
    }

    /// Adds to the name of the pass that changes the network.
    pub fn note(&mut self, note: &str) {
        if let Some(last) = &mut self.last {
            last.pass.name.push_str(note);
        }
    }

    /// All stages, if this is the network as it ships.
    pub fn shipped(mut self, evaluated: &Evaluated) -> Vec<StageReport> {
        if let Some(Changed { pass, idle }) = self.last.take() {
            self.add(evaluated.stage(pass), idle);
        }
        self.done
    }

    /// The network is still that of the last stage.
    fn repeat(&mut self, pass: String) {
        let last = self.done.last().cloned();
        self.done.extend(last.map(|last| StageReport { pass, distilled: false, ..last }));
    }
}

/// What a pruning is told that removed nothing of this network: it follows ` nothing: `.
pub fn unpruned(amount: &Amount, graph: &Graph) -> &'static str {
    match amount.unit() {
        PruneUnit::Channels => {
            if graph.group_sizes().iter().all(|group| group.fixed) {
                "no layer may lose channels"
            } else {
                "every layer keeps its channels"
            }
        }
        PruneUnit::Weights => "the share is less than one weight",
        PruneUnit::TwoOfFour => "no layer reads more than two channels",
        PruneUnit::Blocks => "no residual block",
    }
}

/// What the prunings since the last training removed. A training after prunings that removed nothing
/// has nothing to make good, so it is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pruned {
    /// There was no pruning.
    #[default]
    NotYet,
    /// They removed nothing. `meant`: whether any of them has a share or a budget.
    Nothing { meant: bool },
    /// They removed something.
    Something,
}

impl Pruned {
    /// Notes a pruning, and whether it removed anything.
    pub fn add(&mut self, pruning: &Pruning, removed: bool) {
        let meant = !pruning.amount.is_nothing();
        *self = match *self {
            _ if removed => Self::Something,
            Self::Something => Self::Something,
            Self::Nothing { meant: before } => Self::Nothing { meant: before || meant },
            Self::NotYet => Self::Nothing { meant },
        };
    }

    /// Whether the next training is left out.
    pub fn leaves_out(self) -> bool {
        match self {
            Self::Nothing { .. } => true,
            Self::NotYet | Self::Something => false,
        }
    }
}

//! Imported results: trials of earlier studies, given by a user or taken from studies that the
//! study file names. They become trials that are complete from the start. They use no budget and
//! have no model here, and algorithms learn from them.

use std::collections::BTreeMap;

use edgesmith_common::{StudyName, StudySpec};
use edgesmith_search_space::{Cost, Genotype, Space};

use super::outcome::missing_in;
use super::turn::Turn;
use crate::core::command::{Answer, Refusal};
use crate::core::event::KnownTrial;
use crate::core::record::Record;

impl Turn<'_> {
    /// Imports known results into a study. Candidates that the study already has are skipped.
    ///
    /// # Errors
    /// If the study is unknown or has ended, if a trial is not a network of the space, or if it
    /// lacks a figure that the study asks for. Then nothing is imported.
    pub(super) fn import(
        &mut self,
        name: &StudyName,
        trials: Vec<KnownTrial>,
    ) -> Result<Answer, Refusal> {
        let study = self.core.study(name)?;
        if study.state().is_ended() {
            return Err(Refusal::Ended { study: name.clone(), state: study.state().name() });
        }
        for (place, trial) in trials.iter().enumerate() {
            let impossible = trial.figures.check().err().map(|error| error.to_string());
            if let Some(reason) = impossible.or_else(|| unfit(trial, study.spec())) {
                return Err(Refusal::NotImportable { place, reason });
            }
        }
        let all = trials.len();
        let imported = self.take_in(name, trials);
        Ok(Answer::Imported { imported: imported as u32, known: (all - imported) as u32 })
    }

    /// The trials of the earlier studies that a study starts from, and how many complete trials do
    /// not fit it, by the reason.
    ///
    /// # Errors
    /// If a named study does not exist, is on other data, or is around another network.
    pub(super) fn earlier_trials(
        &self,
        spec: &StudySpec,
    ) -> Result<(Vec<KnownTrial>, BTreeMap<String, u32>), Refusal> {
        let (mut trials, mut left_out) = (Vec::new(), BTreeMap::new());
        for name in &spec.start_from {
            let study = self.core.study(name)?;
            if !on_same_data(study.spec(), spec) {
                return Err(Refusal::OtherData { study: spec.name.clone(), earlier: name.clone() });
            }
            if !of_same_network(study.spec(), spec) {
                let (study, earlier) = (spec.name.clone(), name.clone());
                return Err(Refusal::OtherNetwork { study, earlier });
            }
            for (number, figures) in study.trials().complete() {
                let named = study.spec().space.named(study.trials()[number].genotype());
                let genotype = spec.space.genotype_of_names(&named).map_err(|e| e.to_string());
                let known = genotype.and_then(|genotype| {
                    let trial = KnownTrial { genotype, figures: figures.clone() };
                    unfit(&trial, spec).map_or(Ok(trial), Err)
                });
                match known {
                    Ok(trial) => trials.push(trial),
                    Err(reason) => *left_out.entry(reason).or_default() += 1,
                }
            }
        }
        Ok((trials, left_out))
    }

    /// Records the trials that are new to the study; returns their number.
    pub(super) fn take_in(&mut self, name: &StudyName, trials: Vec<KnownTrial>) -> usize {
        let space = self.core.known(name).spec().space.clone();
        let mut imported = 0;
        for KnownTrial { genotype, mut figures } in trials {
            if !self.core.lacks_candidate(name, &genotype) {
                continue;
            }
            if let Some(cost) = analytic(&space, &genotype) {
                figures.set_cost(&cost);
            }
            let number = self.core.known(name).trials().next_number();
            let (study, genotype) = (name.clone(), genotype.indices().to_vec());
            self.record(Record::TrialImported { study, number, genotype, figures });
            imported += 1;
        }
        imported
    }
}

/// Why a known result does not fit a study; `None` if it does. Values are not checked, because an
/// earlier study has already accepted them.
fn unfit(trial: &KnownTrial, spec: &StudySpec) -> Option<String> {
    if let Err(error) = spec.space.canonical_hash(&trial.genotype) {
        return Some(error.to_string());
    }
    let needed = spec.needed_of_known();
    missing_in(&trial.figures, &needed).map(|of| format!("it has no {of}"))
}

/// The costs that can be computed from a candidate's network; `None` in a study over a table.
fn analytic(space: &Space, genotype: &Genotype) -> Option<Cost> {
    let (candidate, data) = match space {
        Space::Staged(space) => (space.decode(genotype), space.data()),
        Space::Model(space) => (space.decode(genotype), space.data()),
        Space::Cell(_) => return None,
    };
    if !candidate.recipe.fixes_costs() {
        return None;
    }
    let network = candidate.pruned_graph(data).ok()?;
    Some(Cost::of(&network, candidate.recipe.precision()))
}

/// Whether two studies are on the same network of their user, or on none.
fn of_same_network(a: &StudySpec, b: &StudySpec) -> bool {
    match (a.model(), b.model()) {
        (Some(a_model), Some(b_model)) => {
            let head =
                |spec: &StudySpec| spec.training()?.space.model().map(|s| s.definition().head);
            a_model.file.is_same(&b_model.file)
                && (&a_model.pixels, a_model.head_epochs) == (&b_model.pixels, b_model.head_epochs)
                && head(a) == head(b)
        }
        (a_model, b_model) => a_model.is_none() && b_model.is_none(),
    }
}

/// Whether two studies are on the same data, so that their accuracies are comparable.
pub(super) fn on_same_data(a: &StudySpec, b: &StudySpec) -> bool {
    match (a.training(), b.training()) {
        // Channels and classes belong to the space.
        (Some(x), Some(y)) => x.data == y.data && x.space.data() == y.space.data(),
        (None, None) => a.work == b.work,
        _ => false,
    }
}

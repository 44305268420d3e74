//! What is in the way of a study, in sentences.

use std::collections::BTreeSet;

use edgesmith_common::{Needs, StudyName};

use super::workers::Exclusion;
use crate::core::state::Core;
use crate::core::study::{Check, Queue, Study};

/// What is in the way of a study, and whether it waits until that is mended.
pub fn problems(core: &Core, study: &Study, exclusions: &[Exclusion]) -> (Vec<String>, bool) {
    if study.state().is_ended() {
        return (Vec::new(), false);
    }
    let name = &study.spec().name;
    let mut problems = Vec::new();
    let mut blocked = false;
    if let Check::Damaged { reason } = study.data().check() {
        let mend = if study.keeps_data() && study.data().hash().is_some() {
            format!(
                "it has results, so restore the very files that it began with, then run \
                 `edgesmith retry {name}`"
            )
        } else {
            format!(
                "mend them, then run `edgesmith retry {name}`; or correct the study file, and \
                 submit it again"
            )
        };
        problems.push(format!("its data are damaged or do not fit it: {reason}; {mend}"));
        blocked = true;
    }
    problems.extend(unlike_earlier(core, study));
    problems.extend(exclusions.iter().map(ToString::to_string));
    let needs: BTreeSet<&Needs> = exclusions.iter().map(|of| &of.needs).collect();
    let waits = |needs: &&Needs| match &needs.target {
        Some(target) => study.tasks().first_waiting(Queue::Measure(target.clone())).is_some(),
        None => study.awaits_trainer() || study.awaits_table(),
    };
    let unmet = |needs: &&Needs| waits(needs) && !core.connected().any_can_do(name, needs);
    for needs in needs.into_iter().filter(unmet) {
        let what = match &needs.target {
            Some(target) => format!("measures on {target}"),
            // Workers that failed such tasks are asked, so these ones lack the data.
            None => "can read its data".to_owned(),
        };
        problems.push(format!(
            "no connected worker {what}; mend this one and run `edgesmith retry {name}`, or \
             start another worker"
        ));
        blocked = true;
    }
    (problems, blocked && study.tasks().running() == 0)
}

/// Says which earlier studies, whose trials this one imported at its start, had other data. The
/// hashes include the split, so only studies with the same seed can be compared.
fn unlike_earlier(core: &Core, study: &Study) -> Vec<String> {
    let differs = |name: &&StudyName| {
        let earlier = core.find(name).filter(|of| of.created() < study.created());
        earlier.is_some_and(|of| {
            let hashes = of.data().hash().zip(study.data().hash());
            of.spec().seed == study.spec().seed && hashes.is_some_and(|(then, now)| then != now)
        })
    };
    let name = &study.spec().name;
    let text = |earlier: &StudyName| {
        format!(
            "the data of study {earlier}, whose trials it imported, were others, so their \
             accuracies are not comparable; to leave them out, run `edgesmith delete {name}` \
             and submit it without them in study.start_from"
        )
    };
    if study.trials().iter().any(|(_, trial)| trial.is_imported()) {
        study.spec().start_from.iter().filter(differs).map(text).collect()
    } else {
        Vec::new()
    }
}

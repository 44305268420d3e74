//! Teachers beside a study's own one: a network from a file, with the classes in the order of the
//! study's; others that are asked with it, trained or from files; and assistants that learn from
//! them all.

use std::sync::Arc;

use edgesmith_common::spec::{
    GivenLogits, OtherSource, OtherTeacher, TeacherModel, TeacherSource, TeacherSpec,
};
use edgesmith_common::{AttemptError, Purpose};
use edgesmith_data::Normalization;
use edgesmith_graph::{Graph, Weights};
use edgesmith_search_space::{Design, Distillation, Features, Shrink};
use edgesmith_train::{Checkpoint, SoftTargets, safetensors};

use super::run::{Phase, Run, Study};
use super::start::{Start, order_classes};
use super::{Pipeline, head_alone, hopeless, inputs};
use crate::session::AttemptContext;

/// Where the progress of a teacher's task stands after all trainings.
const TRAINED: f64 = 0.8;

/// The trainings of a teacher's task, for its progress.
pub struct Trainings {
    all: usize,
    done: usize,
}

impl Trainings {
    pub fn of(teacher: &TeacherSpec) -> Self {
        let first = matches!(teacher.source, TeacherSource::Train { .. });
        let is_trained = |other: &&OtherTeacher| matches!(other.source, OtherSource::Train { .. });
        let others = teacher.others.iter().filter(is_trained).count();
        let all = usize::from(first) + others + teacher.assistants.len();
        Self { all, done: 0 }
    }

    /// The part of the progress that the next training covers.
    pub fn next(&mut self) -> (f64, f64) {
        let from = self.progress();
        self.done += 1;
        (from, self.progress())
    }

    /// Where the progress stands.
    pub fn progress(&self) -> f64 {
        if self.all == 0 { TRAINED } else { TRAINED * self.done as f64 / self.all as f64 }
    }
}

/// What students copy of the first teacher besides its answers. Assistants have features of their
/// own.
pub fn features_of_first(study: &Study<'_>, teacher: &TeacherSpec) -> Vec<Features> {
    if teacher.assistants.is_empty() { study.work.space.recipe().features() } else { Vec::new() }
}

/// A network of a teacher's task that is trained: its design and its randomness.
struct Further<'a> {
    design: &'a Design,
    epochs: u32,
    weights: Purpose,
    shuffle: Purpose,
}

impl Pipeline {
    /// What students learn in the end, if the first teacher says `targets`: the mean with the
    /// answers of the other teachers, passed on by the assistants.
    pub(super) fn passed_on(
        &self,
        run: &Run<'_>,
        teacher: &TeacherSpec,
        mut targets: SoftTargets,
        trainings: &mut Trainings,
    ) -> Result<SoftTargets, AttemptError> {
        let mut weight = 1.0;
        for (place, other) in (0..).zip(&teacher.others) {
            let answers = self.answers_of(run, (place, other), trainings)?;
            targets.average(weight, &answers, other.weight);
            weight += other.weight;
        }
        for (place, assistant) in (0..).zip(&teacher.assistants) {
            let further = Further {
                design: &assistant.architecture,
                epochs: assistant.epochs,
                weights: Purpose::AssistantWeights(place),
                shuffle: Purpose::AssistantShuffle(place),
            };
            let learns = Distillation::of_answers(assistant.alpha, assistant.temperature);
            let taught = Some((learns, &targets));
            let (graph, weights) = self.train_further(run, &further, taught, trainings.next())?;
            run.context.progress(trainings.progress(), "soft targets");
            let last = place as usize + 1 == teacher.assistants.len();
            let all = run.study.work.space.recipe().features();
            let features = if last { &all[..] } else { &[] };
            targets = run.soft_targets(&graph, &weights, &run.dataset.normalization, features)?;
        }
        Ok(targets)
    }

    /// What a teacher beside the first, which has this place among them, says.
    fn answers_of(
        &self,
        run: &Run<'_>,
        (place, other): (u32, &OtherTeacher),
        trainings: &mut Trainings,
    ) -> Result<Arc<SoftTargets>, AttemptError> {
        let of = |graph: &Graph, weights: &Weights, normalization: &Normalization, progress| {
            run.context.progress(progress, "soft targets");
            run.soft_targets(graph, weights, normalization, &[]).map(Arc::new)
        };
        match &other.source {
            OtherSource::Train { architecture, epochs } => {
                let further = Further {
                    design: architecture,
                    epochs: *epochs,
                    weights: Purpose::OtherTeacherWeights(place),
                    shuffle: Purpose::OtherTeacherShuffle(place),
                };
                let (graph, weights) = self.train_further(run, &further, None, trainings.next())?;
                of(&graph, &weights, &run.dataset.normalization, trainings.progress())
            }
            OtherSource::Network { architecture, model } => {
                let of_study = (run.study, run.context);
                let start = given_network(model, architecture, &run.class_names, of_study);
                let Start { graph, weights } = start?;
                let normalization = inputs::normalization(&model.read_pixels());
                of(&graph, &weights, &normalization, trainings.progress())
            }
            OtherSource::Logits(GivenLogits { path, file }) => {
                let fetch = || run.study.given(*file, "a teacher's file of logits", run.context);
                inputs::given_logits(&self.soft_targets, *file, path, run.dataset, fetch)
            }
        }
    }

    fn train_further(
        &self,
        run: &Run<'_>,
        further: &Further<'_>,
        teacher: Option<(Distillation, &SoftTargets)>,
        span: (f64, f64),
    ) -> Result<(Graph, Weights), AttemptError> {
        let study = run.study;
        let seed = study.seed.derive(further.weights);
        let Start { graph, weights } = self.start(study, further.design, seed, run.context)?;
        let own = matches!(further.design, Design::Model(_));
        let trained = run.train(Phase {
            name: "epoch",
            span,
            graph: &graph,
            start: Checkpoint::fresh(weights),
            epochs: further.epochs,
            until: further.epochs,
            learning_rate: study.work.training.learning_rate,
            skipped: 0,
            shrink: (Shrink::None, 0.0),
            ties: false,
            first: head_alone(study).filter(|_| own),
            keeps_statistics: own,
            shuffle: further.shuffle,
            teacher,
            quantization: None,
            masks: None,
        })?;
        Ok((graph, trained.weights))
    }
}

/// The network of `model`, which stands in the study as `design`, as it is. `classes` are the names
/// of the study's classes, if they have names. The weights are those that the study names, because
/// they are fetched by their hash.
///
/// # Errors
/// If the names of its classes are others than those of the study.
pub fn given_network(
    model: &TeacherModel,
    design: &Design,
    classes: &[String],
    (study, context): (&Study<'_>, &AttemptContext),
) -> Result<Start, AttemptError> {
    let file = &model.file;
    let weights = study.given(file.weights, "the teacher's network", context)?;
    let mut weights = safetensors::from_bytes(&weights).map_err(hopeless)?;
    weights.check(&file.network).map_err(hopeless)?;
    let own = &file.classes;
    let same = own.len() == classes.len() && classes.iter().all(|name| own.contains(name));
    if !own.is_empty() && !classes.is_empty() && !same {
        return Err(AttemptError::of_data(format!(
            "the classes of the teacher {} are {}, but those of the study are {}; give a teacher of \
             the same classes, or rename the folders of the data",
            model.path,
            own.join(", "),
            classes.join(", ")
        )));
    }
    order_classes(&file.network, &mut weights, own, classes)?;
    Ok(Start { graph: design.graph(study.work.space.data()).map_err(hopeless)?, weights })
}

//! What each pass of a recipe made of a network: its figures after the pass, and how many images of
//! each class it then classifies right. Says nothing about how passes work.

use crate::Figures;
use crate::metric::{Scope, Split};

/// A network after one pass of its recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct StageReport {
    /// The pass, as study files name it, such as `prune`; [`StageReport::ORIGINAL`] or
    /// [`StageReport::TRAINED`] for the network before the first one.
    pub pass: String,
    /// Whether the training of this pass learned from the teacher, too.
    pub distilled: bool,
    /// Of the model file that the network would be at this stage, run in the edge runtime: on the
    /// validation images, its size, and what follows from its structure. Absent where unmeasured.
    pub figures: Figures,
    /// By class, in the order of the network's outputs, on the validation images. Empty if it is
    /// not known.
    pub classes: Vec<ClassCount>,
}

/// Images of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassCount {
    /// How many there are.
    pub images: u32,
    /// How many of them are classified right.
    pub right: u32,
}

/// A class whose accuracy changed from one stage to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassChange {
    /// Its place in the network's outputs.
    pub class: usize,
    /// How many images of it there are.
    pub images: u32,
    /// Share of them that are classified right before, `0..=1`.
    pub before: f64,
    /// The same afterwards.
    pub after: f64,
}

impl StageReport {
    /// The stage of a network that is used as it came.
    pub const ORIGINAL: &'static str = "original";
    /// The stage of a network after the training that the study describes.
    pub const TRAINED: &'static str = "trained";
    /// With more classes than this, images are not counted by class.
    pub const MAX_CLASSES: usize = 1000;

    /// Whether such a stage can be.
    ///
    /// # Errors
    /// Says what is wrong, worded to follow "the worker reported".
    pub fn check(&self) -> Result<(), String> {
        let pass = &self.pass;
        self.figures.check().map_err(|e| format!("an invalid figure after {pass}: {e}"))?;
        let measured = |scope: &Scope| match scope {
            Scope::Whole | Scope::Split(Split::Validation) => true,
            Scope::Split(Split::Test | Split::HeldOut(_)) | Scope::Target(_) => false,
        };
        if let Some((of, _)) = self.figures.iter().find(|(of, _)| !measured(&of.scope)) {
            return Err(format!("{of} after {pass}, which a stage does not have"));
        }
        match self.classes.iter().find(|class| class.right > class.images) {
            Some(ClassCount { images, right }) => {
                Err(format!("{right} right ones of {images} images of a class after {pass}"))
            }
            None => Ok(()),
        }
    }
}

/// How the accuracy of each class changed from one stage to another, the greatest loss first.
/// Classes without images are left out. Empty if one of the stages does not know its classes.
pub fn class_changes(before: &StageReport, after: &StageReport) -> Vec<ClassChange> {
    if before.classes.len() != after.classes.len() {
        return Vec::new();
    }
    let share = |count: &ClassCount| f64::from(count.right) / f64::from(count.images);
    let pairs = before.classes.iter().zip(&after.classes).enumerate();
    let known = pairs.filter(|(_, (before, after))| before.images > 0 && after.images > 0);
    let mut changes: Vec<ClassChange> = known
        .map(|(class, (before, after))| {
            let (images, before, after) = (before.images, share(before), share(after));
            ClassChange { class, images, before, after }
        })
        .collect();
    // The sort is stable, so that of equal losses the first class comes first.
    changes.sort_by(|a, b| (a.after - a.before).total_cmp(&(b.after - b.before)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metric, ScopedMetric, Target};

    fn stage(classes: &[(u32, u32)]) -> StageReport {
        let classes = classes.iter().map(|&(images, right)| ClassCount { images, right });
        let figures = Figures::new().with(ScopedMetric::VALIDATION_ACCURACY, 0.5);
        let pass = "prune".to_owned();
        StageReport { pass, distilled: false, figures, classes: classes.collect() }
    }

    #[test]
    fn the_class_that_lost_most_comes_first() {
        let before = stage(&[(10, 9), (20, 20), (0, 0), (4, 2), (10, 9)]);
        let after = stage(&[(10, 8), (20, 10), (0, 0), (4, 4), (10, 8)]);
        let changes = class_changes(&before, &after);
        let order: Vec<usize> = changes.iter().map(|change| change.class).collect();
        assert_eq!(order, [1, 0, 4, 3], "a class without images has no accuracy");
        let worst = ClassChange { class: 1, images: 20, before: 1.0, after: 0.5 };
        assert_eq!(changes[0], worst);
        assert_eq!(class_changes(&before, &stage(&[])), []);
    }

    #[test]
    fn impossible_stages_are_told() {
        assert_eq!(stage(&[(3, 3)]).check(), Ok(()));
        let said = stage(&[(3, 3), (3, 4)]).check().unwrap_err();
        assert_eq!(said, "4 right ones of 3 images of a class after prune");
        let with = |of: ScopedMetric, value| {
            let mut stage = stage(&[]);
            stage.figures.set(of, value);
            stage.check().unwrap_err()
        };
        assert!(with(Metric::MACS.whole(), 0.5).starts_with("an invalid figure after prune: macs"));
        let board = Target::on("board".parse().unwrap());
        let said = with(Metric::LATENCY_MS.at(board), 1.0);
        assert_eq!(said, "latency_ms@board after prune, which a stage does not have");
        let said = with(ScopedMetric::TEST_ACCURACY, 0.5);
        assert_eq!(said, "test_accuracy after prune, which a stage does not have");
    }
}

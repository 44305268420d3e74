//! The stages of a trial as tables: what each pass of its recipe made of the network, and which
//! classes lost accuracy from the first stage to the last. They are for people; JSON is in `json`.

use edgesmith_common::{ClassChange, Metric, ScopedMetric, StageReport, class_changes};
use edgesmith_console::table::{self, Align};

use super::columns::cell;

/// Most classes that are listed.
const MOST_CLASSES: usize = 5;

/// Both tables. Empty if no pass changed the network, or if the stages are not known. Classes
/// without a name are called by their number.
pub fn tables(stages: &[StageReport], class_names: &[String]) -> String {
    match stages {
        [] | [_] => String::new(),
        [first, .., last] => {
            format!("\n{}{}", of_passes(stages), of_classes(first, last, class_names))
        }
    }
}

fn of_passes(stages: &[StageReport]) -> String {
    let columns = [
        ("stage", Align::Left),
        ("validation", Align::Right),
        ("change", Align::Right),
        ("size", Align::Right),
        ("parameters", Align::Right),
        ("MACs", Align::Right),
        ("peak memory", Align::Right),
    ];
    let before = std::iter::once(None).chain(stages.iter().map(Some));
    let row = |(before, stage): (Option<&StageReport>, &StageReport)| {
        let accuracy = |stage: &StageReport| stage.figures.validation_accuracy();
        let change = before.and_then(accuracy).zip(accuracy(stage));
        let change = change.map_or_else(|| "–".to_owned(), |(then, now)| points(now - then));
        let counted =
            [Metric::MODEL_BYTES, Metric::PARAMETERS, Metric::MACS, Metric::PEAK_MEMORY_BYTES];
        let taught = if stage.distilled { ", distilled" } else { "" };
        let mut cells = vec![
            format!("{}{taught}", stage.pass),
            cell(&ScopedMetric::VALIDATION_ACCURACY, &stage.figures),
            change,
        ];
        cells.extend(counted.map(|metric| cell(&metric.whole(), &stage.figures)));
        cells
    };
    table::render(&columns, &before.zip(stages).map(row).collect::<Vec<_>>())
}

/// The classes that lost most; empty if the images are not counted by class.
fn of_classes(first: &StageReport, last: &StageReport, class_names: &[String]) -> String {
    let changes = class_changes(first, last);
    if changes.is_empty() {
        return String::new();
    }
    let lost: Vec<&ClassChange> =
        changes.iter().filter(|change| change.after < change.before).collect();
    if lost.is_empty() {
        return "\nno class lost accuracy on the validation images\n".to_owned();
    }
    // Without what they say beside it.
    let name = |stage: &StageReport| stage.pass.split([' ', ',']).next().unwrap_or("").to_owned();
    let [before, after] = [name(first), name(last)];
    let columns = [
        ("class", Align::Left),
        ("images", Align::Right),
        (&*before, Align::Right),
        (&*after, Align::Right),
        ("change", Align::Right),
    ];
    let row = |change: &&ClassChange| {
        let &ClassChange { class, images, before, after } = *change;
        let name = class_names.get(class).cloned().unwrap_or_else(|| class.to_string());
        let shares = [before, after].map(table::percent);
        let mut cells = vec![name, images.to_string()];
        cells.extend(shares);
        cells.push(points(after - before));
        cells
    };
    let shown: Vec<Vec<String>> = lost.iter().take(MOST_CLASSES).map(row).collect();
    let more = match lost.len().saturating_sub(MOST_CLASSES) {
        0 => String::new(),
        1 => "and 1 more class lost accuracy\n".to_owned(),
        more => format!("and {more} more classes lost accuracy\n"),
    };
    let classes = if changes.len() == 1 { "class" } else { "classes" };
    format!(
        "\n{} of {} {classes} lost accuracy on the validation images, most of all:\n{}{more}",
        lost.len(),
        changes.len(),
        table::render(&columns, &shown)
    )
}

/// A difference of accuracies. One that is 0 in these digits has no sign.
pub fn points(difference: f64) -> String {
    let digits = format!("{:+.2}", difference * 100.0);
    let digits = if matches!(&*digits, "+0.00" | "-0.00") { "0.00" } else { &*digits };
    format!("{digits} points")
}

#[cfg(test)]
pub(crate) mod tests {
    use edgesmith_common::{ClassCount, Figures};

    use super::*;

    /// A stage of 10 images for each class, of which so many are right.
    pub fn stage(pass: &str, distilled: bool, bytes: f64, right: &[u32]) -> StageReport {
        let accuracy = f64::from(right.iter().sum::<u32>()) / (10.0 * right.len().max(1) as f64);
        let figures = Figures::new()
            .with(ScopedMetric::VALIDATION_ACCURACY, accuracy)
            .with(Metric::MODEL_BYTES.whole(), bytes);
        let classes = right.iter().map(|&right| ClassCount { images: 10, right }).collect();
        StageReport { pass: pass.to_owned(), distilled, figures, classes }
    }

    #[test]
    fn each_stage_is_beside_the_one_before() {
        let stages = [
            stage("original", false, 4096.0, &[9, 10, 10]),
            stage("prune", false, 2048.0, &[5, 10, 0]),
            stage("fine-tune", true, 2048.0, &[9, 9, 7]),
        ];
        let names = ["ape", "bee", "cat"].map(str::to_owned);
        let expected = "
stage                 validation         change     size  parameters  MACs  peak memory
original                 96.67 %              –  4.0 KiB           –     –            –
prune                    50.00 %  -46.67 points  2.0 KiB           –     –            –
fine-tune, distilled     83.33 %  +33.33 points  2.0 KiB           –     –            –

2 of 3 classes lost accuracy on the validation images, most of all:
class  images  original  fine-tune         change
cat        10  100.00 %    70.00 %  -30.00 points
bee        10  100.00 %    90.00 %  -10.00 points
";
        assert_eq!(tables(&stages, &names), expected);
        // Classes without names are numbered, and those beyond the worst are counted.
        let seven = [
            stage("trained", false, 4096.0, &[9; 7]),
            stage("quantize, no layers to equalize", false, 1024.0, &[8, 8, 8, 8, 8, 8, 2]),
        ];
        let text = tables(&seven, &[]);
        let (_, classes) = text.split_once("7 of 7 classes").unwrap();
        assert!(classes.lines().nth(2).unwrap().starts_with("6 "), "{text}");
        assert!(classes.contains("  quantize  ") && !classes.contains("equalize"), "{text}");
        assert!(text.ends_with("and 2 more classes lost accuracy\n"), "{text}");
        let same = [stages[0].clone(), StageReport { pass: "x".into(), ..stages[0].clone() }];
        let text = tables(&same, &[]);
        assert!(text.ends_with("no class lost accuracy on the validation images\n"), "{text}");
        assert!(text.contains("  0.00 points  "), "{text}");
        // It is one class of several, or the only one.
        let lost = |before: &[u32], after: &[u32]| {
            let stages = [stage("trained", false, 4096.0, before), stage("x", false, 1.0, after)];
            tables(&stages, &[])
        };
        assert!(lost(&[9, 9], &[9, 8]).contains("\n1 of 2 classes lost accuracy"));
        assert!(lost(&[9], &[8]).contains("\n1 of 1 class lost accuracy"));
    }

    #[test]
    fn no_change_has_no_sign() {
        let said = [-0.0, 0.0, -0.00004, 0.00004, -0.0001, 0.25].map(points);
        let none = "0.00 points";
        assert_eq!(said, [none, none, none, none, "-0.01 points", "+25.00 points"]);
    }

    #[test]
    fn what_is_not_known_is_not_shown() {
        assert_eq!(tables(&[], &[]), "");
        assert_eq!(tables(&[stage("trained", false, 4096.0, &[9])], &[]), "");
        let unknown =
            |pass: &str| StageReport { figures: Figures::new(), ..stage(pass, false, 4096.0, &[]) };
        let text = tables(&[unknown("trained"), unknown("prune")], &[]);
        assert!(text.contains("\nprune             –") && !text.contains("class"), "{text}");
    }
}

//! What the coordinator and `search` say of a study file, in terms of `compress`, which has none.

use crate::commands::search::Terms;

/// What a user of `compress` is told to change.
pub const OPTIONS: Terms = Terms {
    rename: "give --name",
    more: "a larger --trials tries more recipes",
    starts_from_earlier: false,
    tell,
};

/// Words about study files, and what they are here.
const WORDS: [(&str, &str); 6] = [
    ("offer options in [space] and [recipe] that meet it", "give a recipe that meets it"),
    ("offer faster options in [space]", "give a recipe that makes it faster"),
    (
        "lower training.learning_rate",
        "lower training.learning_rate in the file of --data, or learning_rate in the recipe",
    ),
    ("submit the changed file under another study.name,", "do so with another --name,"),
    ("a larger budget.trials", "a larger --trials"),
    ("budget.trials", "--trials"),
];

/// What to do about a study of this name with other settings is said with the options.
const ANOTHER_NAME: &str = "; give this one another study.name";

fn tell(text: &str) -> String {
    let text = match text.split_once(ANOTHER_NAME) {
        Some((what, _)) => format!("{what}; change that back"),
        None => text.to_owned(),
    };
    WORDS.iter().fold(text, |text, (file, here)| text.replace(file, here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_for_study_files_becomes_advice_for_options() {
        for (said, told) in [
            (
                "3 candidates break model_bytes<=300: relax this limit, or offer options in [space] \
                 and [recipe] that meet it",
                "3 candidates break model_bytes<=300: relax this limit, or give a recipe that meets \
                 it",
            ),
            (
                "submit the changed file under another study.name, or after `edgesmith delete s`",
                "do so with another --name, or after `edgesmith delete s`",
            ),
            (
                "it differs from this one in budget.trials: 9 -> 3; a budget can only become larger",
                "it differs from this one in --trials: 9 -> 3; a budget can only become larger",
            ),
            (
                "it differs in training.epochs: 2 -> 3; give this one another study.name, and \
                 study.start_from = [\"s\"] to start from the results of the other",
                "it differs in training.epochs: 2 -> 3; change that back",
            ),
            ("the disk is full", "the disk is full"),
        ] {
            assert_eq!(tell(said), told);
        }
    }
}

//! How answers about a study look: the JSON and CSV of trials, the stages of one, the marks and the
//! plot of a front, and the progress of a running study. What other programs share is in
//! `edgesmith-console`.

pub mod columns;
pub mod json;
pub mod machines;
pub mod marks;
pub mod progress;
pub mod scatter;
pub mod stages;

use std::fmt;

pub use edgesmith_client::TrialRow;

/// A number of things in words: `1 trial`, `2 trials`.
pub fn counted<N: From<u8> + PartialEq + fmt::Display>(number: N, one: &str) -> String {
    let s = if number == N::from(1_u8) { "" } else { "s" };
    format!("{number} {one}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_not_many() {
        let said = [0_u32, 1, 2].map(|number| counted(number, "trial"));
        assert_eq!(said, ["0 trials", "1 trial", "2 trials"]);
        assert_eq!([counted(1.0, "hour"), counted(1.5, "hour")], ["1 hour", "1.5 hours"]);
    }
}

//! Study files that are made to be slow to read. Each one is read with work that grows no faster
//! than its size; before, most of them took minutes.

use edgesmith_common::StudySpec;
use edgesmith_common::spec::{MAX_STUDY_BYTES, SpecErrors};

const GOOD: &str = r#"[study]
name = "good"
[data]
source = "digits"
[[objectives]]
metric = "validation_accuracy"
[budget]
trials = 3
[space]
resolution = 8
stem_width = [4, 8]
"#;

const STAGE: &str = "[[space.stages]]\nwidth = [4, 8]\n";

fn errors(text: &str) -> SpecErrors {
    StudySpec::parse(text).expect_err("it has mistakes")
}

/// Texts of nearly the largest size, from `line`, which is given a number.
fn many(line: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for i in 0.. {
        let next = line(i);
        if text.len() + next.len() > MAX_STUDY_BYTES - 1000 {
            break;
        }
        text.push_str(&next);
    }
    text
}

#[test]
fn of_many_mistakes_a_hundred_are_listed_and_the_others_counted() {
    let unknown: String = (0..100_000).map(|i| format!("a{i}=1\n")).collect();
    let found = errors(&format!("{unknown}{GOOD}{STAGE}"));
    assert_eq!((found.listed.len(), found.count()), (100, 100_000));
    assert!(found.listed.is_sorted_by_key(|error| error.line));
    let text = found.to_string();
    assert_eq!(text.lines().count(), 101);
    assert!(text.ends_with("\nand 99900 more"), "{text}");
}

#[test]
fn a_file_that_is_too_large_is_refused_unread() {
    let comment = "#".repeat(MAX_STUDY_BYTES);
    let found = errors(&format!("{GOOD}{STAGE}{comment}"));
    let expected = format!(
        "the study file: has {} bytes; a study file has at most 1048576",
        GOOD.len() + STAGE.len() + MAX_STUDY_BYTES
    );
    assert_eq!(found.to_string(), expected);
}

#[test]
fn quoted_texts_are_shortened() {
    let long = "x".repeat(500_000);
    let found = errors(&GOOD.replace("digits", &long));
    assert!(found.to_string().len() < 10_000, "{}", found.to_string().len());
    let found = errors(&format!("{long} = 1\n{GOOD}{STAGE}"));
    assert!(found.to_string().len() < 2_000, "{}", found.to_string().len());
}

#[test]
fn long_lists_are_refused_without_comparing_their_values() {
    let numbers = many(|i| format!("{i},"));
    let widths = format!("{GOOD}[[space.stages]]\nwidth = [{numbers}]\n");
    let found = errors(&widths);
    assert_eq!(found.count(), 1, "{found}");
    assert!(found.to_string().contains("values are too many; at most 256 are allowed"), "{found}");

    let objectives = many(|i| format!("[[objectives]]\nmetric=\"latency_ms\"\ndevice=\"d{i}\"\n"));
    let found = errors(&format!("{GOOD}{STAGE}{objectives}"));
    assert!(found.to_string().contains("are too many; at most 32 are allowed"), "{found}");

    let constraints = many(|i| format!("[[constraints]]\nmetric=\"macs\"\nmax={}\n", i + 9999));
    let found = errors(&format!("{GOOD}{STAGE}{constraints}"));
    assert!(found.to_string().contains("are too many; at most 64 are allowed"), "{found}");

    let names = many(|i| format!("\"s{i}\","));
    let with_names =
        GOOD.replace("name = \"good\"", &format!("name = \"good\"\nstart_from = [{names}]"));
    let found = errors(&format!("{with_names}{STAGE}"));
    assert!(found.to_string().contains("are too many; at most 64 are allowed"), "{found}");

    let found = errors(&format!("{GOOD}{}", many(|_| STAGE.to_owned())));
    assert!(found.to_string().contains("at most 16 are allowed"), "{found}");
}

#[test]
fn deep_and_broken_files_are_refused() {
    for open in ["[", "{a=", "a."] {
        let deep = many(|_| open.to_owned());
        errors(&format!("x = {deep}"));
        errors(&format!("{deep} = 1"));
    }
    errors(&format!("[{}a]", many(|_| "a.".to_owned())));
    errors(&many(|i| format!("[t.a{i}]\nb=\n")));
    errors(&many(|_| "\"\n".to_owned()));
    errors(&many(|_| "a=1\n".to_owned()));
    errors(&many(|_| "[[a.b]]\n".to_owned()));
}

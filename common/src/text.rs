//! Texts that come from outside, made safe to print in one line of a terminal and bounded in
//! length, and paths as a shell reads them.

use std::path::Path;

/// The text in one line of at most `most` characters (at least 1). Line breaks and tabs become
/// spaces. Other control characters, and characters that reorder the text around them, become `�`,
/// so that no text can move the cursor, change colours or look like another one. A longer text
/// loses its end, which `…` shows.
pub fn one_line(text: &str, most: usize) -> String {
    let mut line: String = text.chars().take(most).map(shown).collect();
    if text.chars().nth(most).is_some() {
        line.pop();
        line.push('…');
    }
    line
}

/// A path as a word of a command, quoted for a POSIX shell if needed.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn shown(c: char) -> char {
    match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        // Marks, embeddings, overrides and isolates of bidirectional text.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_replaced_and_long_texts_end_in_dots() {
        assert_eq!(one_line("Größe 3 µs", 20), "Größe 3 µs");
        assert_eq!(one_line("a\n\tb\x1b[31m\u{202e}c\u{9b}", 20), "a  b�[31m�c�");
        assert_eq!(one_line("abcdef", 6), "abcdef");
        assert_eq!(one_line("abcdefg", 6), "abcde…");
    }

    #[test]
    fn paths_are_quoted_where_a_shell_would_split_or_change_them() {
        for (path, word) in [
            ("/data/edge-1", "/data/edge-1"),
            ("my data", "'my data'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(path)), word);
        }
    }

    proptest! {
        #[test]
        fn every_text_becomes_one_safe_line(
            text in prop::collection::vec(
                prop_oneof![any::<char>(), prop::sample::select(vec![
                    '\u{1b}', '\u{7}', '\n', '\r', '\u{85}', '\u{202e}', '\u{2066}', '\u{2029}', 'a',
                ])], 0..60,
            ),
            most in 1usize..50,
        ) {
            let text: String = text.into_iter().collect();
            let line = one_line(&text, most);
            prop_assert!(line.chars().count() <= most);
            prop_assert!(!line.chars().any(char::is_control));
            let reorders = |c| ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
            prop_assert!(!line.chars().any(reorders));
            prop_assert_eq!(one_line(&line, most), line);
        }
    }
}

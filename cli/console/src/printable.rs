//! Makes text harmless to a terminal. What a coordinator or a worker sends ends up in tables and
//! errors, and must not move the cursor or look like another text.

/// The text with a visible character in place of each one that a terminal acts on. Line breaks and
/// tabs stay.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if acts(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// JSON with escapes in place of such characters. They occur only within its strings, so its
/// meaning stays the same.
pub fn printable_json(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) {
            // All such characters are in the basic plane, so four digits are enough.
            printable.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Whether a terminal acts on a character instead of showing it: control characters other than line
/// breaks and tabs, and those that reorder the text around them.
fn acts(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_that_a_terminal_acts_on_is_printed() {
        let all: String = ('\0'..='\u{ffff}').collect();
        let text = printable(&all);
        assert!(!text.chars().any(|c| c != '\n' && c != '\t' && c.is_control()));
        assert!(!text.contains(['\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}']));
        assert_eq!(printable("Größe\t3 µs\n"), "Größe\t3 µs\n");

        let json = serde_json::to_string_pretty(&[all.as_str()]).unwrap();
        let printed = printable_json(&json);
        assert!(!printed.contains(['\u{7f}', '\u{9b}', '\u{202e}', '\u{1b}']));
        let back: Vec<String> = serde_json::from_str(&printed).unwrap();
        assert_eq!(back, [all]);
    }
}

//! Parses the algorithms that the command line names.

use std::fmt;

use edgesmith_console::invalid;

/// An algorithm with settings that differ from its defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithm {
    /// As the user wrote it, for example `regularized-evolution:population=10:sample=3`.
    text: String,
    /// The lines of `[algorithm]`.
    toml: String,
}

impl Algorithm {
    /// Reads texts of the form `NAME[:KEY=VALUE]...`. Names and keys are checked later, with the
    /// study file that they become part of.
    ///
    /// # Errors
    /// When the list is empty, or a setting is not `KEY=VALUE`.
    pub fn parse_list(texts: &[String]) -> anyhow::Result<Vec<Self>> {
        if texts.is_empty() {
            return Err(invalid("no algorithm is given; name some with --algorithms"));
        }
        texts.iter().map(|text| Self::parse(text)).collect()
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split(':');
        let mut toml = format!("name = {:?}\n", parts.next().unwrap_or_default());
        for setting in parts {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                invalid(format!("{setting:?} in {text:?} is not a setting; write KEY=VALUE"))
            })?;
            // Words are quoted; numbers and booleans are written as they are.
            let plain = value.parse::<f64>().is_ok() || value == "true" || value == "false";
            let value = if plain { value.to_owned() } else { format!("{value:?}") };
            toml.push_str(&format!("{key} = {value}\n"));
        }
        Ok(Self { text: text.to_owned(), toml })
    }

    /// The lines of `[algorithm]` in a study file.
    pub fn toml(&self) -> &str {
        &self.toml
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_lines_of_the_study_file() {
        let given = ["random", "reinforce:entropy=0.02:policy=lstm"].map(str::to_owned);
        let read = Algorithm::parse_list(&given).unwrap();
        assert_eq!(read[0].toml(), "name = \"random\"\n");
        let expected = "name = \"reinforce\"\nentropy = 0.02\npolicy = \"lstm\"\n";
        assert_eq!(read[1].toml(), expected);
        assert_eq!(read[1].to_string(), given[1]);
        assert!(Algorithm::parse_list(&["nsga2:population".to_owned()]).is_err());
        assert!(Algorithm::parse_list(&[]).is_err());
    }
}

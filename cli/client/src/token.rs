//! The options by which a command gets its token.

use std::path::PathBuf;

use clap::Args;
use edgesmith_common::AccessToken;
use edgesmith_console::invalid;

/// Where the token comes from: a file, the environment or the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct TokenOptions {
    /// Token for the coordinator. Other users of this machine can see it on the command line, so
    /// prefer --token-file or the variable
    #[arg(long, env = "EDGESMITH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File with the token; used instead of --token and EDGESMITH_TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl TokenOptions {
    /// The token; `None` if there is none.
    ///
    /// # Errors
    /// If the file cannot be read, or if the text is not a token.
    pub fn read(&self) -> anyhow::Result<Option<AccessToken>> {
        let (text, place) = match (&self.token_file, &self.token) {
            (Some(file), _) => {
                let place = file.display().to_string();
                let text = std::fs::read_to_string(file)
                    .map_err(|error| invalid(format!("failed to read {place}: {error}")))?;
                (text, place)
            }
            (None, Some(text)) => (text.clone(), "--token or EDGESMITH_TOKEN".to_owned()),
            (None, None) => return Ok(None),
        };
        let token = text.parse().map_err(|error| invalid(format!("{place}: {error}")))?;
        Ok(Some(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_first_and_may_end_with_a_line_break() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "from-file\r\n").unwrap();
        let token = Some("from-variable \n".to_owned());
        let read = |options: TokenOptions| options.read().unwrap().unwrap().to_string();
        let token_file = Some(file.clone());
        assert_eq!(read(TokenOptions { token: token.clone(), token_file }), "from-file");
        assert_eq!(read(TokenOptions { token, token_file: None }), "from-variable");
        assert_eq!(TokenOptions::default().read().unwrap(), None);

        std::fs::write(&file, "\n").unwrap();
        let refused = |file: PathBuf| {
            let options = TokenOptions { token: None, token_file: Some(file) };
            options.read().unwrap_err().to_string()
        };
        assert!(refused(file).contains("is empty"));
        assert!(refused(directory.path().join("absent")).contains("absent"));
    }
}

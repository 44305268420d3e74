//! The options by which a command gets its token.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use edgesmith_common::AccessToken;
use edgesmith_console::invalid;

/// The environment variable with the token, for commands that get none on the command line.
const TOKEN_VARIABLE: &str = "EDGESMITH_TOKEN";
/// Most bytes that are read of a file with a token.
const LARGEST_FILE: u64 = 1 << 16;

/// Where the token comes from: a file, the command line or the environment.
#[derive(Debug, Clone, Default, Args)]
pub struct TokenOptions {
    /// The token on the command line
    // Not clap's `env`: a directory's own secret comes before the variable, and after the options.
    #[arg(long, help = format!(
        "Token for the coordinator [default: {TOKEN_VARIABLE} of the environment]. Other users of \
         this machine can see it on the command line, so prefer --token-file or the variable"
    ))]
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
        self.read_with(std::env::var_os(TOKEN_VARIABLE))
    }

    /// The token that the options name, whatever is in the environment.
    ///
    /// # Errors
    /// If the file cannot be read, or if the text is not a token.
    pub fn given(&self) -> anyhow::Result<Option<AccessToken>> {
        self.read_with(None)
    }

    /// Where [`Self::read`] finds the token, in words.
    pub fn place(&self) -> String {
        match (&self.token_file, &self.token) {
            (Some(file), _) => file.display().to_string(),
            (None, Some(_)) => "--token".to_owned(),
            (None, None) => TOKEN_VARIABLE.to_owned(),
        }
    }

    fn read_with(&self, variable: Option<OsString>) -> anyhow::Result<Option<AccessToken>> {
        let text = match (&self.token_file, &self.token, variable) {
            (Some(file), _, _) => read_file(file)?,
            (None, Some(text), _) => text.clone(),
            (None, None, Some(text)) => text.to_string_lossy().into_owned(),
            (None, None, None) => return Ok(None),
        };
        let place = self.place();
        let token = text.parse().map_err(|error| invalid(format!("{place}: {error}")))?;
        Ok(Some(token))
    }
}

/// The text of a file with a token, without a byte order mark.
fn read_file(path: &Path) -> anyhow::Result<String> {
    let place = path.display();
    let failed = |error| invalid(format!("failed to read {place}: {error}"));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(failed)?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    // Text in UTF-16 begins with one of two marks, or has a zero in every letter.
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") || text.contains(&0) {
        return Err(invalid(format!(
            "{place} is UTF-16 or not text; write the token to it as plain text, in PowerShell \
             with `Set-Content -Encoding ascii`"
        )));
    }
    Ok(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_first_and_may_end_with_a_line_break() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "from-file\r\n").unwrap();
        let token = Some("from-option \n".to_owned());
        let read = |options: TokenOptions| options.given().unwrap().unwrap().to_string();
        let token_file = Some(file.clone());
        assert_eq!(read(TokenOptions { token: token.clone(), token_file }), "from-file");
        assert_eq!(read(TokenOptions { token, token_file: None }), "from-option");
        let variable = |text: &str| TokenOptions::default().read_with(Some(text.into()));
        assert_eq!(variable("from-variable").unwrap().unwrap().to_string(), "from-variable");
        let empty = variable("").unwrap_err().to_string();
        assert!(empty.starts_with("EDGESMITH_TOKEN: the token is empty"), "{empty}");
        assert_eq!(TokenOptions::default().given().unwrap(), None);

        std::fs::write(&file, "\n").unwrap();
        let refused = |file: PathBuf| {
            let options = TokenOptions { token: None, token_file: Some(file) };
            options.read().unwrap_err().to_string()
        };
        assert!(refused(file.clone()).contains("is empty"));
        // As some editors and shells write it.
        std::fs::write(&file, "\u{feff}from-file\r\n").unwrap();
        let token_file = Some(file.clone());
        assert_eq!(read(TokenOptions { token: None, token_file }), "from-file");
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            for text in ["\u{feff}from-file", "from-file"] {
                let bytes: Vec<u8> = text.encode_utf16().flat_map(order).collect();
                std::fs::write(&file, bytes).unwrap();
                assert!(refused(file.clone()).contains("UTF-16"), "{text}");
            }
        }
        assert!(refused(directory.path().join("absent")).contains("absent"));
    }
}

//! The list of tokens in `access/tokens`: one line for each, with the hash of its secret. The
//! secret itself is not stored.

use std::fmt::Write as _;

use edgesmith_common::TokenRole;

use super::access::{AccessError, AccessFiles, TOKENS_FILE};

const FIRST_LINE: &str = "edgesmith tokens 1";

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What its holder may do.
    pub role: TokenRole,
    /// When it was made, milliseconds since 1970.
    pub created_at_ms: u64,
    /// BLAKE3 hash of its secret.
    pub hash: blake3::Hash,
}

impl AccessFiles {
    /// All tokens, oldest first.
    ///
    /// # Errors
    /// If the list cannot be read.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>, AccessError> {
        let Some(bytes) = self.read(TOKENS_FILE)? else { return Ok(Vec::new()) };
        let damaged = |problem: String| self.damaged(TOKENS_FILE, problem);
        let text = String::from_utf8(bytes).map_err(|_| damaged("it is no text".to_owned()))?;
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(damaged(format!(
                "it does not begin with {FIRST_LINE:?}; was it written by a later version?"
            )));
        }
        let numbered = lines.enumerate().map(|(at, line)| {
            record(line)
                .ok_or_else(|| damaged(format!("line {} is no token; remove that line", at + 2)))
        });
        numbered.collect()
    }

    /// Replaces the list.
    ///
    /// # Errors
    /// If it cannot be stored. Then the old list stays.
    pub fn store_tokens(&self, tokens: &[TokenRecord]) -> Result<(), AccessError> {
        let mut text = format!("{FIRST_LINE}\n");
        for TokenRecord { name, role, created_at_ms, hash } in tokens {
            let _ = writeln!(text, "{hash} {role} {created_at_ms} {name}");
        }
        self.write(TOKENS_FILE, text.as_bytes())
    }
}

fn record(line: &str) -> Option<TokenRecord> {
    let mut words = line.split(' ');
    let mut word = || words.next();
    let (hash, role, created, name) = (word()?, word()?, word()?, word()?);
    Some(TokenRecord {
        name: name.to_owned(),
        role: role.parse().ok()?,
        created_at_ms: created.parse().ok()?,
        hash: blake3::Hash::from_hex(hash).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_as_it_was_written_and_holds_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let files = AccessFiles::new(dir.path());
        assert_eq!(files.tokens().unwrap(), []);
        let token = |name: &str, role| TokenRecord {
            name: name.to_owned(),
            role,
            created_at_ms: 17,
            hash: blake3::hash(b"the secret"),
        };
        let tokens = [token("a", TokenRole::Admin), token("gpu-box.1", TokenRole::Worker)];
        files.store_tokens(&tokens).unwrap();
        assert_eq!(AccessFiles::new(dir.path()).tokens().unwrap(), tokens);
        let path = dir.path().join("access/tokens");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("the secret"), "{text}");

        // Changed by hand, which needs the file with the hash removed.
        std::fs::write(&path, text.replace(" worker ", " root ")).unwrap();
        std::fs::remove_file(path.with_extension("sum")).unwrap();
        let refused = files.tokens().unwrap_err().to_string();
        assert!(refused.contains("line 3") && refused.contains("access/tokens"), "{refused}");
    }
}

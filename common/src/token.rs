//! Tokens as users write them, and the roles that they give. This module does not know which tokens
//! a coordinator accepts.

use std::fmt;
use std::str::FromStr;

/// The name in every certificate that a coordinator's own authority signs. Clients that know the
/// authority ask for this name, so they may reach the coordinator under any address.
pub const COORDINATOR_NAME: &str = "edgesmith";

/// The first part of tokens that a coordinator has made, and the version of their form.
const PREFIX: &str = "es1.";
/// Stands in place of the fingerprint if there is none.
const NO_FINGERPRINT: &str = "-";
/// Longest token, bytes.
const LONGEST: usize = 1024;

/// What the holder of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenRole {
    /// Work: lease tasks, report outcomes, transfer artifacts.
    Worker,
    /// Look at studies and trials, and download their files.
    Viewer,
    /// What a viewer may, and change studies.
    User,
    /// Everything, and make and revoke tokens.
    Admin,
}

impl TokenRole {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Worker, Self::Viewer, Self::User, Self::Admin];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for TokenRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role of a token; there are worker, viewer, user and admin")]
pub struct UnknownTokenRole(String);

impl FromStr for TokenRole {
    type Err = UnknownTokenRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|role| role.name() == text);
        named.ok_or_else(|| UnknownTokenRole(text.to_owned()))
    }
}

/// SHA-256 of a coordinator's certificate authority, in DER. It is written as 64 hexadecimal
/// digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = AccessTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 2 * bytes.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(AccessTokenError::Incomplete);
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |d: u8| (d as char).to_digit(16).unwrap_or_default() as u8;
            *byte = digit(digits[0]) << 4 | digit(digits[1]);
        }
        Ok(Self(bytes))
    }
}

/// A token: a secret, and the fingerprint by which its holder knows the coordinator.
///
/// A coordinator makes tokens as `es1.FINGERPRINT.SECRET`, or `es1.-.SECRET` if its certificate is
/// not of its own authority. Any other text is a secret that somebody chose.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The coordinator's authority, if the token names it.
    pub fingerprint: Option<Fingerprint>,
    secret: String,
    /// Whether it has the form of a token that a coordinator made.
    made: bool,
}

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// There is nothing in it.
    #[error("the token is empty; leave it out, or give one that `edgesmith token new` printed")]
    Empty,
    /// It cannot be sent.
    #[error(
        "the token has a space, a line break or another character that a token cannot have; only \
         printable ASCII is possible"
    )]
    Unprintable,
    /// It is too long.
    #[error("the token is longer than {LONGEST} bytes; is it the right file?")]
    TooLong,
    /// It begins like a token that a coordinator made, but does not go on like one.
    #[error(
        "the token begins with {PREFIX} but does not continue as FINGERPRINT.SECRET with 64 \
         hexadecimal digits and a secret; copy it again as a whole"
    )]
    Incomplete,
}

impl AccessToken {
    /// A token that a coordinator makes.
    pub fn made(fingerprint: Option<Fingerprint>, secret: String) -> Self {
        Self { fingerprint, secret, made: true }
    }

    /// What proves the holder's rights to the coordinator.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl FromStr for AccessToken {
    type Err = AccessTokenError;

    /// Reads a token. White space around it is ignored, because files and variables often end with
    /// a line break.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AccessTokenError::Empty);
        }
        if text.len() > LONGEST {
            return Err(AccessTokenError::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AccessTokenError::Unprintable);
        }
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Ok(Self { fingerprint: None, secret: text.to_owned(), made: false });
        };
        match rest.split_once('.') {
            None | Some((_, "")) => Err(AccessTokenError::Incomplete),
            Some((NO_FINGERPRINT, secret)) => Ok(Self::made(None, secret.to_owned())),
            Some((fingerprint, secret)) => {
                Ok(Self::made(Some(fingerprint.parse()?), secret.to_owned()))
            }
        }
    }
}

impl fmt::Display for AccessToken {
    /// The whole token, as [`AccessToken::from_str`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fingerprint {
            Some(fingerprint) => write!(f, "{PREFIX}{fingerprint}.{}", self.secret),
            None if self.made => write!(f, "{PREFIX}{NO_FINGERPRINT}.{}", self.secret),
            None => f.write_str(&self.secret),
        }
    }
}

impl fmt::Debug for AccessToken {
    /// Without the secret, which must not get into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let fingerprint = Some(Fingerprint(std::array::from_fn(|i| i as u8 * 7)));
        for made in [
            AccessToken::made(fingerprint, "abc".to_owned()),
            AccessToken::made(None, "abc".to_owned()),
            "chosen.by-me".parse().unwrap(),
        ] {
            assert_eq!(format!("  {made}\r\n").parse(), Ok(made.clone()));
            assert!(!format!("{made:?}").contains(made.secret()));
        }
        assert_eq!("sesame \n".parse::<AccessToken>().unwrap().secret(), "sesame");
    }

    #[test]
    fn texts_that_are_no_tokens_are_refused() {
        let refused = |text: &str| text.parse::<AccessToken>().unwrap_err();
        assert_eq!(refused(" \n"), AccessTokenError::Empty);
        assert_eq!(refused("a b"), AccessTokenError::Unprintable);
        assert_eq!(refused("ä"), AccessTokenError::Unprintable);
        assert_eq!(refused(&"x".repeat(2000)), AccessTokenError::TooLong);
        for text in ["es1.", "es1.abc", "es1.-.", "es1.00.abc", &format!("es1.{}.", "0".repeat(64))]
        {
            assert_eq!(refused(text), AccessTokenError::Incomplete, "{text}");
        }
    }

    #[test]
    fn roles_are_read_by_name() {
        for role in TokenRole::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("root".parse::<TokenRole>().unwrap_err().to_string().contains("viewer"));
    }
}

//! A secret that the coordinator gave to this worker, and that must not get into logs.

use std::fmt;

/// Proves to the coordinator which worker calls, or that an attempt was leased to it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

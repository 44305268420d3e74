//! What the numbers of channels that a pruning leaves are multiples of.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Serialize, Serializer};

/// What numbers of channels are rounded up to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Multiple {
    /// Multiples of this, at least 1.
    Of(u32),
    /// Of what is fastest in the engine, as measured where the pass runs.
    Auto,
}

impl Multiple {
    /// Any number.
    pub const ONE: Self = Self::Of(1);
    /// What [`Multiple::Auto`] is called in study files.
    pub const AUTO: &'static str = "auto";

    /// The number, if the recipe says it.
    pub fn known(self) -> Option<NonZeroU32> {
        match self {
            Multiple::Of(multiple) => NonZeroU32::new(multiple),
            Multiple::Auto => None,
        }
    }

    /// The number, or 1 as long as it is not known.
    pub fn at_least(self) -> usize {
        self.known().map_or(1, |multiple| multiple.get() as usize)
    }
}

impl From<u32> for Multiple {
    fn from(multiple: u32) -> Self {
        Multiple::Of(multiple)
    }
}

impl fmt::Display for Multiple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Multiple::Of(multiple) => write!(f, "{multiple}"),
            Multiple::Auto => f.write_str(Self::AUTO),
        }
    }
}

/// As in study files, because messages show it.
impl fmt::Debug for Multiple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As in study files.
impl Serialize for Multiple {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Multiple::Of(multiple) => serializer.serialize_u32(*multiple),
            Multiple::Auto => serializer.serialize_str(Self::AUTO),
        }
    }
}

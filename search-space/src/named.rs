//! Enums whose values have one name each, in study files and in JSON.

/// Gives an enum without fields its list of values, the name of each, and reading it.
macro_rules! named {
    ($type:ident, $what:literal: $($variant:ident $name:literal),+) => {
        impl $type {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in study files.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::ParseNameError;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                let names = || Self::ALL.iter().map(|one| one.name()).collect();
                let found = Self::ALL.iter().copied().find(|one| one.name() == s);
                found.ok_or_else(|| $crate::ParseNameError::new($what, s, names()))
            }
        }
    };
}

pub(crate) use named;

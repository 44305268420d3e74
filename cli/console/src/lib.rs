//! What edgesmith's programs share at the terminal: how they start, how they print (tables, JSON,
//! CSV), how they read numbers, and how they fail. It knows nothing about studies.

pub mod failure;
pub mod number;
mod output;
mod printable;
pub mod start;
pub mod table;

pub use failure::{Invalid, invalid};
pub use output::{Format, ListFormat, Output, print, print_text};
pub use printable::printable;

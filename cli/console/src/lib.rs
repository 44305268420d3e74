//! What edgesmith's programs have in common towards the terminal: how they start, what they print
//! with (tables, JSON, CSV), and how they fail. It knows nothing of studies.

pub mod failure;
mod output;
pub mod start;
pub mod table;

pub use failure::{Invalid, invalid};
pub use output::{Format, ListFormat, Output, print, print_text};

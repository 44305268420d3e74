//! What the data set requires of every network of a space.

use serde::{Deserialize, Serialize};

/// Input channels and classes that the data set requires of every network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataShape {
    /// Image channels, 1 or 3.
    pub channels: u32,
    /// Number of classes.
    pub classes: u32,
}

//! What names the stages of a trial. The core needs nothing of them, and there may be a thousand
//! classes in each, so it keeps only their key; the store keeps them
//! ([`StageStore`](crate::store::StageStore)).

use edgesmith_common::StageReport;

/// The BLAKE3 hash of a list of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StagesKey([u8; 32]);

impl From<[u8; 32]> for StagesKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl StagesKey {
    /// The key of these stages; `None` if there are none.
    pub fn of(stages: &[StageReport]) -> Option<Self> {
        if stages.is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        let number = |number: u64, bytes: &mut Vec<u8>| bytes.extend(number.to_le_bytes());
        let text = |text: &str, bytes: &mut Vec<u8>| {
            number(text.len() as u64, bytes);
            bytes.extend(text.as_bytes());
        };
        for StageReport { pass, distilled, figures, classes } in stages {
            text(pass, &mut bytes);
            number(u64::from(*distilled), &mut bytes);
            number(figures.iter().count() as u64, &mut bytes);
            for (of, value) in figures.iter() {
                text(&of.to_string(), &mut bytes);
                number(value.to_bits(), &mut bytes);
            }
            number(classes.len() as u64, &mut bytes);
            for class in classes {
                number(u64::from(class.images), &mut bytes);
                number(u64::from(class.right), &mut bytes);
            }
        }
        Some(Self(*blake3::hash(&bytes).as_bytes()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

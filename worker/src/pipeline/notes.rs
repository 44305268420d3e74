//! What a model file says besides its network: where it comes from, how a picture becomes its
//! input, and test vectors. All of it follows from the study and the network, never from a clock, a
//! path or the machine, so that a study that repeats gives the same files.

use edgesmith_common::ArtifactHash;
use edgesmith_edge_runtime::{Model, ModelError};
use edgesmith_search_space::CanonicalHash;

use super::run::Study;

/// Bytes that the numbers of all test vectors of a file may take, or a tenth of the file if that is
/// more.
const TEST_BYTES: u64 = 16 << 10;

/// Which network of a study a model is.
pub struct Origin<'a> {
    pub study: &'a Study<'a>,
    /// `trial` with its number, or `network`.
    pub what: (&'static str, String),
    /// Of a trial.
    pub candidate: Option<CanonicalHash>,
    /// The file that a teacher's weights were read from.
    pub weights: Option<ArtifactHash>,
    /// The file that the network was read from.
    pub source: Option<ArtifactHash>,
    /// The images that it learned.
    pub training_data: ArtifactHash,
}

/// Adds all notes but the names of the classes.
///
/// # Errors
/// If the engine does not run the model.
pub fn add_notes(model: &mut Model, origin: Origin<'_>) -> Result<(), ModelError> {
    let Origin { study, what, candidate, weights, source, training_data } = origin;
    let mut provenance = vec![("study", study.name.to_string()), what];
    provenance.extend(candidate.map(|hash| ("candidate", hash.to_string())));
    provenance.extend(weights.map(|hash| ("weights", hash.to_string())));
    provenance.extend(source.map(|hash| ("source", hash.to_string())));
    provenance.push(("training_data", training_data.to_string()));
    provenance.push(("edgesmith", env!("CARGO_PKG_VERSION").to_owned()));
    model.notes.provenance = named(provenance);
    if let Some(image) = model.image() {
        let colour = match image.channels {
            1 => Some("grey"),
            3 => Some("rgb"),
            _ => None,
        };
        // As training reads its images.
        let colour = colour.map(|colour| ("colour", colour.to_owned()));
        let size = [("resize", "stretch".to_owned()), ("filter", "area".to_owned())];
        model.notes.preprocessing = named(colour.into_iter().chain(size));
    }
    model.add_tests(TEST_BYTES.max(model.counted_bytes() / 10))
}

fn named(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Vec<(String, String)> {
    pairs.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}

//! A teacher's logits of every view of every training image. They are computed once per study, or
//! given, so that students learn from the teacher without running it.

use std::ops::ControlFlow;

use edgesmith_common::ArtifactHash;
use edgesmith_data::{ImageSet, Normalization, Views};
use edgesmith_graph::{Graph, Weights};

use super::Cores;
use super::batches::Images;
use super::classifier::Classifier;
use super::logits::logits;
use super::{TrainDevice, TrainError};
use crate::network::Network;

/// A teacher's logits of training images.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftTargets {
    /// [`ImageSet::hash`] of the images. Another split or other files have another hash.
    pub data: ArtifactHash,
    /// Number of views of each image, from view 0 on; `None` if the logits of an image are those of
    /// all its views, because somebody else computed them.
    pub views: Option<usize>,
    /// Number of training images.
    pub images: usize,
    /// Number of logits of each image.
    pub classes: usize,
    /// `[views][images][classes]`, finite; without views `[images][classes]`.
    pub logits: Vec<f32>,
}

/// Why soft targets cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SoftTargetsError {
    /// The file is of another kind or version.
    #[error("these bytes are not soft targets of version {VERSION}")]
    NotSoftTargets,
    /// The file is truncated, or too long.
    #[error("soft targets have {given} bytes, but their header says {expected}")]
    Length {
        /// Size according to the header, bytes.
        expected: u64,
        /// Size of the file, bytes.
        given: u64,
    },
    /// A logit is infinite or NaN.
    #[error("soft targets contain a logit that is not finite")]
    NonFinite,
}

const MAGIC: &[u8; 8] = b"edgesoft";
const VERSION: u32 = 2;
const HEADER: usize = 8 + 4 * 4 + 32;

impl SoftTargets {
    /// Logits of view `view` of image `image`.
    ///
    /// # Panics
    /// If there is no such view or image.
    pub fn of(&self, view: usize, image: usize) -> &[f32] {
        let seen = self.views.is_none_or(|views| view < views);
        assert!(seen && image < self.images, "a view and an image of these targets");
        let view = if self.views.is_some() { view } else { 0 };
        &self.logits[(view * self.images + image) * self.classes..][..self.classes]
    }

    /// The bytes of the file: a header (`edgesoft`; then version, views, images and classes as
    /// little-endian u32; then the hash of the images) and the logits as little-endian f32.
    ///
    /// # Panics
    /// If the logits are those of all views: these have a file of their own.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + 4 * self.logits.len());
        bytes.extend_from_slice(MAGIC);
        let views = self.views.expect("given logits are not written");
        for number in [VERSION as usize, views, self.images, self.classes] {
            bytes.extend_from_slice(&(number as u32).to_le_bytes());
        }
        bytes.extend_from_slice(self.data.as_bytes());
        bytes.extend(self.logits.iter().flat_map(|logit| logit.to_le_bytes()));
        bytes
    }

    /// Reads the file that [`SoftTargets::to_bytes`] writes.
    ///
    /// # Errors
    /// If the bytes are something else or truncated, or contain values that are not finite.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SoftTargetsError> {
        let body = bytes.strip_prefix(MAGIC).ok_or(SoftTargetsError::NotSoftTargets)?;
        let (header, body) =
            body.split_at_checked(HEADER - MAGIC.len()).ok_or(SoftTargetsError::NotSoftTargets)?;
        let (header, data) = header.split_at(4 * 4);
        let data: [u8; 32] = data.try_into().expect("the header ends in a hash");
        let mut numbers = words(header).map(u32::from_le_bytes);
        let mut number = || numbers.next().expect("four numbers in the header");
        if number() != VERSION {
            return Err(SoftTargetsError::NotSoftTargets);
        }
        let [views, images, classes] = [number(), number(), number()];
        let count = u128::from(views) * u128::from(images) * u128::from(classes);
        if count * 4 != body.len() as u128 {
            return Err(SoftTargetsError::Length {
                expected: u64::try_from(count * 4 + HEADER as u128).unwrap_or(u64::MAX),
                given: bytes.len() as u64,
            });
        }
        let logits: Vec<f32> = words(body).map(f32::from_le_bytes).collect();
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(SoftTargetsError::NonFinite);
        }
        let [views, images, classes] = [views, images, classes].map(|n| n as usize);
        let data = ArtifactHash::from_bytes(data);
        Ok(Self { data, views: Some(views), images, classes, logits })
    }
}

/// A teacher and the images to compute soft targets for.
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    /// The teacher's network.
    pub graph: &'a Graph,
    /// Its weights.
    pub weights: &'a Weights,
    /// The teacher's normalisation of images.
    pub normalization: &'a Normalization,
    /// The students' training images.
    pub train: &'a ImageSet,
    /// The augmentation of the images.
    pub views: &'a Views,
    /// Epochs of the longest training, which uses the first `views.used(epochs)` views.
    pub epochs: u32,
    /// Most images that are computed at once, at least 1. See [`Memory::answering`].
    ///
    /// [`Memory::answering`]: super::Memory::answering
    pub at_once: u32,
    /// The device that computes.
    pub device: TrainDevice,
    /// The cores, which are shared with trainings.
    pub cores: &'a Cores,
}

/// Runs a teacher over every view of every image that students use. `pause` is called between
/// batches and may block. If it breaks, the computation stops.
///
/// # Errors
/// If the network is not a classifier of images, or `pause` breaks.
///
/// # Panics
/// If the weights do not fit the network, or the images have the wrong number of channels.
pub fn soft_targets(
    lesson: Lesson,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<SoftTargets, TrainError> {
    let Lesson { graph, weights, normalization, train, views, epochs, .. } = lesson;
    let Lesson { at_once, device, cores, .. } = lesson;
    let Classifier { side, classes, .. } = Classifier::of(graph)?;
    let mut network = Network::new(graph, weights, &device.device());
    let seat = cores.seat();
    let used = views.used(epochs);
    let mut all = Vec::with_capacity(used as usize * train.len() * classes);
    let mut images = Images::of_views(train, views, side);
    for view in 0..used {
        network.set_threads(seat.threads());
        images.turn_to(view);
        all.extend(logits(&network, &mut images, normalization, at_once as usize, device, pause)?);
    }
    let (views, images) = (Some(used as usize), train.len());
    Ok(SoftTargets { data: train.hash(), views, images, classes, logits: all })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks_exact(4).map(|word| word.try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> SoftTargets {
        let logits = (0..12).map(|i| i as f32 / 7.0 - 1.0).collect();
        let (data, views) = (ArtifactHash::of(b"images"), Some(2));
        SoftTargets { data, views, images: 3, classes: 2, logits }
    }

    #[test]
    fn targets_survive_a_round_trip() {
        let targets = example();
        assert_eq!(SoftTargets::from_bytes(&targets.to_bytes()), Ok(targets.clone()));
        assert_eq!(targets.of(1, 2), &targets.logits[10..]);
    }

    #[test]
    fn given_logits_are_those_of_every_view() {
        let logits = (0..6).map(|i| i as f32).collect();
        let given = SoftTargets { views: None, logits, ..example() };
        assert_eq!(given.of(0, 1), [2.0, 3.0]);
        assert_eq!(given.of(7, 1), [2.0, 3.0]);
    }

    #[test]
    fn damaged_files_are_refused() {
        let bytes = example().to_bytes();
        for cut in 0..bytes.len() {
            assert!(SoftTargets::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        let error = SoftTargets::from_bytes(&longer).unwrap_err();
        assert_eq!(error, SoftTargetsError::Length { expected: 104, given: 105 });

        let mut version = bytes.clone();
        version[8] = 9;
        assert_eq!(SoftTargets::from_bytes(&version), Err(SoftTargetsError::NotSoftTargets));

        let mut huge = bytes.clone();
        huge[12..24].fill(0xff);
        assert!(matches!(SoftTargets::from_bytes(&huge), Err(SoftTargetsError::Length { .. })));

        let mut infinite = bytes;
        infinite[HEADER..HEADER + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        assert_eq!(SoftTargets::from_bytes(&infinite), Err(SoftTargetsError::NonFinite));
    }
}

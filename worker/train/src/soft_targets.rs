//! A teacher's logits of every view of every training image. They are computed once per study, or
//! given, so that students learn from the teacher without running it.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use edgesmith_common::ArtifactHash;
use edgesmith_data::{ImageSet, Normalization, Views};
use edgesmith_graph::{Graph, ValueId, Weights};
use edgesmith_search_space::Features;

use super::Cores;
use super::backward::maps as attention_maps;
use super::batches::Images;
use super::classifier::Classifier;
use super::features::{FeatureTargets, Taught, normalized, space_of, taught};
use super::logits::{logits, logits_with};
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
    /// What students copy besides; `None` if nothing.
    pub features: Option<FeatureTargets>,
}

/// Why soft targets cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SoftTargetsError {
    /// The file is of another kind or version.
    #[error("these bytes are not soft targets of version {VERSION} to {WITH_HINTS}")]
    NotSoftTargets,
    /// The file is truncated, or too long.
    #[error("soft targets have {given} bytes, but their header says {expected}")]
    Length {
        /// Size according to the header, bytes.
        expected: u64,
        /// Size of the file, bytes.
        given: u64,
    },
    /// A number is infinite or NaN.
    #[error("soft targets contain a number that is not finite")]
    NonFinite,
}

const MAGIC: &[u8; 8] = b"edgesoft";
const VERSION: u32 = 2;
/// The version of files that have features.
const WITH_FEATURES: u32 = 3;
/// The version of files that have a hint among them.
const WITH_HINTS: u32 = 4;
/// Most attention maps.
const MAX_MAPS: usize = 64;
/// Most bytes of features that are kept.
const MAX_FEATURES: u64 = 2 << 30;
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

    /// The features of view `view` of image `image`, if there are any.
    ///
    /// # Panics
    /// If there is no such view or image.
    pub fn features_of(&self, view: usize, image: usize) -> Option<&[f32]> {
        let features = self.features.as_ref()?;
        assert!(self.views.is_some_and(|views| view < views) && image < self.images, "a view");
        Some(&features.numbers[(view * self.images + image) * features.row()..][..features.row()])
    }

    /// Adds another teacher's answers to a weighted mean of answers: this one stands for `before`
    /// of the weight so far, and the other for `weight`. The mean of logits is the geometric mean
    /// of probabilities, at any temperature. Features stay. If the other's logits are those of all
    /// views, they count for each.
    ///
    /// # Panics
    /// If both are not of the same images and classes, or of other views.
    pub fn average(&mut self, before: f64, other: &Self, weight: f64) {
        let sizes = |all: &Self| (all.data, all.images, all.classes);
        assert_eq!(sizes(self), sizes(other), "answers to the same questions");
        assert!(other.views.is_none() || other.views == self.views, "answers to the same views");
        let share = weight / (before + weight);
        for view in self.logits.chunks_exact_mut(self.images * self.classes).enumerate() {
            let (view, means) = view;
            let start = if other.views.is_some() { view * means.len() } else { 0 };
            let logits = &other.logits[start..][..means.len()];
            for (mean, logit) in means.iter_mut().zip(logits) {
                *mean = ((1.0 - share) * f64::from(*mean) + share * f64::from(*logit)) as f32;
            }
        }
    }

    /// The bytes of the file: a header (`edgesoft`; then version, views, images and classes as
    /// little-endian u32; then the hash of the images) and the logits as little-endian f32. With
    /// features, the number of maps, their rows and columns, the width, and if there is a hint its
    /// channels, rows and columns stand between both, as u32, and the numbers of the features at
    /// the end.
    ///
    /// # Panics
    /// If the logits are those of all views: these have a file of their own.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + 4 * self.logits.len());
        bytes.extend_from_slice(MAGIC);
        let views = self.views.expect("given logits are not written");
        let version = match &self.features {
            Some(FeatureTargets { hint: Some(_), .. }) => WITH_HINTS,
            Some(_) => WITH_FEATURES,
            None => VERSION,
        };
        for number in [version as usize, views, self.images, self.classes] {
            bytes.extend_from_slice(&(number as u32).to_le_bytes());
        }
        bytes.extend_from_slice(self.data.as_bytes());
        let mut sizes = Vec::new();
        if let Some(features) = &self.features {
            sizes.push(features.maps.len());
            sizes.extend(features.maps.iter().flatten());
            sizes.push(features.width);
            sizes.extend(features.hint.iter().flatten());
        }
        bytes.extend(sizes.iter().flat_map(|size| (*size as u32).to_le_bytes()));
        let numbers = self.features.iter().flat_map(|features| &features.numbers);
        bytes.extend(self.logits.iter().chain(numbers).flat_map(|number| number.to_le_bytes()));
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
        let version = number();
        let [views, images, classes] = [number(), number(), number()];
        let (sizes, body) = match version {
            VERSION => (None, body),
            WITH_FEATURES | WITH_HINTS => {
                let sizes = feature_sizes(body, version == WITH_HINTS);
                let (sizes, body) = sizes.ok_or(SoftTargetsError::NotSoftTargets)?;
                (Some(sizes), body)
            }
            _ => return Err(SoftTargetsError::NotSoftTargets),
        };
        let rows = u128::from(views) * u128::from(images);
        let row = sizes.as_ref().map_or(0, |sizes| {
            let map = |[rows, columns]: &[usize; 2]| *rows as u128 * *columns as u128;
            let hint = sizes.hint.map_or(0, |[channels, rows, columns]| {
                (channels as u128).saturating_mul(map(&[rows, columns]))
            });
            let all = sizes.maps.iter().map(map).sum::<u128>() + sizes.width as u128;
            all.saturating_add(hint)
        });
        // A damaged header may announce more than 128 bits hold.
        let count = rows.saturating_mul(u128::from(classes).saturating_add(row));
        if count.saturating_mul(4) != body.len() as u128 {
            let before = (bytes.len() - body.len()) as u128;
            let expected = count.saturating_mul(4).saturating_add(before);
            return Err(SoftTargetsError::Length {
                expected: u64::try_from(expected).unwrap_or(u64::MAX),
                given: bytes.len() as u64,
            });
        }
        let mut logits: Vec<f32> = words(body).map(f32::from_le_bytes).collect();
        if logits.iter().any(|number| !number.is_finite()) {
            return Err(SoftTargetsError::NonFinite);
        }
        let [views, images, classes] = [views, images, classes].map(|n| n as usize);
        let data = ArtifactHash::from_bytes(data);
        let features = sizes.map(|sizes| {
            let numbers = logits.split_off(views * images * classes);
            FeatureTargets { numbers, ..sizes }
        });
        Ok(Self { data, views: Some(views), images, classes, logits, features })
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
    /// What students copy besides the answers.
    pub features: &'a [Features],
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
/// If the network is not a classifier of images, it has no such features, or `pause` breaks.
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
    let Taught { ends, read, hint } = taught(graph, lesson.features)?;
    let maps: Vec<[usize; 2]> = ends.iter().map(|end| space_of(graph, *end)).collect();
    let width = read.map_or(0, |value| graph.shape(value).elements() as usize);
    let hint_sizes = hint.map(|value| {
        let [rows, columns] = space_of(graph, value);
        [graph.shape(value).channels() as usize, rows, columns]
    });
    let mut features = FeatureTargets { maps, width, hint: hint_sizes, numbers: Vec::new() };
    let bytes = 4 * u64::from(used) * train.len() as u64 * features.row() as u64;
    if bytes > MAX_FEATURES {
        return Err(TrainError::ManyFeatures { bytes, limit: MAX_FEATURES });
    }
    let wanted: Vec<ValueId> = ends.into_iter().chain(read).chain(hint).collect();
    let mut all = Vec::with_capacity(used as usize * train.len() * classes);
    let mut images = Images::of_views(train, views, side);
    for view in 0..used {
        network.set_threads(seat.threads());
        images.turn_to(view);
        let (at_once, rows) = (at_once as usize, &mut features.numbers);
        let answers = if wanted.is_empty() {
            logits(&network, &mut images, normalization, at_once, device, pause)?
        } else {
            let maps = features.maps.len();
            let see = &mut |values: Vec<Tensor<4>>| extend_rows(rows, values, maps);
            logits_with(
                &network,
                &mut images,
                normalization,
                (at_once, device),
                (&wanted, see),
                pause,
            )?
        };
        all.extend(answers);
    }
    let (views, images) = (Some(used as usize), train.len());
    features.scale_hints();
    let features = (!wanted.is_empty()).then_some(features);
    if features.iter().flat_map(|features| &features.numbers).any(|number| !number.is_finite()) {
        return Err(TrainError::NonFiniteTeacher);
    }
    Ok(SoftTargets { data: train.hash(), views, images, classes, logits: all, features })
}

/// Adds the features of a batch, image by image. The first `maps` of the values are attention.
fn extend_rows(rows: &mut Vec<f32>, values: Vec<Tensor<4>>, maps: usize) {
    let Some([batch, ..]) = values.first().map(Tensor::dims) else { return };
    let flat = |(place, value): (usize, Tensor<4>)| {
        let value = if place < maps { attention_maps(value) } else { value.flatten(1, 3) };
        let numbers = value.into_data().try_into_vec::<f32>().expect("values are f32");
        (place < maps, numbers)
    };
    let values: Vec<_> = values.into_iter().enumerate().map(flat).collect();
    for image in 0..batch {
        for (is_map, numbers) in &values {
            let width = numbers.len() / batch;
            let own = &numbers[image * width..][..width];
            if *is_map {
                rows.extend(normalized(own).into_iter().map(|share| share as f32));
            } else {
                rows.extend_from_slice(own);
            }
        }
    }
}

/// Features without their numbers: the sizes, those of a hint if there is one; and what comes after
/// these.
fn feature_sizes(body: &[u8], hinted: bool) -> Option<(FeatureTargets, &[u8])> {
    let mut left = body;
    let mut number = || {
        let (word, rest) = left.split_first_chunk::<4>()?;
        left = rest;
        usize::try_from(u32::from_le_bytes(*word)).ok()
    };
    let count = number().filter(|count| *count <= MAX_MAPS)?;
    let mut maps = Vec::with_capacity(count);
    for _ in 0..count {
        maps.push([number()?, number()?]);
    }
    let width = number()?;
    let hint = if hinted { Some([number()?, number()?, number()?]) } else { None };
    Some((FeatureTargets { maps, width, hint, numbers: Vec::new() }, left))
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
        SoftTargets { data, views, images: 3, classes: 2, logits, features: None }
    }

    #[test]
    fn targets_survive_a_round_trip() {
        let targets = example();
        assert_eq!(SoftTargets::from_bytes(&targets.to_bytes()), Ok(targets.clone()));
        assert_eq!(targets.of(1, 2), &targets.logits[10..]);
    }

    #[test]
    fn features_are_kept_beside_the_answers() {
        let numbers: Vec<f32> = (0..6 * (4 + 1 + 3)).map(|i| i as f32 / 9.0).collect();
        let features = FeatureTargets { maps: vec![[2, 2], [1, 1]], width: 3, hint: None, numbers };
        let numbers: Vec<f32> = (0..6 * (4 + 3 + 12)).map(|i| i as f32 / 9.0).collect();
        let hinted =
            FeatureTargets { maps: vec![[2, 2]], width: 3, hint: Some([3, 2, 2]), numbers };
        let hinted = SoftTargets { features: Some(hinted), ..example() };
        let written = hinted.to_bytes();
        assert_eq!(SoftTargets::from_bytes(&written), Ok(hinted.clone()));
        assert_eq!(hinted.features_of(0, 1).unwrap()[0], 19.0 / 9.0);
        for cut in 0..written.len() {
            assert!(SoftTargets::from_bytes(&written[..cut]).is_err(), "cut at {cut}");
        }
        let mut huge = written;
        huge[HEADER + 12..HEADER + 28].fill(0xff);
        assert!(matches!(SoftTargets::from_bytes(&huge), Err(SoftTargetsError::Length { .. })));
        let targets = SoftTargets { features: Some(features), ..example() };
        let bytes = targets.to_bytes();
        assert_eq!(SoftTargets::from_bytes(&bytes), Ok(targets.clone()));
        let first = targets.features_of(1, 0).unwrap()[0];
        assert_eq!(first, 24.0 / 9.0);
        assert_eq!(example().features_of(1, 0), None);
        for cut in 0..bytes.len() {
            assert!(SoftTargets::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut huge = bytes.clone();
        huge[HEADER + 4..HEADER + 20].fill(0xff);
        assert!(matches!(SoftTargets::from_bytes(&huge), Err(SoftTargetsError::Length { .. })));
    }

    #[test]
    fn the_mean_of_logits_is_the_geometric_mean_of_probabilities() {
        let other = |factor: f32| {
            let logits = example().logits.iter().map(|x| factor * x * x).collect();
            SoftTargets { logits, ..example() }
        };
        let (second, third) = (other(2.0), other(-3.0));
        let mut mean = example();
        mean.average(1.0, &second, 0.5);
        mean.average(1.5, &third, 2.5);
        let probabilities = |logits: &[f32]| -> Vec<f64> {
            let all: Vec<f64> = logits.iter().map(|x| (f64::from(*x) / 3.0).exp()).collect();
            all.iter().map(|x| x / all.iter().sum::<f64>()).collect()
        };
        let parts = [(0.25, example()), (0.125, second), (0.625, third)];
        let mut products = [1.0f64; 2];
        for (weight, part) in &parts {
            let probabilities = probabilities(part.of(1, 2));
            products.iter_mut().zip(probabilities).for_each(|(all, p)| *all *= p.powf(*weight));
        }
        let sum: f64 = products.iter().sum();
        for (p, product) in probabilities(mean.of(1, 2)).iter().zip(products) {
            assert!((p - product / sum).abs() < 1e-6);
        }
    }

    #[test]
    fn given_logits_count_for_every_view_of_a_mean() {
        let whole = example();
        let views = whole.views.unwrap();
        let row: Vec<f32> = (0..whole.images * whole.classes).map(|i| i as f32 - 3.5).collect();
        let given = SoftTargets { views: None, logits: row.clone(), ..example() };
        let repeated = SoftTargets { logits: row.repeat(views), ..example() };
        let mean_with = |other: &SoftTargets| {
            let mut mean = example();
            mean.average(1.0, other, 3.0);
            mean
        };
        assert_eq!(mean_with(&given), mean_with(&repeated));
        let (first, mean) = (whole.of(1, 2)[1], mean_with(&given).of(1, 2)[1]);
        assert_eq!(mean, 0.25 * first + 0.75 * row[2 * whole.classes + 1]);
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

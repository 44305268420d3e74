//! Batches of normalised floats, made from images as bytes when they are needed. Each image is
//! augmented, resized and normalised separately, so that no augmented set is ever in memory.

use std::borrow::Cow;
use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_data::{ImageSet, Normalization, Resize, Views};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::SoftTargets;

/// Normalises bytes to `(byte / 255 - mean) / std`, with a look-up table per channel.
#[derive(Debug, Clone)]
pub(super) struct Normalizer {
    tables: Vec<[f32; 256]>,
}

impl Normalizer {
    pub(super) fn new(normalization: &Normalization) -> Self {
        let table = |(mean, std): (&f32, &f32)| {
            std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std)
        };
        Self { tables: normalization.mean.iter().zip(&normalization.std).map(table).collect() }
    }

    /// The images at `indices`, `[batch, channels, height, width]`.
    pub(super) fn batch(
        &self,
        images: &mut Images,
        indices: &[usize],
        device: &Device,
    ) -> Tensor<4> {
        Tensor::from_data(self.normalized(images, indices), device)
    }

    /// [`Normalizer::batch`] before it is moved to a device.
    fn normalized(&self, images: &mut Images, indices: &[usize]) -> TensorData {
        let (channels, side) = (images.set.channels, images.side);
        let mut values = Vec::with_capacity(indices.len() * channels * side * side);
        for &index in indices {
            let planes = images.image(index).chunks_exact(side * side);
            for (plane, table) in planes.zip(&self.tables) {
                values.extend(plane.iter().map(|&byte| table[usize::from(byte)]));
            }
        }
        TensorData::new(values, [indices.len(), channels, side, side])
    }
}

/// One training batch.
pub(super) struct Batch {
    /// Normalised, `[batch, channels, height, width]`.
    pub(super) images: TensorData,
    /// One per image.
    pub(super) labels: Vec<u16>,
    /// The teacher's logits of each image, row after row.
    pub(super) teacher: Option<Vec<f32>>,
    /// The teacher's features of each image, row after row.
    pub(super) features: Option<Vec<f32>>,
}

impl Batch {
    /// The batch in parts of at most so many images that are about equally large; itself if it has
    /// no more.
    pub(super) fn parts(self, most: usize) -> Vec<Batch> {
        let images = self.labels.len();
        let size = images.div_ceil(images.div_ceil(most.max(1)).max(1));
        if size >= images {
            return vec![self];
        }
        let [_, channels, height, width] = self.images.shape().dims();
        let pixels: &[f32] = self.images.as_slice().expect("images are f32");
        let rows_of = |all: &Option<Vec<f32>>, start: usize, count: usize| {
            all.as_deref().map(|rows| {
                let width = rows.len() / images;
                rows[start * width..][..count * width].to_vec()
            })
        };
        let of_part = |(labels, pixels): (&[u16], &[f32]), start: usize| Batch {
            images: TensorData::new(pixels.to_vec(), [labels.len(), channels, height, width]),
            labels: labels.to_vec(),
            teacher: rows_of(&self.teacher, start, labels.len()),
            features: rows_of(&self.features, start, labels.len()),
        };
        let pixels = pixels.chunks(size * channels * height * width);
        let parts = self.labels.chunks(size).zip(pixels).zip((0..).step_by(size));
        parts.map(|(part, start)| of_part(part, start)).collect()
    }
}

/// The batches of a training. Every epoch has its own order.
pub(super) struct Batches<'a> {
    pub(super) set: &'a ImageSet,
    pub(super) images: Images<'a>,
    pub(super) normalizer: Normalizer,
    /// Epoch `e` uses view `e % views`.
    pub(super) views: u32,
    pub(super) soft_targets: Option<&'a SoftTargets>,
    /// Whether the teacher's features are needed, too.
    pub(super) copies: bool,
    pub(super) batch_size: usize,
    /// Steps of each epoch.
    pub(super) steps: usize,
    pub(super) shuffle_seed: [u8; 32],
}

impl<'a> Batches<'a> {
    /// The batches of `epochs`, in order.
    pub(super) fn of(mut self, epochs: Range<u32>) -> impl Iterator<Item = Batch> + Send + 'a {
        let mut order: Vec<usize> = (0..self.set.len()).collect();
        let steps = epochs.flat_map(move |epoch| (0..self.steps).map(move |step| (epoch, step)));
        steps.map(move |(epoch, step)| {
            let view = epoch % self.views;
            if step == 0 {
                self.images.turn_to(view);
                shuffle(&mut order, self.shuffle_seed, epoch);
            }
            let start = step * self.batch_size;
            let indices = &order[start..order.len().min(start + self.batch_size)];
            let rows = |targets: &SoftTargets| {
                let rows = indices.iter().flat_map(|&i| targets.of(view as usize, i));
                rows.copied().collect()
            };
            let features = |targets: &SoftTargets| {
                let rows = indices.iter().map(|&i| targets.features_of(view as usize, i));
                Some(rows.collect::<Option<Vec<_>>>()?.concat())
            };
            Batch {
                images: self.normalizer.normalized(&mut self.images, indices),
                labels: indices.iter().map(|&i| self.set.labels[i]).collect(),
                teacher: self.soft_targets.map(rows),
                features: self.soft_targets.filter(|_| self.copies).and_then(features),
            }
        })
    }
}

/// Shuffles the images for one epoch. The order depends only on the seed and the epoch.
fn shuffle(order: &mut [usize], seed: [u8; 32], epoch: u32) {
    for (position, index) in order.iter_mut().enumerate() {
        *index = position;
    }
    let mut rng = ChaCha8Rng::from_seed(seed);
    rng.set_stream(u64::from(epoch));
    order.shuffle(&mut rng);
}

/// The images of a set in one view, at the resolution of a network.
pub(super) struct Images<'a> {
    /// Borrowed, except if images are not augmented and need another size: then they are resized
    /// once.
    set: Cow<'a, ImageSet>,
    side: usize,
    view: Option<View<'a>>,
}

/// Buffers for images that differ between views.
struct View<'a> {
    views: &'a Views,
    number: u32,
    /// One image at the set's resolution.
    native: Vec<u8>,
    /// `None` if that is also the network's resolution.
    resized: Option<(Resize, Vec<u8>)>,
}

impl<'a> Images<'a> {
    /// The images without augmentation, at `side` × `side` pixels.
    pub(super) fn new(set: &'a ImageSet, side: usize) -> Self {
        let fits = (set.height, set.width) == (side, side);
        let set = if fits { Cow::Borrowed(set) } else { Cow::Owned(set.resized(side)) };
        Self { set, side, view: None }
    }

    /// Views of the images, initially view 0.
    pub(super) fn of_views(set: &'a ImageSet, views: &'a Views, side: usize) -> Self {
        if !views.differ() {
            return Self::new(set, side);
        }
        let size = (set.height, set.width);
        let resized = (size != (side, side))
            .then(|| (Resize::new(size, (side, side)), vec![0; set.channels * side * side]));
        let native = vec![0; set.image_bytes()];
        let view = Some(View { views, number: 0, native, resized });
        Self { set: Cow::Borrowed(set), side, view }
    }

    /// Switches to another view.
    pub(super) fn turn_to(&mut self, view: u32) {
        if let Some(turned) = &mut self.view {
            turned.number = view;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.set.len()
    }

    /// Image `i`, `[channels][side][side]`.
    fn image(&mut self, i: usize) -> &[u8] {
        let Some(View { views, number, native, resized }) = &mut self.view else {
            return self.set.image(i);
        };
        views.render(&self.set, *number, i, native);
        match resized {
            None => native,
            Some((resize, resized)) => {
                let planes = native.chunks_exact(self.set.height * self.set.width);
                for (from, to) in planes.zip(resized.chunks_exact_mut(self.side * self.side)) {
                    resize.plane(from, to);
                }
                resized
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::Seed;
    use edgesmith_common::spec::Augmentation;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_normalised_by_channel() {
        let set = ImageSet {
            channels: 3,
            height: 2,
            width: 2,
            pixels: [[0; 12], [0, 255, 0, 255, 255, 51, 255, 51, 51, 0, 51, 0]].concat(),
            labels: vec![0, 1],
        };
        let normalization = Normalization { mean: vec![0.0, 0.5, 0.2], std: vec![1.0, 0.5, 0.1] };
        let mut images = Images::new(&set, 2);
        let batch = Normalizer::new(&normalization).batch(&mut images, &[1, 0], &Device::flex());
        assert_eq!(batch.dims(), [2, 3, 2, 2]);
        let values = batch.into_data().try_into_vec::<f32>().unwrap();
        let image = |red: [f32; 2], green: [f32; 2], blue: [f32; 2]| {
            [red, green, blue].map(|pair| [pair, pair].concat()).concat()
        };
        let expected =
            [image([0.0, 1.0], [1.0, -0.6], [0.0, -2.0]), image([0.0; 2], [-1.0; 2], [-2.0; 2])];
        for (value, expected) in values.iter().zip(expected.concat()) {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn images_equal_those_of_the_rendered_set(
            (channels, height, width) in (prop::sample::select(vec![1usize, 3]), 1usize..7, 1usize..7),
            side in 1usize..9,
            shift in 0u32..3,
            flip: bool,
            count in 1u32..4,
            bytes in prop::collection::vec(any::<u8>(), 5 * 3 * 36),
        ) {
            let pixels = bytes[..5 * channels * height * width].to_vec();
            let set = ImageSet { channels, height, width, pixels, labels: vec![3, 1, 4, 1, 5] };
            let views = Views::new(&Augmentation { shift, flip, views: count }, Seed(7));
            let mut images = Images::of_views(&set, &views, side);
            prop_assert_eq!(images.len(), 5);
            // Out of order, and back again.
            for view in [0, count - 1, 0, count / 2] {
                images.turn_to(view);
                let whole = views.render_all(&set, view).resized(side);
                for i in [4, 0, 2, 3, 1] {
                    prop_assert_eq!(images.image(i), whole.image(i));
                }
            }
            let (mut plain, resized) = (Images::new(&set, side), set.resized(side));
            prop_assert_eq!(plain.image(3), resized.image(3));
        }
    }
}

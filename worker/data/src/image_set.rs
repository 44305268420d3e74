//! Labelled images of one size, as bytes, and values computed from them: subsets, other resolutions
//! and normalisation constants.

use edgesmith_common::ArtifactHash;

/// Labelled images of one size, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    /// Channels of each image, 1 or 3.
    pub channels: usize,
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// `[images][channels][height][width]`.
    pub pixels: Vec<u8>,
    /// The class of each image.
    pub labels: Vec<u16>,
}

impl ImageSet {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether the set has no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image: channels × height × width.
    pub fn image_bytes(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Hash of the images, their labels and their order.
    pub fn hash(&self) -> ArtifactHash {
        let sizes =
            [self.channels, self.height, self.width].map(|size| (size as u64).to_le_bytes());
        let labels: Vec<u8> = self.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        let parts = [ArtifactHash::of(&sizes.concat()), ArtifactHash::of(&labels)];
        let pixels = ArtifactHash::of(&self.pixels);
        let hashes: Vec<u8> =
            parts.iter().chain([&pixels]).flat_map(|hash| *hash.as_bytes()).collect();
        ArtifactHash::of(&hashes)
    }

    /// Image `i`, `[channels][height][width]`.
    ///
    /// # Panics
    /// If `i` is not below [`ImageSet::len`].
    pub fn image(&self, i: usize) -> &[u8] {
        let bytes = self.image_bytes();
        &self.pixels[i * bytes..(i + 1) * bytes]
    }

    /// The images at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below [`ImageSet::len`].
    pub fn subset(&self, indices: &[usize]) -> ImageSet {
        let mut pixels = Vec::with_capacity(indices.len() * self.image_bytes());
        for &i in indices {
            pixels.extend_from_slice(self.image(i));
        }
        let labels = indices.iter().map(|&i| self.labels[i]).collect();
        ImageSet { pixels, labels, ..self.shape() }
    }

    /// Keeps the first `count` images.
    pub fn truncate(&mut self, count: usize) {
        self.labels.truncate(count);
        self.pixels.truncate(self.labels.len() * self.image_bytes());
    }

    /// The images at `side` × `side` pixels; other shapes are stretched. Along an axis that
    /// shrinks, a pixel becomes the mean of the area that it covers. Along an axis that grows,
    /// pixels are interpolated linearly between centres. An axis of the same size is copied.
    ///
    /// # Panics
    /// If `side` is 0.
    pub fn resized(&self, side: usize) -> ImageSet {
        self.resized_to((side, side))
    }

    /// The same images of another height and width.
    ///
    /// # Panics
    /// If one of them is 0.
    pub fn resized_to(&self, (height, width): (usize, usize)) -> ImageSet {
        if (self.height, self.width) == (height, width) {
            return self.clone();
        }
        let planes = self.len() * self.channels;
        let mut resize = Resize::new((self.height, self.width), (height, width));
        let mut pixels = vec![0; planes * height * width];
        let sources = self.pixels.chunks_exact(self.height * self.width);
        for (from, to) in sources.zip(pixels.chunks_exact_mut(height * width)) {
            resize.plane(from, to);
        }
        ImageSet { height, width, pixels, labels: self.labels.clone(), ..self.shape() }
    }

    /// An empty set for images of this shape.
    fn shape(&self) -> ImageSet {
        ImageSet {
            channels: self.channels,
            height: self.height,
            width: self.width,
            pixels: Vec::new(),
            labels: Vec::new(),
        }
    }
}

/// Normalisation constants of each channel: networks get `(byte / 255 - mean) / std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    /// Mean of each channel, `0..=1`.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, above 0; 1 if all pixels of the channel are equal.
    pub std: Vec<f32>,
}

impl Normalization {
    /// The constants with which the pixels of `set` have mean 0 and variance 1 in each channel.
    /// Sums are of integers, so the order of images does not matter.
    pub fn of(set: &ImageSet) -> Self {
        let plane = set.height * set.width;
        let mut sums = vec![(0u64, 0u64); set.channels];
        for (i, plane) in set.pixels.chunks_exact(plane.max(1)).enumerate() {
            let (sum, squares) = &mut sums[i % set.channels];
            for &byte in plane {
                *sum += u64::from(byte);
                *squares += u64::from(byte) * u64::from(byte);
            }
        }
        let count = (set.len() * plane).max(1) as f64;
        let constants = sums.iter().map(|&(sum, squares)| {
            let mean = sum as f64 / count;
            let variance = (squares as f64 / count - mean * mean).max(0.0);
            let std = variance.sqrt() / 255.0;
            // About half of the smallest deviation that one different pixel among 10^9 can cause.
            let std = if std < 1e-7 { 1.0 } else { std };
            ((mean / 255.0) as f32, std as f32)
        });
        let (mean, std) = constants.unzip();
        Self { mean, std }
    }
}

/// Resizes planes from one size to another in two passes, first along rows.
pub struct Resize {
    columns: Axis,
    rows: Axis,
    /// `[source rows][target columns]`
    between: Vec<f32>,
    /// `[target columns]`
    sums: Vec<f32>,
}

impl Resize {
    /// Takes the source and the target size as (height, width), all above 0.
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        assert!(
            from.0 > 0 && from.1 > 0 && to.0 > 0 && to.1 > 0,
            "an image has at least one pixel"
        );
        Self {
            rows: Axis::new(from.0, to.0),
            columns: Axis::new(from.1, to.1),
            between: vec![0.0; from.0 * to.1],
            sums: vec![0.0; to.1],
        }
    }

    /// Resizes one plane, `[height][width]`.
    pub fn plane(&mut self, from: &[u8], to: &mut [u8]) {
        let (from_width, to_width) = (self.columns.from, self.columns.taps.len());
        for (row, between) in
            from.chunks_exact(from_width).zip(self.between.chunks_exact_mut(to_width))
        {
            for (tap, out) in self.columns.taps.iter().zip(between) {
                let values = &row[tap.first..tap.first + tap.weights.len()];
                *out = tap.weights.iter().zip(values).map(|(w, &v)| w * f32::from(v)).sum();
            }
        }
        for (tap, out) in self.rows.taps.iter().zip(to.chunks_exact_mut(to_width)) {
            let rows = self.between[tap.first * to_width..].chunks_exact(to_width);
            self.sums.fill(0.0);
            for (weight, row) in tap.weights.iter().zip(rows) {
                self.sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
            }
            // The cast truncates and saturates, and sums of weights are 1 up to rounding. `round`
            // would return the same except for the number just below a half, and needs a call.
            out.iter_mut().zip(&self.sums).for_each(|(out, sum)| *out = (sum + 0.5) as u8);
        }
    }
}

/// The source pixels and weights of each target pixel of an axis.
struct Axis {
    from: usize,
    taps: Vec<Tap>,
}

/// Neighbouring source pixels and their weights, which add up to 1.
struct Tap {
    first: usize,
    weights: Vec<f32>,
}

impl Axis {
    fn new(from: usize, to: usize) -> Self {
        let taps = (0..to)
            .map(|i| if to < from { Tap::area(i, from, to) } else { Tap::linear(i, from, to) })
            .collect();
        Self { from, taps }
    }
}

impl Tap {
    /// Target pixel `i` covers the source from `i * from / to` to `(i + 1) * from / to`. In units
    /// of 1 / `to` of a source pixel, all bounds are whole numbers, so rounding cannot change which
    /// pixels take part.
    fn area(i: usize, from: usize, to: usize) -> Self {
        let (start, end) = (i * from, (i + 1) * from);
        let first = start / to;
        let weights = (first..end.div_ceil(to))
            .map(|pixel| {
                let covered = end.min((pixel + 1) * to) - start.max(pixel * to);
                covered as f32 / from as f32
            })
            .collect();
        Self { first, weights }
    }

    /// Interpolates between the two nearest centres. Beyond the outermost centre, takes the
    /// outermost pixel.
    fn linear(i: usize, from: usize, to: usize) -> Self {
        if from == to {
            return Self { first: i, weights: vec![1.0] };
        }
        let centre = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let centre = centre.clamp(0.0, (from - 1) as f64);
        let first = (centre as usize).min(from.saturating_sub(2));
        let share = (centre - first as f64) as f32;
        let weights = if from == 1 { vec![1.0] } else { vec![1.0 - share, share] };
        Self { first, weights }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(channels: usize, height: usize, width: usize, pixels: Vec<u8>) -> ImageSet {
        let images = pixels.len() / (channels * height * width);
        ImageSet { channels, height, width, pixels, labels: (0..images as u16).collect() }
    }

    #[test]
    fn images_and_subsets_are_the_pixels_in_order() {
        let all = set(1, 1, 2, vec![1, 2, 3, 4, 5, 6]);
        assert_eq!(all.image(1), [3, 4]);
        let some = all.subset(&[2, 0]);
        assert_eq!((some.pixels, some.labels), (vec![5, 6, 1, 2], vec![2, 0]));
        let mut first = all.clone();
        first.truncate(1);
        assert_eq!((first.len(), first.pixels), (1, vec![1, 2]));
    }

    #[test]
    fn halving_takes_the_mean_of_four() {
        let small = set(1, 2, 4, vec![0, 10, 100, 100, 20, 30, 100, 104]).resized_to((1, 2)).pixels;
        assert_eq!(small, [15, 101]);
    }

    #[test]
    fn shrinking_by_a_fraction_splits_the_middle_pixel() {
        // Three pixels into two: (a + b/2) / 1.5 and (b/2 + c) / 1.5.
        assert_eq!(set(1, 1, 3, vec![30, 60, 90]).resized_to((1, 2)).pixels, [40, 80]);
    }

    #[test]
    fn growing_interpolates_between_centres() {
        // Four pixels have their centres at -0.25, 0.25, 0.75 and 1.25 of two source pixels.
        assert_eq!(set(1, 1, 2, vec![0, 100]).resized_to((1, 4)).pixels, [0, 25, 75, 100]);
    }

    #[test]
    fn channels_and_images_are_resized_separately() {
        let two = set(3, 1, 1, vec![1, 2, 3, 4, 5, 6]).resized(2);
        assert_eq!(two.labels, [0, 1]);
        assert_eq!(two.image(1), [4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6]);
    }

    #[test]
    fn normalization_follows_the_definition() {
        let all = set(3, 1, 2, vec![0, 255, 7, 7, 0, 0, 255, 255, 7, 7, 0, 51]);
        let Normalization { mean, std } = Normalization::of(&all);
        assert_eq!(mean, [0.75, 7.0 / 255.0, 0.05]);
        assert!((std[0] - 0.1875f32.sqrt()).abs() < 1e-6);
        assert_eq!(std[1], 1.0, "the deviation of a constant channel is not 0");
        assert!((std[2] - 0.0075f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn normalization_of_an_empty_set_is_finite() {
        let Normalization { mean, std } = Normalization::of(&set(1, 2, 2, vec![]));
        assert_eq!((mean, std), (vec![0.0], vec![1.0]));
    }

    proptest! {
        #[test]
        fn an_image_of_the_same_side_is_unchanged(side in 1usize..9, bytes in any::<[u8; 64]>()) {
            let image = set(1, side, side, bytes[..side * side].to_vec());
            prop_assert_eq!(&image.resized(side), &image);
            let mut same = vec![0; side * side];
            Resize::new((side, side), (side, side)).plane(image.image(0), &mut same);
            prop_assert_eq!(same, image.pixels);
        }

        #[test]
        fn a_constant_image_stays_constant(h in 1usize..40, w in 1usize..40, side in 1usize..40, value: u8) {
            let image = set(1, h, w, vec![value; h * w]).resized(side);
            prop_assert!(image.pixels.iter().all(|&v| v == value));
        }

        #[test]
        fn shrinking_keeps_the_mean(side in 1usize..17, bytes in prop::collection::vec(any::<u8>(), 17 * 17)) {
            let mean = |p: &[u8]| p.iter().map(|&v| f64::from(v)).sum::<f64>() / p.len() as f64;
            let image = set(1, 17, 17, bytes);
            prop_assert!((mean(&image.resized(side).pixels) - mean(&image.pixels)).abs() <= 0.5 + 1e-3);
        }

        #[test]
        fn growing_stays_within_the_range(from in 1usize..8, to in 8usize..40, bytes in any::<[u8; 64]>()) {
            let image = set(1, from, from, bytes[..from * from].to_vec());
            let (low, high) = (image.pixels.iter().min(), image.pixels.iter().max());
            let grown = image.resized(to);
            prop_assert!(grown.pixels.iter().min() >= low && grown.pixels.iter().max() <= high);
        }
    }
}

//! Augmented views of training images at native resolution: a fixed number of shifted and mirrored
//! versions of each, the same for all networks of a study.
//!
//! Views are made before images are resized, so a teacher and a student with different input
//! resolutions see the same view.

use edgesmith_common::spec::Augmentation;
use edgesmith_common::{Purpose, Seed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ImageSet;

/// The augmented views of training images. A view depends only on the seed, the number of the view
/// and the number of the image.
///
/// The views of an image are distinct transforms until all that the augmentation allows have been
/// used; then they repeat. Each image has its own order. View 0 is the image itself.
#[derive(Debug, Clone)]
pub struct Views {
    seed: [u8; 32],
    count: u32,
    shift: i64,
    /// Number of transforms that the augmentation allows, including the identity.
    transforms: u64,
}

impl Views {
    /// The views for an augmentation.
    pub fn new(augmentation: &Augmentation, seed: Seed) -> Self {
        // No image that fits in memory is larger, and with this limit the number of transforms fits
        // in 64 bits.
        let shift = i64::from(augmentation.shift.min(1 << 20));
        let offsets = (2 * shift as u64 + 1).pow(2);
        Self {
            seed: seed.derive(Purpose::Views),
            count: augmentation.views.max(1),
            shift,
            transforms: offsets * if augmentation.flip { 2 } else { 1 },
        }
    }

    /// Number of views of each image, at least 1.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether any view differs from the image itself.
    pub fn differ(&self) -> bool {
        self.count > 1 && self.transforms > 1
    }

    /// Number of views that a training of `epochs` uses: epoch `e` uses view `e % count`.
    pub fn used(&self, epochs: u32) -> u32 {
        self.count.min(epochs.max(1))
    }

    /// Writes view `view` of image `image` of `set` to `out`, `[channels][height][width]` at native
    /// resolution. Pixels that a shift brings in are 0.
    ///
    /// # Panics
    /// If `image` is not below `set.len()`, or the length of `out` is not
    /// [`ImageSet::image_bytes`].
    pub fn render(&self, set: &ImageSet, view: u32, image: usize, out: &mut [u8]) {
        assert_eq!(out.len(), set.image_bytes(), "room for one image");
        self.transform(view, image).apply(set.image(image), (set.height, set.width), out);
    }

    /// View `view` of every image, in order, with its label.
    pub fn render_all(&self, set: &ImageSet, view: u32) -> ImageSet {
        let mut rendered = set.clone();
        for (i, out) in rendered.pixels.chunks_exact_mut(set.image_bytes()).enumerate() {
            self.render(set, view, i, out);
        }
        rendered
    }

    /// The transform of a view of an image. Transform 0 is the identity. The others are visited
    /// with a stride that shares no factor with their number, so that each is visited once. Start
    /// and stride depend on the image.
    fn transform(&self, view: u32, image: usize) -> Transform {
        let position = u64::from(view) % self.transforms;
        if position == 0 {
            return Transform::IDENTITY;
        }
        let others = self.transforms - 1;
        let mut rng = ChaCha8Rng::from_seed(self.seed);
        rng.set_stream(image as u64);
        let start = rng.random_range(0..others);
        let stride = loop {
            let stride = rng.random_range(1..=others);
            if greatest_common_divisor(stride, others) == 1 {
                break stride;
            }
        };
        let steps = u128::from(position - 1) * u128::from(stride) % u128::from(others);
        self.numbered(1 + (start + steps as u64) % others)
    }

    /// Transform `number` of `0..transforms`; 0 is the identity.
    fn numbered(&self, number: u64) -> Transform {
        let span = 2 * self.shift as u64 + 1;
        // Offset 0 means no shift.
        let centred = |offset: u64| {
            let offset = offset as i64;
            if offset > self.shift { offset - span as i64 } else { offset }
        };
        Transform {
            right: centred(number % span),
            down: centred(number / span % span),
            mirrored: number / (span * span) == 1,
        }
    }
}

/// A shift of an image, which may be mirrored first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Transform {
    right: i64,
    down: i64,
    mirrored: bool,
}

impl Transform {
    const IDENTITY: Self = Self { right: 0, down: 0, mirrored: false };

    fn apply(self, image: &[u8], (height, width): (usize, usize), out: &mut [u8]) {
        if self == Self::IDENTITY {
            out.copy_from_slice(image);
            return;
        }
        out.fill(0);
        let rows = overlap(self.down, height);
        let columns = overlap(self.right, width);
        let plane = height * width;
        for (from, to) in image.chunks_exact(plane).zip(out.chunks_exact_mut(plane)) {
            for y in rows.clone() {
                let from_row = (y as i64 - self.down) as usize * width;
                let from = &from[from_row..from_row + width];
                let to = &mut to[y * width..(y + 1) * width];
                for x in columns.clone() {
                    let source = (x as i64 - self.right) as usize;
                    to[x] = from[if self.mirrored { width - 1 - source } else { source }];
                }
            }
        }
    }
}

/// The target positions on an axis of `length` that a shift by `shift` fills from the source.
fn overlap(shift: i64, length: usize) -> std::ops::Range<usize> {
    let length = length as i64;
    shift.clamp(0, length) as usize..(length + shift).clamp(0, length) as usize
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn views(shift: u32, flip: bool, views: u32) -> Views {
        Views::new(&Augmentation { shift, flip, views }, Seed(7))
    }

    /// `images` images with distinct pixels, none of which is 0.
    fn ramp(images: usize, channels: usize, height: usize, width: usize) -> ImageSet {
        let bytes = images * channels * height * width;
        ImageSet {
            channels,
            height,
            width,
            pixels: (0..bytes).map(|i| (i % 255) as u8 + 1).collect(),
            labels: vec![0; images],
        }
    }

    #[test]
    fn view_0_is_the_image_itself() {
        let set = ramp(5, 3, 4, 6);
        assert_eq!(views(2, true, 4).render_all(&set, 0), set);
    }

    #[test]
    fn a_view_depends_on_seed_view_and_image_only() {
        let set = ramp(20, 1, 5, 5);
        let views = views(2, true, 4);
        let all = views.render_all(&set, 3);
        let mut alone = vec![9; 25];
        views.render(&set, 3, 17, &mut alone);
        assert_eq!(alone, all.image(17));
        assert_eq!(all, views.clone().render_all(&set, 3));
        assert_ne!(all, views.render_all(&set, 2));
        let other = Views::new(&Augmentation { shift: 2, flip: true, views: 4 }, Seed(8));
        assert_ne!(all, other.render_all(&set, 3));
    }

    #[test]
    fn a_transform_moves_and_mirrors_every_channel() {
        let set = ramp(1, 2, 2, 3);
        let mut out = [9; 12];
        Transform { right: 1, down: 0, mirrored: false }.apply(set.image(0), (2, 3), &mut out);
        assert_eq!(out, [0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11]);
        Transform { right: 0, down: -1, mirrored: false }.apply(set.image(0), (2, 3), &mut out);
        assert_eq!(out, [4, 5, 6, 0, 0, 0, 10, 11, 12, 0, 0, 0]);
        Transform { right: 0, down: 0, mirrored: true }.apply(set.image(0), (2, 3), &mut out);
        assert_eq!(out, [3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10]);
        Transform { right: -1, down: 1, mirrored: true }.apply(set.image(0), (2, 3), &mut out);
        assert_eq!(out, [0, 0, 0, 2, 1, 0, 0, 0, 0, 8, 7, 0]);
    }

    #[test]
    fn without_shifts_views_only_flip() {
        let set = ramp(30, 1, 2, 2);
        let views = views(0, true, 2);
        let mirrored = views.render_all(&set, 1);
        for i in 0..set.len() {
            let image = set.image(i);
            assert_eq!(mirrored.image(i), [image[1], image[0], image[3], image[2]]);
        }
    }

    #[test]
    fn without_augmentation_every_view_is_the_image() {
        let set = ramp(3, 1, 4, 4);
        assert_eq!(views(0, false, 8).render_all(&set, 5), set);
    }

    #[test]
    fn a_shift_beyond_the_image_is_black() {
        let set = ramp(4, 1, 3, 3);
        let far = views(u32::MAX, true, 3).render_all(&set, 1);
        assert!(far.pixels.iter().all(|&v| v == 0));
    }

    #[test]
    fn about_half_of_the_views_are_mirrored() {
        let views = views(2, true, 8);
        let mirrored = (0..2000).filter(|&i| views.transform(3, i).mirrored).count();
        assert!((900..1130).contains(&mirrored), "{mirrored} of 2000");
    }

    proptest! {
        #[test]
        fn views_of_an_image_are_distinct_and_within_bounds(shift in 0u32..4, flip: bool, image in 0usize..1000) {
            let views = views(shift, flip, 1);
            let all: HashSet<Transform> =
                (0..views.transforms as u32).map(|view| views.transform(view, image)).collect();
            prop_assert_eq!(all.len() as u64, views.transforms);
            let bound = i64::from(shift);
            prop_assert!(all.iter().all(|t| t.right.abs() <= bound && t.down.abs() <= bound));
            prop_assert!(flip || all.iter().all(|t| !t.mirrored));
            let again = views.transform(views.transforms as u32 + 1, image);
            prop_assert_eq!(again, views.transform(1, image));
        }
    }
}

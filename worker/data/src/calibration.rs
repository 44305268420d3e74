//! Which training images a network is observed on: for ranges of values, means of layers and the
//! importance of channels. They are chosen by chance from the study's seed, with the same number of
//! each class as far as the classes have so many. It takes what it is given: callers pass training
//! images as they are, without augmentation, never those of validation or test.

use edgesmith_common::{Purpose, Seed};
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ImageSet;

impl ImageSet {
    /// At most `most` of the images. They are dealt out in turns: each turn has one image of each
    /// class that has any left, so the first images of the choice are balanced, too. A smaller
    /// choice with the same seed is the beginning of a larger one. Images of one class, or without
    /// classes, are chosen by chance alone.
    pub fn for_calibration(&self, most: usize, seed: Seed) -> ImageSet {
        let mut rng = ChaCha8Rng::from_seed(seed.derive(Purpose::Calibration));
        let mut order = dealt(&self.labels, &mut rng);
        order.truncate(most);
        self.subset(&order)
    }
}

/// All positions of `labels`, one of each class in turn. The classes of a turn are in an order of
/// chance, so that a turn that is cut off favours none.
fn dealt(labels: &[u16], rng: &mut impl Rng) -> Vec<usize> {
    let classes = labels.iter().max().map_or(0, |last| usize::from(*last) + 1);
    let mut members = vec![Vec::new(); classes];
    for (i, &label) in labels.iter().enumerate() {
        members[usize::from(label)].push(i);
    }
    members.retain(|members| !members.is_empty());
    members.iter_mut().for_each(|members| members.shuffle(rng));
    let mut order = Vec::with_capacity(labels.len());
    while !members.is_empty() {
        members.shuffle(rng);
        order.extend(members.iter_mut().filter_map(Vec::pop));
        members.retain(|members| !members.is_empty());
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Images of one pixel, which is their place.
    fn set(labels: Vec<u16>) -> ImageSet {
        let pixels = (0..labels.len()).map(|i| i as u8).collect();
        ImageSet { channels: 1, height: 1, width: 1, pixels, labels }
    }

    proptest! {
        #[test]
        fn a_choice_is_as_balanced_as_the_classes_allow(
            labels in prop::collection::vec(0u16..5, 0..200), most in 0usize..220, seed: u64,
        ) {
            let set = set(labels.clone());
            let chosen = set.for_calibration(most, Seed(seed));
            prop_assert_eq!(chosen.len(), most.min(labels.len()));
            // None is chosen twice, and each keeps its label.
            let mut places = chosen.pixels.clone();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), chosen.len());
            for (place, label) in chosen.pixels.iter().zip(&chosen.labels) {
                prop_assert_eq!(labels[usize::from(*place)], *label);
            }
            // A class has fewer images than another only if it has no more, or by one.
            let count = |labels: &[u16], class| labels.iter().filter(|l| **l == class).count();
            let largest = (0..5).map(|class| count(&chosen.labels, class)).max().unwrap();
            for class in 0..5 {
                let of_class = count(&chosen.labels, class);
                prop_assert!(of_class == count(&labels, class) || of_class + 1 >= largest);
            }
            // A smaller choice is the beginning.
            let fewer = set.for_calibration(most / 2, Seed(seed));
            prop_assert_eq!(&chosen.pixels[..fewer.len()], &fewer.pixels[..]);
        }
    }

    #[test]
    fn the_seed_says_which() {
        let set = set((0..200).map(|i| i % 10).collect());
        let chosen = |seed| set.for_calibration(20, Seed(seed)).pixels;
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }

    #[test]
    fn every_image_can_be_chosen() {
        let (set, mut seen) = (set([0; 10].to_vec()), [0; 10]);
        for seed in 0..200 {
            for place in set.for_calibration(3, Seed(seed)).pixels {
                seen[usize::from(place)] += 1;
            }
        }
        // The expected count is 60, with a standard deviation of 6.5.
        assert!(seen.iter().all(|n| (30..90).contains(n)), "{seen:?}");
    }
}

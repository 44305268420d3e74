//! Stratified, seeded choices of images: the held-out ones, those that a limit keeps, and the
//! validation part.

use edgesmith_common::{ArtifactHash, Purpose, Seed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The purpose of a choice. Each has its own stream of random numbers, so that a limit does not
/// change how later choices are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    Validation = 0,
    TrainLimit = 1,
    HeldOutTest = 2,
}

/// The random number generator for one use.
pub(super) fn generator(seed: Seed, purpose: Use) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::from_seed(seed.derive(Purpose::Split));
    rng.set_stream(purpose as u64);
    rng
}

/// Chooses `count` positions of `labels` (all of them if there are fewer), so that each class has
/// its share, up to one image. Ascending.
pub(super) fn choose(
    labels: &[u16],
    classes: usize,
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<usize> {
    let mut members = vec![Vec::new(); classes];
    for (i, &label) in labels.iter().enumerate() {
        members[usize::from(label)].push(i);
    }
    let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
    let mut chosen = Vec::with_capacity(count.min(labels.len()));
    for (members, quota) in members.iter_mut().zip(quotas(&sizes, count)) {
        // These are the first `quota` steps of a Fisher-Yates shuffle.
        for i in 0..quota {
            let other = rng.random_range(i as u64..members.len() as u64);
            members.swap(i, other as usize);
        }
        chosen.extend_from_slice(&members[..quota]);
    }
    chosen.sort_unstable();
    chosen
}

/// Hash of chosen positions.
pub(super) fn hash(chosen: &[usize]) -> ArtifactHash {
    let bytes: Vec<u8> = chosen.iter().flat_map(|&at| (at as u64).to_le_bytes()).collect();
    ArtifactHash::of(&bytes)
}

/// All positions below `length` that are not in `chosen`. Both are ascending.
pub(super) fn complement(chosen: &[usize], length: usize) -> Vec<usize> {
    let mut chosen = chosen.iter().copied().peekable();
    (0..length).filter(|i| chosen.next_if_eq(i).is_none()).collect()
}

/// Number of images of each class.
pub(super) fn count(labels: &[u16], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for &label in labels {
        counts[usize::from(label)] += 1;
    }
    counts
}

/// Divides `count` among groups in proportion to their sizes, by largest remainders; of equal
/// remainders the earlier group comes first. No group's part is larger than the group.
fn quotas(sizes: &[usize], count: usize) -> Vec<usize> {
    let total: usize = sizes.iter().sum();
    let count = count.min(total);
    if total == 0 {
        return vec![0; sizes.len()];
    }
    // The products are exact in 128 bits.
    let exact = |size: usize| (size as u128 * count as u128, total as u128);
    let mut quotas: Vec<usize> = sizes
        .iter()
        .map(|&size| {
            let (product, total) = exact(size);
            (product / total) as usize
        })
        .collect();
    let missing = count - quotas.iter().sum::<usize>();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&group| {
        let (product, total) = exact(sizes[group]);
        std::cmp::Reverse(product % total)
    });
    for &group in &order[..missing] {
        quotas[group] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotas_follow_largest_remainders() {
        assert_eq!(quotas(&[50, 30, 20], 10), [5, 3, 2]);
        assert_eq!(quotas(&[1, 1, 1], 2), [1, 1, 0]);
        assert_eq!(quotas(&[7, 2, 1], 5), [4, 1, 0]);
        assert_eq!(quotas(&[3, 0, 4], 100), [3, 0, 4]);
        assert_eq!(quotas(&[0, 0], 3), [0, 0]);
    }

    #[test]
    fn uses_and_seeds_differ() {
        let labels = vec![0; 1000];
        let pick = |seed, purpose| choose(&labels, 1, 100, &mut generator(Seed(seed), purpose));
        let chosen = pick(1, Use::Validation);
        assert_eq!(chosen, pick(1, Use::Validation));
        assert_ne!(chosen, pick(2, Use::Validation));
        assert_ne!(chosen, pick(1, Use::TrainLimit));
        assert_ne!(pick(1, Use::TrainLimit), pick(1, Use::HeldOutTest));
    }

    #[test]
    fn every_image_of_a_class_can_be_chosen() {
        let labels = vec![0; 10];
        let mut seen = [0; 10];
        for seed in 0..200 {
            for i in choose(&labels, 1, 3, &mut generator(Seed(seed), Use::Validation)) {
                seen[i] += 1;
            }
        }
        // The expected count is 60, with a standard deviation of 6.5.
        assert!(seen.iter().all(|n| (30..90).contains(n)), "{seen:?}");
    }

    proptest! {
        #[test]
        fn a_choice_is_stratified_and_its_complement_is_the_rest(
            labels in prop::collection::vec(0u16..5, 1..200), share in 0.0f64..1.0, seed: u64,
        ) {
            let wanted = (labels.len() as f64 * share) as usize;
            let chosen = choose(&labels, 5, wanted, &mut generator(Seed(seed), Use::Validation));
            prop_assert_eq!(chosen.len(), wanted);
            prop_assert!(chosen.is_sorted_by(|a, b| a < b));
            let rest = complement(&chosen, labels.len());
            let mut both = [chosen.clone(), rest].concat();
            both.sort_unstable();
            prop_assert_eq!(both, (0..labels.len()).collect::<Vec<_>>());
            let taken: Vec<u16> = chosen.iter().map(|&i| labels[i]).collect();
            for (of_class, all) in count(&taken, 5).into_iter().zip(count(&labels, 5)) {
                let exact = all as f64 * wanted as f64 / labels.len() as f64;
                prop_assert!((of_class as f64 - exact).abs() < 1.0);
            }
        }
    }
}

//! The levels of weights of so many bits: which scale they have, and which level is that of a
//! weight. It knows nothing of layers.
//!
//! Weights of 8 and 16 bits cover the largest weight. Those of 2 and 4 bits have the scale of the
//! least squared error that was found, because few levels over the whole range are far apart. Those
//! of 1 bit are a sign times the mean magnitude, which has the least squared error of all scales
//! (Rastegari et al. 2016, "XNOR-Net", section 3.1). A weight of 0 stays 0 in all of them, so that
//! what was pruned stays so.

/// Fractions of the largest weight that are tried as the end of a range.
const CANDIDATES: u32 = 64;
/// Times that a scale is fitted to the levels that it gives.
const FITS: u32 = 4;

/// Largest level of symmetric weights: 32767, 127, 7, 1, 1.
pub(crate) fn largest(bits: u32) -> i32 {
    if bits < 2 { 1 } else { (1 << (bits - 1)) - 1 }
}

/// The scale of weights that share one; `None` if all are 0, so that any scale works.
pub(crate) fn scale(weights: &[f32], bits: u32) -> Option<f64> {
    let magnitudes = weights.iter().map(|w| f64::from(w.abs()));
    let end = magnitudes.clone().fold(0.0, f64::max);
    if end == 0.0 {
        return None;
    }
    Some(match bits {
        1 => magnitudes.sum::<f64>() / weights.iter().filter(|w| **w != 0.0).count() as f64,
        2..=7 => least_error(weights, end / f64::from(largest(bits)), bits),
        _ => end / f64::from(largest(bits)),
    })
}

/// The scale of the least squared error that is found below `widest`: the best fraction of it, and
/// then the one that fits the levels which that gives, and so on. An error never grows.
fn least_error(weights: &[f32], widest: f64, bits: u32) -> f64 {
    let tried = (1..=CANDIDATES).map(|step| widest * f64::from(step) / f64::from(CANDIDATES));
    let errors = tried.map(|scale| (error(weights, scale, bits), scale));
    let best = errors.min_by(|a, b| a.0.total_cmp(&b.0));
    let mut best = best.map_or(widest, |(_, scale)| scale);
    for _ in 0..FITS {
        let (mut product, mut square) = (0.0, 0.0);
        for &weight in weights {
            let level = f64::from(level(weight, best, bits));
            product += f64::from(weight) * level;
            square += level * level;
        }
        if square == 0.0 {
            break;
        }
        best = product / square;
    }
    best
}

/// The squared error of weights at their levels.
fn error(weights: &[f32], scale: f64, bits: u32) -> f64 {
    let of =
        |&weight: &f32| (f64::from(weight) - f64::from(level(weight, scale, bits)) * scale).powi(2);
    weights.iter().map(of).sum()
}

/// The level of a weight: the nearest one, or its sign for 1 bit.
pub(crate) fn level(weight: f32, scale: f64, bits: u32) -> i32 {
    if bits == 1 {
        return edgesmith_graph::sign(weight).into();
    }
    let most = f64::from(largest(bits));
    (f64::from(weight) / scale).round().clamp(-most, most) as i32
}

/// The scale and the zero point of affine weights, of 2 bits and more: the range from the lowest to
/// the highest weight, with zero, has all levels of a signed integer of so many bits.
pub(crate) fn affine(weights: &[f32], bits: u32) -> Option<(f64, i32)> {
    let ends = weights
        .iter()
        .fold((0.0f64, 0.0f64), |(low, high), &w| (low.min(f64::from(w)), high.max(f64::from(w))));
    let (low, high) = ends;
    if low == high {
        return None;
    }
    let scale = (high - low) / f64::from((1u32 << bits) - 1);
    let lowest = -(1 << (bits - 1));
    let zero = lowest + (-low / scale).round() as i32;
    Some((scale, zero.clamp(lowest, -lowest - 1)))
}

/// The level of an affine weight.
pub(crate) fn affine_level(weight: f32, (scale, zero): (f64, i32), bits: u32) -> i32 {
    let lowest = -(1i32 << (bits - 1));
    let level = (f64::from(weight) / scale).round() + f64::from(zero);
    level.clamp(f64::from(lowest), f64::from(-lowest - 1)) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weights() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(prop_oneof![4 => -2.0..2.0f32, 1 => Just(0.0)], 1..60)
    }

    proptest! {
        #[test]
        fn the_error_is_at_most_half_a_step(weights in weights(), wide: bool) {
            let bits = if wide { 16 } else { 8 };
            let Some(scale) = scale(&weights, bits) else { return Ok(()) };
            for &weight in &weights {
                let level = level(weight, scale, bits);
                prop_assert!(level.abs() <= largest(bits));
                let error = (f64::from(weight) - f64::from(level) * scale).abs();
                prop_assert!(error <= scale * 0.500001, "{weight} at {level}");
            }
        }

        #[test]
        fn affine_levels_are_off_by_half_a_step(
            weights in weights(), bits in prop_oneof![Just(2u32), Just(4), Just(8), Just(16)],
        ) {
            let Some(rule) = affine(&weights, bits) else { return Ok(()) };
            let (scale, zero) = rule;
            let range = -(1i32 << (bits - 1))..(1 << (bits - 1));
            prop_assert!(range.contains(&zero));
            prop_assert_eq!(affine_level(0.0, rule, bits), zero);
            for &weight in &weights {
                let level = affine_level(weight, rule, bits);
                prop_assert!(range.contains(&level));
                let error = (f64::from(weight) - f64::from(level - zero) * scale).abs();
                // The zero point is rounded, so an end may be cut by as much.
                prop_assert!(error <= scale * 1.0001, "{weight} at {level} of {bits} bits");
            }
        }

        /// Against a search among all levels, for one that is nearest to a number.
        #[test]
        fn affine_weights_are_those_of_a_search(
            weights in prop::collection::vec(-2.0..2.0f32, 1..20),
            sign in prop_oneof![Just(None), Just(Some(1.0f32)), Just(Some(-1.0))],
            bits in 2u32..=8,
        ) {
            let with_sign = |weight: f32| sign.map_or(weight, |sign| weight.abs() * sign);
            let weights: Vec<f32> = weights.into_iter().map(with_sign).collect();
            let (mut low, mut high) = (0.0f64, 0.0f64);
            for &weight in &weights {
                if f64::from(weight) < low {
                    low = weight.into();
                }
                if f64::from(weight) > high {
                    high = weight.into();
                }
            }
            prop_assume!(high - low > 0.0);
            let levels: Vec<i32> = match bits {
                2 => vec![-2, -1, 0, 1],
                3 => (-4..4).collect(),
                4 => (-8..8).collect(),
                5 => (-16..16).collect(),
                6 => (-32..32).collect(),
                7 => (-64..64).collect(),
                _ => (-128..128).collect(),
            };
            let steps = (levels.len() - 1) as f64;
            let (scale, zero) = affine(&weights, bits).unwrap();
            prop_assert!((scale * steps - (high - low)).abs() < 1e-9, "{scale} of {low} {high}");
            // How far a real number is from that of a level, in steps; the zero point is that of
            // which the lowest level is nearest to the lowest weight.
            let off = |real: f64, level: i32, zero: i32| {
                (real / (high - low) * steps - f64::from(level - zero)).abs()
            };
            let least = |distances: Vec<f64>| distances.into_iter().fold(f64::INFINITY, f64::min);
            let best = least(levels.iter().map(|zero| off(low, levels[0], *zero)).collect());
            prop_assert!(levels.contains(&zero));
            prop_assert!(off(low, levels[0], zero) < best + 1e-9, "{zero} for {low} {high}");
            for &weight in &weights {
                let level = affine_level(weight, (scale, zero), bits);
                let real = f64::from(weight);
                let best = least(levels.iter().map(|level| off(real, *level, zero)).collect());
                prop_assert!(levels.contains(&level));
                prop_assert!(off(real, level, zero) < best + 1e-9, "{weight} at {level}");
            }
        }

        /// Against many scales around it.
        #[test]
        fn the_mean_magnitude_is_the_best_scale_of_signs(weights in weights()) {
            let Some(best) = scale(&weights, 1) else { return Ok(()) };
            let least = error(&weights, best, 1);
            for step in 1..400 {
                let other = best * f64::from(step) / 100.0;
                prop_assert!(error(&weights, other, 1) >= least - 1e-9, "{other} for {best}");
            }
        }

        /// No scale of a fine grid is much better, and covering all weights is not better at all.
        #[test]
        fn few_levels_have_nearly_the_least_error(weights in weights(), four: bool) {
            let bits = if four { 4 } else { 2 };
            let Some(found) = scale(&weights, bits) else { return Ok(()) };
            let end = weights.iter().fold(0.0f64, |end, w| end.max(f64::from(w.abs())));
            let widest = end / f64::from(largest(bits));
            let least = error(&weights, found, bits);
            prop_assert!(least <= error(&weights, widest, bits) + 1e-9);
            let grid = (1..=2000).map(|step| widest * f64::from(step) / 2000.0);
            let best = grid.map(|scale| error(&weights, scale, bits)).fold(f64::MAX, f64::min);
            let power: f64 = weights.iter().map(|w| f64::from(*w).powi(2)).sum();
            prop_assert!(least <= best + 0.02 * power, "{least} for {best} of {power}");
        }
    }

    /// Worked out by hand.
    #[test]
    fn affine_weights_of_known_numbers() {
        let found = |weights: &[f32], bits: u32| {
            let (scale, zero) = affine(weights, bits).unwrap();
            let levels = weights.iter().map(|w| affine_level(*w, (scale, zero), bits));
            (scale, zero, levels.collect::<Vec<i32>>())
        };
        // From -1 to 2 in 15 steps, five of them below zero; a half goes away from zero.
        let (scale, zero, levels) = found(&[-1.0, 0.0, 0.5, 2.0], 4);
        assert!((scale - 0.2).abs() < 1e-12, "{scale}");
        assert_eq!((zero, levels), (-3, vec![-8, -3, 0, 7]));
        // Of one sign, zero is an end.
        assert_eq!(found(&[1.0, 3.0], 2), (1.0, -2, vec![-1, 1]));
        assert_eq!(found(&[-1.0, -3.0], 2), (1.0, 1, vec![0, -2]));
        assert_eq!(found(&[51.0, 255.0], 8), (1.0, -128, vec![-77, 127]));
        assert_eq!(found(&[-65535.0, -3.0], 16), (1.0, 32767, vec![-32768, 32764]));
        assert_eq!(found(&[-32767.0, 32768.0, 5.0], 16), (1.0, -1, vec![-32768, 32767, 4]));
        // All the same.
        for (bits, most) in [(2, 1), (4, 7), (8, 127), (16, 32767)] {
            let steps = f64::from(2 * most + 1);
            for (weight, zero, level) in [(0.75, -most - 1, most), (-0.75, most, -most - 1)] {
                assert_eq!(found(&[weight; 3], bits), (0.75 / steps, zero, vec![level; 3]));
            }
        }
    }

    #[test]
    fn zeros_stay_zeros_and_nothing_has_no_scale() {
        for bits in [1, 2, 4, 8, 16] {
            assert_eq!(level(0.0, 0.3, bits), 0);
            assert_eq!(scale(&[0.0; 3], bits), None);
        }
        // What was pruned does not make the others smaller.
        assert_eq!(scale(&[0.0, 0.5, -1.5, 0.0], 1), Some(1.0));
        assert_eq!(
            [largest(16), largest(8), largest(4), largest(2), largest(1)],
            [32767, 127, 7, 1, 1]
        );
        assert_eq!(affine(&[0.0; 3], 4), None);
    }
}

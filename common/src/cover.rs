//! Chooses few models for many devices, so that each device gets a model within its limits.

/// A choice of models.
#[derive(Debug, Clone, PartialEq)]
pub struct Cover {
    /// Each chosen model with the demands that it serves, sorted by model. Both are indices into
    /// the inputs of [`cover`].
    pub models: Vec<(usize, Vec<usize>)>,
}

/// The most demands that [`cover`] accepts. The work triples with each demand.
pub const MAX_DEMANDS: usize = 12;

/// Chooses at most `most` models that together serve every demand. The choice has the highest mean
/// value over the demands and, among equals, the fewest models. `meets[model]` says by bit which
/// demands a model meets.
///
/// Exact: by dynamic programming over sets of demands, `O(most · 3^demands)`.
///
/// # Errors
/// Returns the demands that no model meets, or all demands if `most` models cannot serve them
/// together.
///
/// # Panics
/// If there are more than [`MAX_DEMANDS`] demands, or if `meets` and `values` differ in length.
pub fn cover(
    meets: &[u32],
    values: &[f64],
    demands: usize,
    most: usize,
) -> Result<Cover, Vec<usize>> {
    assert!(demands <= MAX_DEMANDS, "no more than {MAX_DEMANDS} demands");
    assert_eq!(meets.len(), values.len(), "a value for each model");
    let members = |set: u32| (0..demands).filter(move |demand| set >> demand & 1 == 1);
    let met = meets.iter().fold(0, |all, own| all | own);
    let unmet: Vec<usize> = (0..demands).filter(|demand| met >> demand & 1 == 0).collect();
    if !unmet.is_empty() {
        return Err(unmet);
    }
    let sets = 1_usize << demands;
    // The most valuable model that meets a set of demands; the first one among equals.
    let mut alone: Vec<Option<usize>> = vec![None; sets];
    for (set, best) in alone.iter_mut().enumerate().skip(1) {
        for (model, own) in meets.iter().enumerate() {
            if own & set as u32 == set as u32
                && best.is_none_or(|best| values[model] > values[best])
            {
                *best = Some(model);
            }
        }
    }
    let worth = |set: usize| alone[set].map(|model| values[model] * set.count_ones() as f64);
    // By number of models: the value of serving a set, and the part that the last model serves.
    let mut rounds: Vec<Vec<Option<(f64, usize)>>> = vec![vec![None; sets]];
    rounds[0][0] = Some((0.0, 0));
    for round in 1..=most.min(demands) {
        let mut next = vec![None; sets];
        for set in 1..sets {
            let mut part = set;
            while part > 0 {
                if let (Some((before, _)), Some(own)) = (rounds[round - 1][set ^ part], worth(part))
                    && next[set].is_none_or(|(best, _)| before + own > best + 1e-12)
                {
                    next[set] = Some((before + own, part));
                }
                part = (part - 1) & set;
            }
        }
        rounds.push(next);
    }
    let all = sets - 1;
    let reached = |round: &usize| rounds[*round][all].map(|(value, _)| value);
    let mut best: Option<usize> = None;
    for round in (0..rounds.len()).filter(|round| reached(round).is_some()) {
        if best.is_none_or(|best| reached(&round) > reached(&best).map(|v| v + 1e-12)) {
            best = Some(round);
        }
    }
    let Some(mut round) = best else { return Err((0..demands).collect()) };
    let (mut left, mut models) = (all, Vec::<(usize, Vec<usize>)>::new());
    while let (true, Some((_, part))) = (left > 0, rounds[round][left]) {
        let model = alone[part].unwrap_or_default();
        let served = members(part as u32);
        match models.iter_mut().find(|(known, _)| *known == model) {
            Some((_, all)) => all.extend(served),
            None => models.push((model, served.collect())),
        }
        left ^= part;
        round -= 1;
    }
    models.sort();
    models.iter_mut().for_each(|(_, served)| served.sort_unstable());
    Ok(Cover { models })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_model_for_all_or_the_best_for_each() {
        // Fast but poor, slow but good, and in between; two devices, the second one slow.
        let (meets, values) = ([0b11, 0b01, 0b01], [0.90, 0.99, 0.95]);
        let one = cover(&meets, &values, 2, 1).unwrap();
        assert_eq!(one.models, [(0, vec![0, 1])]);
        let two = cover(&meets, &values, 2, 2).unwrap();
        assert_eq!(two.models, [(0, vec![1]), (1, vec![0])]);
        // Models that do not help are left out.
        assert_eq!(cover(&meets, &values, 2, 5).unwrap(), two);
        assert_eq!(cover(&[0b11, 0b11], &[0.5, 0.5], 2, 2).unwrap().models, [(0, vec![0, 1])]);
    }

    #[test]
    fn demands_that_no_model_meets_are_returned() {
        assert_eq!(cover(&[0b001, 0b001], &[0.9, 0.8], 3, 3), Err(vec![1, 2]));
        assert_eq!(cover(&[0b01, 0b10], &[0.9, 0.8], 2, 1), Err(vec![0, 1]));
        assert_eq!(cover(&[], &[], 0, 1).unwrap().models, []);
    }

    proptest! {
        #[test]
        fn it_is_the_best_of_all_choices(
            models in prop::collection::vec((0_u32..16, 0_u8..9), 1..7), most in 1_usize..4,
        ) {
            let meets: Vec<u32> = models.iter().map(|(meets, _)| *meets).collect();
            let values: Vec<f64> = models.iter().map(|(_, value)| f64::from(*value)).collect();
            // Try every set of models; keep the best value and the number of models that it needs.
            let mut best: Option<(f64, usize)> = None;
            for chosen in 1_u32..1 << models.len() {
                let own = || (0..models.len()).filter(|m| chosen >> m & 1 == 1);
                let serve = |demand: usize| {
                    let able = own().filter(|m| meets[*m] >> demand & 1 == 1);
                    able.map(|m| values[m]).max_by(f64::total_cmp)
                };
                let served: Option<Vec<f64>> = (0..4).map(serve).collect();
                let count = own().count();
                if let Some(served) = served.filter(|_| count <= most) {
                    let value: f64 = served.iter().sum();
                    if best.is_none_or(|(b, n)| value > b || (value == b && count < n)) {
                        best = Some((value, count));
                    }
                }
            }
            match (cover(&meets, &values, 4, most), best) {
                (Ok(found), Some((value, count))) => {
                    let served: Vec<usize> =
                        found.models.iter().flat_map(|(_, served)| served.clone()).collect();
                    prop_assert_eq!(served.len(), 4);
                    let total: f64 =
                        found.models.iter().map(|(m, s)| values[*m] * s.len() as f64).sum();
                    prop_assert!((total - value).abs() < 1e-9);
                    prop_assert_eq!(found.models.len(), count);
                    for (model, served) in &found.models {
                        prop_assert!(served.iter().all(|d| meets[*model] >> d & 1 == 1));
                    }
                }
                (Err(_), None) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}

//! Operations that repeat or reduce axes: which shape they have, and which numbers belong together.

use smallvec::SmallVec;

use super::{InferError, Operands};
use crate::ties::{Port, Tie, Ties};
use crate::{Scalar, Shape};

/// The shape of several values that are repeated to fit each other: one with fewer axes is extended
/// by axes of size 1 at the end, and then each axis is equal or 1. There is at least one.
pub(super) fn broadcast(inputs: &[&Shape]) -> Result<Shape, InferError> {
    let Some((first, others)) = inputs.split_first() else { return Err(InferError::NoInputs) };
    // Most have one shape.
    if others.iter().all(|other| other == first) {
        return Ok((*first).clone());
    }
    let mut sizes = first.sizes();
    for other in others {
        let theirs = other.sizes();
        sizes.resize(sizes.len().max(theirs.len()), 1);
        for (size, &their) in sizes.iter_mut().zip(&theirs) {
            if *size == 1 {
                *size = their;
            } else if their != 1 && their != *size {
                return Err(InferError::unlike(first, other));
            }
        }
    }
    Ok(Shape::of(&sizes)?)
}

/// Ties of such values: those that have all channels of the output share them with it. One channel
/// that is repeated under many belongs to none of them.
pub(super) fn broadcast_ties(operands: &Operands, output: &Shape) -> Ties {
    let inputs = operands.inputs.iter().enumerate();
    let whole = inputs.filter(|(_, input)| input.channels() == output.channels());
    whole.map(|(place, _)| Tie::same(Port::Input(place), Port::Output)).collect()
}

/// The function `f` of each pair of numbers of two values that are repeated to fit each other.
pub(super) fn pairwise<S: Scalar>(
    operands: &Operands,
    inputs: &[&[S]],
    output: &Shape,
    f: impl Fn(S, S) -> S,
) -> Vec<S> {
    if operands.inputs[0] == operands.inputs[1] {
        return inputs[0].iter().zip(inputs[1]).map(|(&a, &b)| f(a, b)).collect();
    }
    let [a, b] = [0, 1].map(|place| repeated(operands.inputs[place], output));
    a.into_iter().zip(b).map(|(a, b)| f(inputs[0][a], inputs[1][b])).collect()
}

/// For each number of `whole`, the place of the number of `part` that is repeated there. Axes of
/// `part` have the size of `whole` or 1; those at its end may be absent.
pub(super) fn repeated(part: &Shape, whole: &Shape) -> Vec<usize> {
    let mut places = vec![0];
    let mut part = part.sizes();
    part.resize(whole.sizes().len(), 1);
    for (&own, &size) in part.iter().zip(&whole.sizes()) {
        let step = |place: usize, index: u32| {
            place * own as usize + if own == 1 { 0 } else { index as usize }
        };
        places = places
            .into_iter()
            .flat_map(|place| (0..size).map(move |index| step(place, index)))
            .collect();
    }
    places
}

/// The shape with these axes reduced to size 1.
///
/// # Errors
/// If there is none, they are not ascending, or the shape does not have one.
pub(super) fn reduced(shape: &Shape, axes: &[u32]) -> Result<Shape, InferError> {
    let problem = |problem: &str| InferError::Setting {
        setting: "list of axes",
        value: format!("{axes:?}, {problem}"),
    };
    if axes.is_empty() {
        return Err(problem("which names none"));
    }
    if !axes.is_sorted_by(|a, b| a < b) {
        return Err(problem("which is not ascending"));
    }
    let mut sizes = shape.sizes();
    for &axis in axes {
        let size = sizes.get_mut(axis as usize);
        *size.ok_or_else(|| InferError::NoAxis { axis, shape: shape.to_string() })? = 1;
    }
    Ok(Shape::of(&sizes)?)
}

/// The sizes of these axes.
pub(super) fn sizes(shape: &Shape, axes: &[u32]) -> SmallVec<[u32; 3]> {
    let sizes = shape.sizes();
    axes.iter().map(|&axis| sizes[axis as usize]).collect()
}

/// Ties of an operation that combines numbers along these axes: each channel is by itself, unless
/// the channels are one of the axes.
pub(super) fn reduced_ties(axes: &[u32]) -> Ties {
    if axes.contains(&0) { Ties::new() } else { super::channel_by_channel() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(sizes: &[u32]) -> Shape {
        Shape::of(sizes).unwrap()
    }

    #[test]
    fn shapes_are_repeated_where_they_have_one() {
        let of = |inputs: &[&[u32]]| {
            let inputs: Vec<Shape> = inputs.iter().map(|sizes| shape(sizes)).collect();
            broadcast(&inputs.iter().collect::<Vec<_>>()).map(|shape| shape.to_string())
        };
        assert_eq!(of(&[&[3, 4, 5], &[3]]).unwrap(), "3x4x5");
        assert_eq!(of(&[&[3], &[3, 4, 5]]).unwrap(), "3x4x5");
        assert_eq!(of(&[&[3, 1, 5], &[1, 4]]).unwrap(), "3x4x5");
        assert_eq!(of(&[&[1], &[3], &[1, 1, 2]]).unwrap(), "3x1x2");
        assert!(of(&[&[3], &[2]]).is_err());
        assert!(of(&[&[3, 4], &[3, 1, 5], &[3, 5]]).is_err());
        assert!(of(&[]).is_err());
    }

    #[test]
    fn places_are_row_major_and_stay_where_an_axis_is_repeated() {
        let of = |part: &[u32], whole: &[u32]| repeated(&shape(part), &shape(whole));
        assert_eq!(of(&[2, 2], &[2, 2]), [0, 1, 2, 3]);
        assert_eq!(of(&[2], &[2, 3]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(of(&[1, 3], &[2, 3]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(of(&[2, 1, 2], &[2, 2, 2]), [0, 1, 0, 1, 2, 3, 2, 3]);
    }
}

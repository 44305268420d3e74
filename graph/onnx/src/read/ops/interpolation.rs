//! Interpolation that is no resize of a graph: cubic, or smoothed where a map shrinks. Each new
//! position is a sum of several old ones, so it is a product with a constant matrix along each
//! axis.

use edgesmith_graph::Coordinates;

use super::super::call::{Outputs, count};
use super::super::constant::{Constant, Size};
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::View;
use super::matrix::of_values;

/// How much old positions count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interpolation {
    pub(super) curve: Curve,
    /// Where a map shrinks, more positions count than those beside the new one.
    pub(super) smooths: bool,
    /// Positions beyond the border do not count, instead of being as the border.
    pub(super) inside_only: bool,
    pub(super) coordinates: Coordinates,
}

/// How much a position counts, by its distance.
#[derive(Debug, Clone, Copy)]
pub(super) enum Curve {
    /// A line down to 0 at a distance of 1.
    Linear,
    /// A cubic spline with this parameter, which is 0 from a distance of 2 on (Keys 1981).
    Cubic(f64),
}

impl Curve {
    fn reach(self) -> f64 {
        match self {
            Curve::Linear => 1.0,
            Curve::Cubic(_) => 2.0,
        }
    }

    fn at(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Curve::Linear => (1.0 - x).max(0.0),
            Curve::Cubic(a) if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Curve::Cubic(a) if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            Curve::Cubic(_) => 0.0,
        }
    }
}

impl Interpolation {
    /// The matrix `[old position][new position]`.
    fn matrix(&self, input: usize, size: usize, scale: f64) -> Vec<f32> {
        let shrinks = if self.smooths { scale.min(1.0) } else { 1.0 };
        let first = (-self.curve.reach() / shrinks).floor() as i64 + 1;
        let last = input as i64 - 1;
        let mut matrix = vec![0.0; input * size];
        for new in 0..size {
            let at = self.coordinate(new as f64, input as f64, size as f64, scale);
            // The distance to the position before it is above 0 and at most 1.
            let before = at.ceil() as i64 - 1;
            let positions = (first..=1 - first).map(|step| before + step);
            let share = |old: i64| self.curve.at(shrinks * (old as f64 - at));
            let counts = |old: &i64| !self.inside_only || (0..=last).contains(old);
            let all: f64 = positions.clone().filter(counts).map(share).sum();
            for old in positions.filter(counts) {
                let column = &mut matrix[old.clamp(0, last) as usize * size + new];
                *column += share(old) / all;
            }
        }
        matrix.into_iter().map(|share| share as f32).collect()
    }

    /// Where a new position is on the old map.
    fn coordinate(&self, new: f64, input: f64, size: f64, scale: f64) -> f64 {
        let half_pixel = (new + 0.5) / scale - 0.5;
        match self.coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::PytorchHalfPixel if size > 1.0 => half_pixel,
            Coordinates::AlignCorners if size > 1.0 => new * (input - 1.0) / (size - 1.0),
            Coordinates::PytorchHalfPixel | Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => new / scale,
            Coordinates::HalfPixelSymmetric => {
                half_pixel + input / 2.0 * (1.0 - size / (scale * input))
            }
        }
    }
}

/// A tensor with other sizes, each with its scale.
pub(super) fn interpolated(
    network: &mut Network,
    view: &View,
    wanted: &[(Size, f32)],
    interpolation: Interpolation,
) -> Outputs {
    let (own, rank) = (view.sizes(), view.rank());
    let mut view = view.clone();
    for (axis, &(size, scale)) in wanted.iter().enumerate() {
        if size == own[axis] && scale == 1.0 {
            continue;
        }
        if own[axis].batch {
            return Err(Fault::batch("it resizes the batch"));
        }
        let (input, size) = (own[axis].known as usize, count(size.known, "size")? as usize);
        let numbers = input.checked_mul(size).filter(|&numbers| numbers > 0);
        let numbers = numbers.ok_or_else(|| Fault::invalid("it has a size of 0"))?;
        network.spend(numbers)?;
        let matrix = interpolation.matrix(input, size, f64::from(scale));
        let matrix = network.constant(&Constant::floats(vec![input, size], matrix))?;
        let mut order: Vec<usize> = (0..rank).filter(|&other| other != axis).collect();
        order.push(axis);
        let mut product = of_values(network, &view.transposed(&order), &matrix)?;
        while product.rank() > rank {
            product = product.squeezed(0)?;
        }
        let back = |axis: usize| order.iter().position(|&other| other == axis).expect("all axes");
        view = product.transposed(&(0..rank).map(back).collect::<Vec<_>>());
    }
    Ok(vec![view.into()])
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{ResizeAxis, ResizeMode};

    use super::*;

    const COORDINATES: [Coordinates; 5] = [
        Coordinates::HalfPixel,
        Coordinates::PytorchHalfPixel,
        Coordinates::Asymmetric,
        Coordinates::AlignCorners,
        Coordinates::HalfPixelSymmetric,
    ];

    fn interpolation(curve: Curve, smooths: bool, coordinates: Coordinates) -> Interpolation {
        Interpolation { curve, smooths, inside_only: false, coordinates }
    }

    #[test]
    fn a_line_is_what_a_resize_computes() {
        for coordinates in COORDINATES {
            for (input, size, scale) in [(4, 8, 2.0f32), (7, 4, 0.6), (5, 13, 2.75), (3, 1, 0.5)] {
                let axis = ResizeAxis { size, scale, coordinates };
                let mut expected = vec![0.0; (input * size) as usize];
                let taps = axis.taps(ResizeMode::Linear, input);
                for (new, (old, share)) in
                    taps.iter().enumerate().flat_map(|(n, t)| t.map(|t| (n, t)))
                {
                    expected[(old * size) as usize + new] += share as f32;
                }
                let line = interpolation(Curve::Linear, false, coordinates);
                let matrix = line.matrix(input as usize, size as usize, scale.into());
                let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
                assert!(matrix.iter().zip(&expected).all(near), "{axis:?}: {matrix:?}");
            }
        }
    }

    #[test]
    fn shares_add_up_and_keep_straight_lines() {
        for curve in [Curve::Linear, Curve::Cubic(-0.75), Curve::Cubic(-0.5)] {
            for smooths in [false, true] {
                let matrix =
                    interpolation(curve, smooths, Coordinates::HalfPixel).matrix(24, 8, 1.0 / 3.0);
                for new in 0..8 {
                    let column: Vec<f32> = (0..24).map(|old| matrix[old * 8 + new]).collect();
                    assert!((column.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                    let place = |(old, share): (usize, &f32)| old as f32 * share;
                    let middle: f32 = column.iter().enumerate().map(place).sum();
                    let at = (new as f32 + 0.5) * 3.0 - 0.5;
                    // Beyond the border it is as flat as there.
                    if (2..6).contains(&new) {
                        assert!((middle - at).abs() < 1e-3, "{curve:?} {middle} {at}");
                        let used = column.iter().filter(|share| **share != 0.0).count();
                        assert_eq!(used > 4, smooths, "{curve:?} {used}");
                    }
                }
            }
        }
    }
}

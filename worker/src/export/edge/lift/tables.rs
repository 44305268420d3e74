//! What tables of bytes compute that have no name: a factor and an offset for each channel, or a
//! slope for what is negative. A model has only the bytes; any real numbers that give these bytes
//! are as good as those that it was made of.

use edgesmith_edge_runtime::{Function, Quantization};
use edgesmith_graph::Clip;

use super::super::table;

/// What tables compute, one number for each table.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    /// The number itself, in other bytes.
    Same,
    /// `x` where it is not negative, else this slope times `x`.
    Slopes(Vec<f32>),
    /// `factor * x + offset`, and a clip after it.
    Lines { factors: Vec<f32>, offsets: Vec<f32>, clip: Option<Clip> },
}

/// What tables compute, 256 bytes each; `None` if it is something else.
pub(super) fn meaning(tables: &[u8], input: Quantization, output: Quantization) -> Option<Meaning> {
    let (tables, _) = tables.as_chunks::<256>();
    let is =
        |bytes: &[u8; 256], function: &dyn Fn(f32) -> f32| table(input, output, function) == bytes;
    if tables.iter().all(|bytes| is(bytes, &|x| x)) {
        return Some(Meaning::Same);
    }
    let slope = |bytes: &[u8; 256]| {
        let mut slopes = slopes(bytes, input, output).into_iter();
        slopes.find(|&slope| is(bytes, &|x| Function::LeakyRelu { slope }.apply(x)))
    };
    if let Some(slopes) = tables.iter().map(slope).collect() {
        return Some(Meaning::Slopes(slopes));
    }
    let all = || tables.iter().flatten().copied();
    let clamp = (all().min()?, all().max()?);
    [(u8::MIN, u8::MAX), clamp].into_iter().find_map(|(low, high)| {
        let clip = Clip { low: output.dequantize(low), high: output.dequantize(high) };
        let clip = ((low, high) != (u8::MIN, u8::MAX)).then_some(clip);
        let line = |bytes: &[u8; 256]| {
            let (factor, offset) = line(bytes, (low, high), input, output)?;
            let y = |x: f32| {
                let y = factor * x + offset;
                clip.map_or(y, |clip| y.max(clip.low).min(clip.high))
            };
            is(bytes, &y).then_some((factor, offset))
        };
        let lines: Vec<(f32, f32)> = tables.iter().map(line).collect::<Option<_>>()?;
        let (factors, offsets) = lines.into_iter().unzip();
        Some(Meaning::Lines { factors, offsets, clip })
    })
}

/// For a byte of the input, the number that it stands for, and the lowest and highest number that
/// becomes the byte of the table. The lowest and highest byte of a table stand for all numbers
/// beyond them.
fn bounds(
    bytes: &[u8; 256],
    (low, high): (u8, u8),
    input: Quantization,
    output: Quantization,
) -> impl Iterator<Item = (f64, f64, f64)> {
    let half = f64::from(output.scale) / 2.0;
    bytes.iter().enumerate().map(move |(place, &byte)| {
        let [x, y] = [input.dequantize(place as u8), output.dequantize(byte)].map(f64::from);
        let below = if byte == low { f64::NEG_INFINITY } else { y - half };
        let above = if byte == high { f64::INFINITY } else { y + half };
        (x, below, above)
    })
}

/// Slopes that what is negative may have: one in the middle of all, and some with few digits, where
/// others just miss a byte.
fn slopes(bytes: &[u8; 256], input: Quantization, output: Quantization) -> Vec<f32> {
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    for (x, below, above) in bounds(bytes, (u8::MIN, u8::MAX), input, output) {
        if x < 0.0 {
            (low, high) = (low.max(above / x), high.min(below / x));
        }
    }
    let middle = match (low.is_finite(), high.is_finite()) {
        (true, true) => (low + high) / 2.0,
        (true, false) => low + low.abs().max(1.0) * 1e-3,
        (false, true) => high - high.abs().max(1.0) * 1e-3,
        (false, false) => 1.0,
    };
    let rounded = (1..7).map(|digits| {
        let parts = 10f64.powi(digits);
        (middle * parts).round() / parts
    });
    std::iter::once(middle).chain(rounded).map(|slope| slope as f32).collect()
}

/// The factor and the offset that are as far as possible from making another byte.
fn line(
    bytes: &[u8; 256],
    clamp: (u8, u8),
    input: Quantization,
    output: Quantization,
) -> Option<(f32, f32)> {
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Some((0.0, output.dequantize(bytes[0])));
    }
    // For a factor, the offsets that make no byte too small, and none too large.
    let offsets = |factor: f64| {
        bounds(bytes, clamp, input, output).fold(
            (f64::NEG_INFINITY, f64::INFINITY),
            |(low, high), (x, below, above)| {
                (low.max(below - factor * x), high.min(above - factor * x))
            },
        )
    };
    let room = |factor: f64| {
        let (low, high) = offsets(factor);
        high - low
    };
    // The room is concave, so what is between two places is at least as wide as the narrower one.
    let steepest = 512.0 * f64::from(output.scale) / f64::from(input.scale);
    let (mut low, mut high) = (-steepest, steepest);
    for _ in 0..200 {
        let [a, b] = [low + (high - low) / 3.0, high - (high - low) / 3.0];
        if room(a) < room(b) {
            low = a;
        } else {
            high = b;
        }
    }
    let factor = (low + high) / 2.0;
    let (low, high) = offsets(factor);
    (low <= high && low.is_finite() && high.is_finite())
        .then_some((factor as f32, ((low + high) / 2.0) as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: Quantization = Quantization { scale: 0.03, zero_point: 100 };
    const OUTPUT: Quantization = Quantization { scale: 0.05, zero_point: 60 };

    fn tables(functions: &[&dyn Fn(f32) -> f32]) -> Vec<u8> {
        functions.iter().flat_map(|function| table(INPUT, OUTPUT, function)).collect()
    }

    #[test]
    fn tables_mean_what_makes_the_same_bytes() {
        let same = tables(&[&|x| x, &|x| x]);
        assert_eq!(meaning(&same, INPUT, OUTPUT), Some(Meaning::Same));
        let leaky = |slope: f32| move |x: f32| if x < 0.0 { slope * x } else { x };
        let [a, b, c] = [-0.5, 0.0, 1.5].map(leaky);
        let Some(Meaning::Slopes(slopes)) = meaning(&tables(&[&a, &b, &c]), INPUT, OUTPUT) else {
            panic!("slopes");
        };
        for (slope, expected) in slopes.iter().zip([-0.5, 0.0, 1.5]) {
            assert!((slope - expected).abs() < 0.02, "{slopes:?}");
        }
    }

    #[test]
    fn a_factor_and_an_offset_for_each_channel_are_found() {
        let lines = [(0.7f32, 0.3f32), (-2.0, 1.0), (0.0, 0.4), (1e-3, -0.2), (40.0, 3.0)];
        for clip in [None, Some((0.0f32, 6.0f32)), Some((-0.5, 1.0))] {
            let functions = lines.map(|(factor, offset)| {
                move |x: f32| {
                    let y = factor * x + offset;
                    clip.map_or(y, |(low, high)| y.max(low).min(high))
                }
            });
            let all: Vec<&dyn Fn(f32) -> f32> =
                functions.iter().map(|function| function as &dyn Fn(f32) -> f32).collect();
            let bytes = tables(&all);
            let meaning = meaning(&bytes, INPUT, OUTPUT);
            let Some(Meaning::Lines { factors, offsets, clip: found }) = meaning else {
                panic!("{meaning:?}");
            };
            assert!((factors[0] - 0.7).abs() < 0.01 && (offsets[0] - 0.3).abs() < 0.03);
            let again = factors.iter().zip(&offsets).flat_map(|(factor, offset)| {
                table(INPUT, OUTPUT, |x| {
                    let y = factor * x + offset;
                    found.map_or(y, |clip| y.max(clip.low).min(clip.high))
                })
            });
            assert_eq!(again.collect::<Vec<_>>(), bytes, "{clip:?}");
        }
        assert_eq!(meaning(&tables(&[&|x| x * x]), INPUT, OUTPUT), None);
    }
}

//! `Resize` with scales. What opset 17 does not have, or has with another size, is made of
//! `Gather`, `Mul` and `Add`

use edgesmith_graph::{Coordinates, Resize, ResizeAxis, ResizeMode, Rounding};

use super::{Name, Site, Write};
use crate::proto::AttributeProto;
use crate::write::file::{int, string};

impl Write for Resize {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let sizes = site.shape(0).space();
        let scales: Vec<Option<f32>> =
            self.axes.iter().zip(sizes).map(|(axis, &size)| scale(axis, size)).collect();
        let alike = self.axes.windows(2).all(|pair| pair[0].coordinates == pair[1].coordinates);
        if let (Some(scales), true) = (scales.iter().copied().collect::<Option<Vec<f32>>>(), alike)
            && let Some(first) = self.axes.first()
        {
            let attributes = attributes(self.mode, first.coordinates);
            let scales = constant(site, "scales", &scales);
            return site.finish("Resize", &[&site.input(0), "", &scales], attributes);
        }
        // One axis after the other.
        let mut value = site.input(0);
        for (at, (axis, scale)) in self.axes.iter().zip(scales).enumerate() {
            value = match scale {
                Some(scale) => {
                    let mut scales = vec![1.0; self.axes.len()];
                    scales[at] = scale;
                    let scales = constant(site, &format!("scales{at}"), &scales);
                    let attributes = attributes(self.mode, axis.coordinates);
                    site.step(&format!("resized{at}"), "Resize", &[&value, "", &scales], attributes)
                }
                None => taps(site, &value, at, &axis.taps(self.mode, sizes[at])),
            };
        }
        site.finish("Identity", &[&value], vec![])
    }
}

/// The scale that says to any runtime what an axis of `size` positions becomes, if there is one.
fn scale(axis: &ResizeAxis, size: u32) -> Option<f32> {
    // ONNX Runtime copies a map whose size stays the same, whatever the scale says.
    if axis.size == size && axis.scale != 1.0 {
        return None;
    }
    let scale = match axis.coordinates {
        Coordinates::HalfPixel | Coordinates::PytorchHalfPixel | Coordinates::Asymmetric => {
            axis.scale
        }
        // It only decides the size, and is far from where that changes.
        Coordinates::AlignCorners => (axis.size as f32 + 0.5) / size as f32,
        Coordinates::HalfPixelSymmetric => return None,
    };
    // Some runtimes multiply in double precision, and others do not.
    let single = f64::from((scale * size as f32).floor());
    let double = (f64::from(scale) * f64::from(size)).floor();
    let expected = f64::from(axis.size);
    (single == expected && double == expected).then_some(scale)
}

/// Adds the scales of all axes; batch and channels keep their sizes.
fn constant(site: &mut Site<'_>, part: &str, scales: &[f32]) -> Name {
    let all = [&[1.0, 1.0], scales].concat();
    site.file.floats(&format!("{}.{part}", site.output), &[all.len() as u32], &all)
}

fn attributes(mode: ResizeMode, coordinates: Coordinates) -> Vec<AttributeProto> {
    let coordinates = match coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::Asymmetric => "asymmetric",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::HalfPixelSymmetric => "half_pixel_symmetric",
    };
    let mut attributes = vec![string("coordinate_transformation_mode", coordinates)];
    match mode {
        ResizeMode::Linear => attributes.push(string("mode", "linear")),
        ResizeMode::Nearest(rounding) => {
            let rounding = match rounding {
                Rounding::HalfDown => "round_prefer_floor",
                Rounding::HalfUp => "round_prefer_ceil",
                Rounding::Floor => "floor",
                Rounding::Ceil => "ceil",
            };
            attributes.extend([string("mode", "nearest"), string("nearest_mode", rounding)]);
        }
    }
    attributes
}

/// Makes each position of an axis of positions of the two that it is made of.
fn taps(site: &mut Site<'_>, value: &str, at: usize, taps: &[[(u32, f64); 2]]) -> Name {
    let parts = ["lower", "upper"];
    let mut dims = vec![1; 2 + site.shape(0).space().len()];
    dims[2 + at] = taps.len() as u32;
    let mut terms = Vec::new();
    // The upper ones have no share at all in the nearest mode.
    let used = if taps.iter().all(|taps| taps[1].1 == 0.0) { 1 } else { 2 };
    for (place, part) in parts.into_iter().enumerate().take(used) {
        let part = format!("{part}{at}");
        let wish = |what: &str| format!("{}.{part}.{what}", site.output);
        let (indices, shares) = (wish("indices"), wish("shares"));
        let positions: Vec<u32> = taps.iter().map(|taps| taps[place].0).collect();
        let indices = site.file.indices(&indices, &positions);
        let axis = vec![int("axis", 2 + at as i64)];
        let term = site.step(&part, "Gather", &[value, &indices], axis);
        if used == 1 {
            return term;
        }
        let numbers: Vec<f32> = taps.iter().map(|taps| taps[place].1 as f32).collect();
        let shares = site.file.floats(&shares, &dims, &numbers);
        terms.push(site.step(&format!("{part}.share"), "Mul", &[&term, &shares], vec![]));
    }
    site.step(&format!("resized{at}"), "Add", &[&terms[0], &terms[1]], vec![])
}

//! Maps of another size. Where their positions lie is computed here, so that no target divides.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::Resize;

use super::{Integer, Lower, LowerError, Site};

impl Lower for Resize {
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError> {
        let axes = axes(self, site, |[a, b]| [a as f32, b as f32]);
        Ok(edge::Resize { axes }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        let whole = edge::IntResize::WHOLE;
        let axes = axes(self, site, |[a, _]| {
            let first = ((a * f64::from(whole)).round() as u32).min(whole);
            [first, whole - first]
        });
        Ok(Integer::Moves(edge::IntResize { axes }.into()))
    }
}

/// The taps along each axis, with their weights as the layer has them.
fn axes<W>(
    resize: &Resize,
    site: &Site<'_>,
    weights: impl Fn([f64; 2]) -> [W; 2],
) -> Vec<Vec<edge::Taps<W>>> {
    let axes = resize.axes.iter().zip(site.input_shape().space());
    axes.map(|(axis, &size)| {
        let taps = axis.taps(resize.mode, size).into_iter();
        taps.map(|[a, b]| edge::Taps { indices: [a.0, b.0], weights: weights([a.1, b.1]) })
            .collect()
    })
    .collect()
}

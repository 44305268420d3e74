//! The largest number of each window.

use edgesmith_edge_runtime as edge;
use edgesmith_graph::{MaxPool, WindowAxis};

use super::{Integer, Lower, LowerError, Site};

impl Lower for MaxPool {
    fn float(&self, _: &Site<'_>) -> Result<edge::Layer, LowerError> {
        Ok(edge::MaxPool { axes: windows(&self.axes, &self.kernel) }.into())
    }

    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError> {
        Ok(Integer::Moves(self.float(site)?))
    }
}

/// Windows with their kernels.
pub(super) fn windows(axes: &[WindowAxis], kernel: &[u32]) -> Vec<edge::WindowAxis> {
    let windows = axes.iter().zip(kernel);
    let window = |(axis, &kernel): (&WindowAxis, &u32)| {
        let &WindowAxis { stride, dilation, before, after } = axis;
        edge::WindowAxis { kernel, stride, dilation, before, after }
    };
    windows.map(window).collect()
}

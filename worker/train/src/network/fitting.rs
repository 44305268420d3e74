//! Which convolutions the kernels of the fast path compute. Others are left to burn.

use edgesmith_graph::{Conv, Graph, Groups, Node, Op, WindowAxis};
use edgesmith_kernels::{Convolution, Kind};

/// A convolution that a kernel computes, for any size of pictures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fitting {
    kind: Kind,
    kernel: usize,
    stride: usize,
}

impl Fitting {
    /// On pictures of so many rows and columns, and a batch of so many.
    pub(super) fn on(self, sizes: [usize; 3]) -> Convolution {
        Convolution::new(self.kind, self.kernel, self.stride, sizes)
    }
}

/// The kernel of [`edgesmith_kernels`] that computes a convolution of so many input channels with a
/// weight of these sizes, without its bias. It has to be on a picture, with a square odd kernel,
/// padding that keeps the size at stride 1, equal strides, and dense or with one filter per
/// channel.
pub(super) fn fitting(conv: &Conv, inputs: u32, weight: [usize; 4]) -> Option<Fitting> {
    let [outputs, _, kernel, columns] = weight;
    let [down, across] = conv.axes[..] else { return None };
    let same = WindowAxis::same(kernel as u32, down.stride);
    if columns != kernel || kernel % 2 == 0 || down != same || across != same {
        return None;
    }
    let inputs = inputs as usize;
    let kind = match conv.groups {
        Groups::Equal(1) => Kind::Dense { inputs, outputs },
        Groups::PerChannel if inputs == outputs => Kind::Depthwise { channels: inputs },
        Groups::Equal(_) | Groups::PerChannel => return None,
    };
    Some(Fitting { kind, kernel, stride: down.stride as usize })
}

/// [`fitting`] for a node of a graph; none if it is not a convolution.
pub(super) fn fitting_node(graph: &Graph, node: &Node) -> Option<Fitting> {
    let Op::Conv(conv) = &node.op else { return None };
    let [outputs, inputs, rows, columns] = graph.parameter(node.parameters[0]).shape[..] else {
        return None;
    };
    let weight = [outputs, inputs, rows, columns].map(|size| size as usize);
    fitting(conv, graph.shape(node.inputs[0]).channels(), weight)
}

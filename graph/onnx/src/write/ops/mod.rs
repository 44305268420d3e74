//! The operations of a graph in ONNX, one file each. An operation becomes one operator or a few;
//! quantization around it is the business of [`Site`].

use edgesmith_graph::Op;

use super::file::Name;
use super::site::Site;

/// What an operation becomes in an ONNX file.
trait Write {
    /// Adds the operators, and returns the name of the tensor that readers of the output read.
    fn write(&self, site: &mut Site<'_>) -> Name;
}

/// Lists the operations. Each line is the name of the file and the operation.
macro_rules! operations {
    ($($file:ident: $operation:ident,)+) => {
        $(mod $file;)+

        /// Adds what the site's node is in ONNX, and returns the name of the tensor that readers of
        /// its output read.
        pub(super) fn write(site: &mut Site<'_>) -> Name {
            match &site.node.op {
                $(Op::$operation(op) => op.write(site),)+
            }
        }
    };
}

operations! {
    add: Add,
    average_pool: AveragePool,
    batch_normalization: BatchNormalization,
    binary: Binary,
    clip: Clip,
    concat: Concat,
    constant: Constant,
    conv: Conv,
    conv_transpose: ConvTranspose,
    flatten: Flatten,
    gather: Gather,
    global_average_pool: GlobalAveragePool,
    layer_normalization: LayerNormalization,
    leaky_relu: LeakyRelu,
    linear: Linear,
    map: Map,
    matrix_product: MatrixProduct,
    max_pool: MaxPool,
    multiply: Multiply,
    pad: Pad,
    prelu: Prelu,
    reduce: Reduce,
    reshape: Reshape,
    resize: Resize,
    select: Select,
    softmax: Softmax,
    transpose: Transpose,
}

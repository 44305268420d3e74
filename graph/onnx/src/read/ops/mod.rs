//! The operators that are read, one file per family, and the list of all of them.

mod activation;
mod convolution;
mod einsum;
mod elementwise;
mod interpolation;
mod matrix;
mod normalization;
mod pad;
mod pooling;
mod quantization;
mod reduction;
mod resize;
pub(super) mod shape;
pub(super) mod slicing;

use edgesmith_graph::Function;

use super::call::{Call, Outputs};
use super::error::Fault;
use super::network::Network;

/// Reads a node: adds to the network what computes its outputs.
pub(super) type Reader = fn(&Call, &mut Network) -> Outputs;

/// What reads an operator of ONNX's own domain.
pub(super) fn reader(op_type: &str) -> Option<Reader> {
    Some(match op_type {
        "Abs" => |call, network| activation::map(call, network, Function::Absolute),
        "Add" => elementwise::add,
        "And" => elementwise::and,
        "AveragePool" => pooling::average_pool,
        "BatchNormalization" => normalization::batch_normalization,
        "Cast" | "CastLike" => activation::cast,
        "Celu" => activation::celu,
        "Clip" => activation::clip,
        "Concat" => slicing::concat,
        "Conv" => convolution::conv,
        "ConvTranspose" => convolution::conv_transpose,
        "DepthToSpace" => shape::depth_to_space,
        "DequantizeLinear" => quantization::dequantize,
        "Div" => elementwise::divide,
        "Dropout" | "Identity" => shape::identity,
        "Einsum" => einsum::einsum,
        "Elu" => activation::elu,
        "Equal" => elementwise::equal,
        "Erf" => |call, network| activation::map(call, network, Function::Erf),
        "Exp" => |call, network| activation::map(call, network, Function::Exponential),
        "Expand" => shape::expand,
        "Flatten" => shape::flatten,
        "Gather" => slicing::gather,
        "Gelu" => activation::gelu,
        "Gemm" => matrix::gemm,
        "GlobalAveragePool" => pooling::global_average_pool,
        "GlobalMaxPool" => pooling::global_max_pool,
        "Greater" => elementwise::greater,
        "GreaterOrEqual" => elementwise::greater_or_equal,
        "GroupNormalization" => normalization::group_normalization,
        "HardSigmoid" => activation::hard_sigmoid,
        "HardSwish" => |call, network| activation::map(call, network, Function::HardSwish),
        "InstanceNormalization" => normalization::instance_normalization,
        "LRN" => normalization::local_response_normalization,
        "LayerNormalization" => normalization::layer_normalization,
        "LeakyRelu" => activation::leaky_relu,
        "Less" => elementwise::less,
        "LessOrEqual" => elementwise::less_or_equal,
        "Log" => |call, network| activation::map(call, network, Function::Logarithm),
        "LogSoftmax" => normalization::log_softmax,
        "LpNormalization" => normalization::lp_normalization,
        "MatMul" => matrix::mat_mul,
        "Max" => elementwise::maximum,
        "MaxPool" => pooling::max_pool,
        "Mean" => elementwise::mean,
        "MeanVarianceNormalization" => normalization::mean_variance_normalization,
        "Min" => elementwise::minimum,
        "Mish" => activation::mish,
        "Mul" => elementwise::multiply,
        "Neg" => activation::negate,
        "Not" => elementwise::not,
        "Or" => elementwise::or,
        "PRelu" => activation::prelu,
        "Pad" => pad::pad,
        "Pow" => elementwise::power,
        "QuantizeLinear" => quantization::quantize,
        "Reciprocal" => activation::reciprocal,
        "ReduceL1" => reduction::l1,
        "ReduceL2" => reduction::l2,
        "ReduceLogSum" => reduction::log_sum,
        "ReduceLogSumExp" => reduction::log_sum_exp,
        "ReduceMax" => reduction::maximum,
        "ReduceMean" => reduction::mean,
        "ReduceMin" => reduction::minimum,
        "ReduceSum" => reduction::sum,
        "ReduceSumSquare" => reduction::sum_square,
        "Relu" => activation::relu,
        "Reshape" => shape::reshape,
        "Resize" => resize::resize,
        "Selu" => activation::selu,
        "Sigmoid" => |call, network| activation::map(call, network, Function::Sigmoid),
        "Sign" => activation::sign,
        "Slice" => slicing::slice,
        "Softmax" => normalization::softmax,
        "Softplus" => |call, network| activation::map(call, network, Function::Softplus),
        "Softsign" => activation::softsign,
        "SpaceToDepth" => shape::space_to_depth,
        "Split" => slicing::split,
        "Sqrt" => |call, network| activation::map(call, network, Function::SquareRoot),
        "Squeeze" => shape::squeeze,
        "Sub" => elementwise::subtract,
        "Sum" => elementwise::sum,
        "Swish" => activation::swish,
        "Tanh" => |call, network| activation::map(call, network, Function::Tanh),
        "ThresholdedRelu" => activation::thresholded_relu,
        "Tile" => shape::tile,
        "Transpose" => shape::transpose,
        "Unsqueeze" => shape::unsqueeze,
        "Upsample" => resize::upsample,
        "Where" => elementwise::select,
        "Xor" => elementwise::xor,
        _ => return None,
    })
}

/// Why an operator that has no reader is not supported.
pub(super) fn unknown(op_type: &str, domain: &str) -> Fault {
    let help = match op_type {
        "If" | "Loop" | "Scan" => {
            "remove the control flow with onnxsim, or export with fixed sizes"
        }
        "LSTM" | "GRU" | "RNN" => "networks without recurrent layers are read",
        "NonMaxSuppression" | "TopK" | "NonZero" | "ArgMax" | "ArgMin" | "RoiAlign"
        | "ScatterND" | "ScatterElements" | "GatherND" | "GatherElements" | "OneHot" => {
            "export the network without post-processing, and do that after it"
        }
        "DynamicQuantizeLinear"
        | "QLinearConv"
        | "QLinearMatMul"
        | "ConvInteger"
        | "MatMulInteger"
        | "QLinearAdd"
        | "QLinearGlobalAveragePool" => {
            "quantize the network in QDQ form (QuantizeLinear and DequantizeLinear)"
        }
        _ if !matches!(domain, "" | "ai.onnx") => "export with ONNX's own operators only",
        _ => "replace it by other operators, or end the network before it",
    };
    let problem = match domain {
        "" | "ai.onnx" => format!("the operator {op_type} is not known"),
        domain => format!("the operator {op_type} of {domain} is not known"),
    };
    Fault::unsupported(problem, help)
}

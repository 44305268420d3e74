//! The operations, one file each, and what each of them has to say.
//!
//! [`Operation`] has no default methods and [`Op`] no catch-all arms, so a new operation cannot
//! leave anything out. `docs/graph.md` lists the steps to add one.

mod axes;
mod broadcast;
mod error;
mod window;

use smallvec::smallvec;

use crate::ties::{Tie, Ties};
use crate::{Scalar, Shape};

pub use error::InferError;
pub use window::WindowAxis;

/// What an operation has to say about itself. `operands` are those that [`Operation::infer`]
/// accepted, and `output` is the shape that it returned.
pub trait Operation: Sized {
    /// Its kind, such as `conv`: the name of its file.
    fn kind(&self) -> &'static str;

    /// The parameters that it takes, in order. Optional ones come last.
    fn slots(&self) -> &'static [Slot];

    /// The shape of the output.
    ///
    /// # Errors
    /// If the operation does not work on these operands. The number of parameters is already
    /// checked against [`Operation::slots`].
    fn infer(&self, operands: &Operands) -> Result<Shape, InferError>;

    /// Multiply-accumulates. Only convolutions, linear layers and products of matrices have some;
    /// the rest is usually computed along with them.
    fn macs(&self, operands: &Operands, output: &Shape) -> u64;

    /// What kind its multiply-accumulates are; `None` if it has none.
    fn multiplications(&self, operands: &Operands) -> Option<Multiplications>;

    /// Whether it has a weight that a factor per output channel can be merged into, as when a batch
    /// normalisation is folded.
    fn absorbs_factors(&self) -> bool;

    /// What it does to the numbers of its input.
    fn effect(&self) -> Effect;

    /// Whether its weights mean the same as those of another operation of its kind, so that a
    /// network can inherit them. Sizes may differ. Without weights it does not matter.
    fn is_alike(&self, other: &Self) -> bool;

    /// Where the output is written.
    fn memory(&self) -> Memory;

    /// Which channel indices belong together. An input or output that no tie names keeps all of its
    /// channels.
    fn ties(&self, operands: &Operands, output: &Shape) -> Ties;

    /// Changes the operation to what it is after channels have been removed: for each input and for
    /// the output, the ascending indices of the channels that are kept. [`crate::Graph::padded`]
    /// adds channels at the end, whose indices come last. Most have nothing to change, because
    /// shapes and parameters say how many channels there are.
    fn cut(&mut self, inputs: &[&[u32]], output: &[u32]);

    /// The output for one example, simple and slow. Numbers of parameters are row-major.
    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        parameters: &[&[S]],
        output: &Shape,
    ) -> Vec<S>;
}

/// The shapes that an operation works on.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// Shapes of the inputs.
    pub inputs: &'a [&'a Shape],
    /// Shapes of the parameters, in the order of [`Operation::slots`]; absent optional ones are
    /// left out at the end.
    pub parameters: &'a [&'a [u32]],
}

/// A parameter that an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// What the parameter is for.
    pub role: Role,
    /// Whether it may be absent.
    pub optional: bool,
}

/// What a parameter is for. It decides how training starts and treats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Multiplies values of several channels; `[out, in, …]`.
    Weight,
    /// Added to each output channel.
    Bias,
    /// Multiplies a normalised channel.
    Scale,
    /// Added to a normalised channel.
    Shift,
    /// Running mean of a channel; observed and not trained.
    Mean,
    /// Running variance of a channel; observed and not trained.
    Variance,
    /// Multiplies the negative numbers of a channel.
    Slope,
    /// A value by itself, of any shape. It comes with the network and is not trained.
    Constant,
}

/// A kind of multiply-accumulates with a speed of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Multiplications {
    /// Over several channels and positions.
    Dense,
    /// Over several channels at one position: a product of matrices.
    Pointwise,
    /// Over several positions of one channel.
    Depthwise,
}

/// What an operation does to the numbers of its input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// Combines, chooses or moves them.
    Combines,
    /// Shifts and scales each channel by statistics that it observed in training.
    Normalizes,
    /// Shifts and scales them by statistics of the same example, as a softmax does.
    Rescales,
    /// Applies a nonlinear function to each of them.
    Activates {
        /// The unit is off up to this number, as a rectifier is up to 0: the output does not change
        /// there. `None` if the output changes everywhere.
        off_up_to: Option<f32>,
    },
}

/// Where an operation writes its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Over its first input, if nothing reads that later.
    InPlace,
    /// To memory of its own.
    Separate,
}

/// Lists the operations. Each line is the name of the file and the name of the struct in it.
macro_rules! operations {
    ($($file:ident: $operation:ident,)+) => {
        $(
            mod $file;
            pub use $file::$operation;
        )+

        /// Any operation.
        #[derive(Debug, Clone, PartialEq, Hash)]
        pub enum Op {
            $(#[doc = concat!("See [`", stringify!($operation), "`].")] $operation($operation),)+
        }

        impl Op {
            /// The kinds of all operations; see [`Operation::kind`].
            pub const KINDS: &[&str] = &[$(stringify!($file),)+];
        }

        $(
            impl From<$operation> for Op {
                fn from(operation: $operation) -> Self {
                    Op::$operation(operation)
                }
            }
        )+

        impl Operation for Op {
            fn kind(&self) -> &'static str {
                match self { $(Op::$operation(op) => op.kind(),)+ }
            }

            fn slots(&self) -> &'static [Slot] {
                match self { $(Op::$operation(op) => op.slots(),)+ }
            }

            fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
                match self { $(Op::$operation(op) => op.infer(operands),)+ }
            }

            fn macs(&self, operands: &Operands, output: &Shape) -> u64 {
                match self { $(Op::$operation(op) => op.macs(operands, output),)+ }
            }

            fn multiplications(&self, operands: &Operands) -> Option<Multiplications> {
                match self { $(Op::$operation(op) => op.multiplications(operands),)+ }
            }

            fn absorbs_factors(&self) -> bool {
                match self { $(Op::$operation(op) => op.absorbs_factors(),)+ }
            }

            fn effect(&self) -> Effect {
                match self { $(Op::$operation(op) => op.effect(),)+ }
            }

            fn is_alike(&self, other: &Self) -> bool {
                match self {
                    $(Op::$operation(op) => {
                        matches!(other, Op::$operation(other) if op.is_alike(other))
                    })+
                }
            }

            fn memory(&self) -> Memory {
                match self { $(Op::$operation(op) => op.memory(),)+ }
            }

            fn ties(&self, operands: &Operands, output: &Shape) -> Ties {
                match self { $(Op::$operation(op) => op.ties(operands, output),)+ }
            }

            fn cut(&mut self, inputs: &[&[u32]], output: &[u32]) {
                match self { $(Op::$operation(op) => op.cut(inputs, output),)+ }
            }

            fn evaluate<S: Scalar>(
                &self,
                operands: &Operands,
                inputs: &[&[S]],
                parameters: &[&[S]],
                output: &Shape,
            ) -> Vec<S> {
                match self {
                    $(Op::$operation(op) => op.evaluate(operands, inputs, parameters, output),)+
                }
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

pub use binary::BinaryFunction;
pub use conv::Groups;
pub use conv_transpose::TransposedAxis;
pub use map::Function;
pub use reduce::ReduceFunction;
pub use resize::{Coordinates, ResizeAxis, ResizeMode, Rounding};

impl Slot {
    const fn required(role: Role) -> Self {
        Self { role, optional: false }
    }

    const fn optional(role: Role) -> Self {
        Self { role, optional: true }
    }
}

impl<'a> Operands<'a> {
    /// The only input.
    fn one(&self) -> Result<&'a Shape, InferError> {
        match self.inputs {
            [input] => Ok(input),
            inputs => Err(InferError::Inputs { expected: 1, given: inputs.len() }),
        }
    }

    /// Both inputs.
    fn two(&self) -> Result<[&'a Shape; 2], InferError> {
        match self.inputs {
            [a, b] => Ok([a, b]),
            inputs => Err(InferError::Inputs { expected: 2, given: inputs.len() }),
        }
    }

    /// Checks that a parameter has this shape. An absent one always has.
    fn expect(&self, parameter: usize, role: Role, shape: &[u32]) -> Result<(), InferError> {
        match self.parameters.get(parameter) {
            // Compared one by one: so few numbers are not worth the call that slices make.
            Some(&given) if !given.iter().eq(shape) => {
                Err(InferError::parameter(role, shape, given))
            }
            _ => Ok(()),
        }
    }
}

/// Ties of an operation that treats each channel by itself: those of the only input to the output.
fn channel_by_channel() -> Ties {
    use crate::ties::Port;
    smallvec![Tie::same(Port::Input(0), Port::Output)]
}

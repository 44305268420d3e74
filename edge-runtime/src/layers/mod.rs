//! The kinds of layers, one file each, and all that the engine has to know about each: its settings
//! in fp32 and in integers, its place in the model file, when it is valid, and how it runs.
//!
//! [`Layer`] and [`Prepared`] have no default methods and the enums no catch-all arms, so a new
//! kind cannot leave anything out. To add one, write its file and add its line to the list
//! `layers!`. Loops that are tuned for processors are in `kernels`; a loop of one line is in its
//! layer's file.

mod arithmetic;

use crate::error::{ModelError, Problem};
use crate::file::{Reader, Writer};
use crate::kernels::Isa;
use crate::model::ValueId;
use crate::validate::Shape;

pub(crate) use arithmetic::{Arithmetic, Fp32, Int8, Node};
pub use conv::{Activation, Conv};
pub use linear::Linear;

/// What a kind of layer is in fp32 and in integers alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Its code in the model file. A code is never used again for something else.
    pub code: u8,
    /// Its name in error messages.
    pub name: &'static str,
    /// How many values it reads: 1 or 2.
    pub inputs: usize,
    /// Whether it computes the logits. Such a layer is the last one, and no other is.
    pub logits: bool,
}

/// What a layer of one kind, in one arithmetic, has to say about itself.
pub(crate) trait Layer: Sized {
    /// How it computes.
    type Arithmetic: Arithmetic;

    /// The layer when it is ready to run, for example with packed weights.
    type Prepared: Prepared<Self::Arithmetic>;

    /// Reads its settings from a model file. They need not be valid.
    fn read(file: &mut Reader) -> Result<Self, ModelError>;

    /// Writes its settings as `read` reads them.
    fn write(&self, file: &mut Writer);

    /// Checks its settings against its inputs, and returns the shape of its output. There are as
    /// many inputs as its [`Kind`] says.
    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem>;

    /// Makes it ready to run. It is valid.
    fn prepare(&self, site: &Site<Self::Arithmetic>) -> Self::Prepared;
}

/// A layer that is ready to run.
pub(crate) trait Prepared<A: Arithmetic> {
    /// Number of elements of scratch memory that `run` needs.
    fn scratch(&self) -> usize;

    /// Computes its output, or the logits. It does not allocate.
    fn run(&self, operands: Operands<A>);
}

/// Where a layer stands in its network.
pub(crate) struct Site<'a, A: Arithmetic> {
    /// The instructions that will run it.
    pub isa: Isa,
    /// Shape and scale of each input.
    pub inputs: &'a [(Shape, A::Scale)],
    /// Scale of its output.
    pub output: A::Scale,
}

/// What a layer reads and writes. Maps are `[height][width][channels]`.
pub(crate) struct Operands<'a, A: Arithmetic> {
    /// The instructions to use, the same as in [`Site`].
    pub isa: Isa,
    /// The first input.
    pub left: &'a [A::Element],
    /// The second input, or the first again if there is only one.
    pub right: &'a [A::Element],
    /// At least as many elements as [`Prepared::scratch`] says, with any content.
    pub scratch: &'a mut [A::Scratch],
    /// The output, with any content. Empty for the layer that computes the logits.
    pub output: &'a mut [A::Element],
    /// The logits, which only the last layer writes.
    pub logits: &'a mut [f32],
}

/// A layer of any kind, in one arithmetic. `layers!` implements it for [`FloatLayer`] and
/// [`IntLayer`].
pub(crate) trait AnyLayer: Sized {
    /// How it computes.
    type Arithmetic: Arithmetic;

    /// See [`Layer::Prepared`].
    type Prepared: Prepared<Self::Arithmetic>;

    /// Its kind.
    fn kind(&self) -> Kind;

    /// Reads the settings of a layer. The code says of which kind it is; `None` if the code is
    /// unknown.
    fn read(code: u8, file: &mut Reader) -> Result<Option<Self>, ModelError>;

    /// See [`Layer::write`].
    fn write(&self, file: &mut Writer);

    /// See [`Layer::output`].
    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem>;

    /// See [`Layer::prepare`].
    fn prepare(&self, site: &Site<Self::Arithmetic>) -> Self::Prepared;
}

/// Lists the kinds of layers. Each line is the name of the file, the name of the kind, and its
/// structs in fp32 and in integers.
macro_rules! layers {
    ($($file:ident: $kind:ident($float:ident, $int:ident),)+) => {
        $(
            mod $file;
            pub use $file::{$float, $int};
        )+

        any_layer! {
            /// What an fp32 node computes.
            pub enum FloatLayer in Fp32, prepared as PreparedFloat {
                $($file: $kind($float),)+
            }
        }

        any_layer! {
            /// What an integer node computes. Inputs and outputs are uint8 with zero points;
            /// accumulators are int32. Biases are int32 at scale `input scale * weight scale`, zero
            /// point 0. After accumulation of `(q_in - zero_in) * q_w + bias`, the accumulator of
            /// channel `c` is scaled by `requantize[c]`, the output's zero point is added, and the
            /// result is clamped to `clamp` (inclusive). The clamp includes the activation: for a
            /// ReLU its lower end is the zero point.
            pub enum IntLayer in Int8, prepared as PreparedInt {
                $($file: $kind($int),)+
            }
        }

        const _: () = assert!(codes_differ(&[$($file::KIND),+]), "two kinds have the same code");
    };
}

/// Defines the enum of all layers in one arithmetic, and the enum of those that are ready to run.
macro_rules! any_layer {
    (
        $(#[$doc:meta])*
        pub enum $any:ident in $arithmetic:ident, prepared as $prepared:ident {
            $($file:ident: $kind:ident($layer:ident),)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $any {
            $(#[doc = concat!("See [`", stringify!($layer), "`].")] $kind($layer),)+
        }

        impl AnyLayer for $any {
            type Arithmetic = $arithmetic;
            type Prepared = $prepared;

            fn kind(&self) -> Kind {
                match self { $($any::$kind(_) => $file::KIND,)+ }
            }

            fn read(code: u8, file: &mut Reader) -> Result<Option<Self>, ModelError> {
                $(
                    if code == $file::KIND.code {
                        return $layer::read(file).map(|layer| Some($any::$kind(layer)));
                    }
                )+
                Ok(None)
            }

            fn write(&self, file: &mut Writer) {
                match self { $($any::$kind(layer) => layer.write(file),)+ }
            }

            fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
                match self { $($any::$kind(layer) => layer.output(inputs),)+ }
            }

            fn prepare(&self, site: &Site<$arithmetic>) -> $prepared {
                match self { $($any::$kind(layer) => $prepared::$kind(layer.prepare(site)),)+ }
            }
        }

        /// A layer of any kind that is ready to run.
        pub(crate) enum $prepared {
            $($kind(<$layer as Layer>::Prepared),)+
        }

        impl Prepared<$arithmetic> for $prepared {
            fn scratch(&self) -> usize {
                match self { $($prepared::$kind(layer) => layer.scratch(),)+ }
            }

            fn run(&self, operands: Operands<$arithmetic>) {
                match self { $($prepared::$kind(layer) => layer.run(operands),)+ }
            }
        }
    };
}

layers! {
    conv: Conv(FloatConv, IntConv),
    depthwise: Depthwise(FloatDepthwise, IntDepthwise),
    add: Add(FloatAdd, IntAdd),
    global_average_pool: GlobalAveragePool(FloatGlobalAveragePool, IntGlobalAveragePool),
    linear: Linear(FloatLinear, IntLinear),
    leaky_relu: LeakyRelu(FloatLeakyRelu, IntLeakyRelu),
}

/// Whether no two kinds have the same code.
const fn codes_differ(kinds: &[Kind]) -> bool {
    let mut first = 0;
    while first < kinds.len() {
        let mut second = first + 1;
        while second < kinds.len() {
            if kinds[first].code == kinds[second].code {
                return false;
            }
            second += 1;
        }
        first += 1;
    }
    true
}

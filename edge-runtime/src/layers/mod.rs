//! The kinds of layers, one file each, and all that the engine has to know about each: its
//! settings, its place in the model file, when it is valid, how much memory it needs, and how it
//! runs.
//!
//! [`Settings`] and [`Prepared`] have no default methods and the enum no catch-all arms, so a new
//! kind cannot leave anything out. To add one, write its file and add its line to the list
//! `layers!`. Loops that are tuned for processors are in `kernels`; a short loop is in its layer's
//! file.
//!
//! A layer in fp32 reads and writes values in fp32. One in integers (`Int…`) reads and writes
//! bytes. One that only moves numbers does it in both.

mod operands;
mod prelude;

use crate::error::{ModelError, Problem};
use crate::file::{Reader, Writer};
use crate::kernels::Isa;
use crate::model::{Element, Rounding, ValueId};
use crate::shape::Shape;

pub use binary::BinaryFunction;
pub use conv::{Activation, Conv};
pub use conv_transpose::{ConvTranspose, TransposedAxis};
pub use leveled::LeveledLayer;
pub use linear::Linear;
pub use map::Function;
pub(crate) use operands::{Operands, Plain, view, view_mut};
pub use pad::Fill;
pub use reduce::ReduceFunction;
pub use resize::Taps;
pub use window::WindowAxis;

mod window;

/// What a layer of one kind has to say about itself.
pub(crate) trait Settings: Sized {
    /// Its code in the model file. A code is never used again for something else.
    const CODE: u8;

    /// Its name in error messages.
    const NAME: &'static str;

    /// Reads its settings from a model file. They need not be valid.
    fn read(file: &mut Reader) -> Result<Self, ModelError>;

    /// Writes its settings as `read` reads them.
    fn write(&self, file: &mut Writer);

    /// Checks its settings against its inputs and what its output holds, and returns the shape of
    /// the output.
    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem>;

    /// What it needs besides its inputs and its output. It depends on sizes only, never on the
    /// processor. It is valid.
    fn memory(&self, site: &Site) -> Memory;

    /// Makes it ready to run. It is valid.
    fn prepare(&self, site: &Site) -> Box<dyn Prepared>;
}

/// A layer that is ready to run.
pub(crate) trait Prepared: Send + Sync {
    /// Computes its output. It does not allocate.
    fn run(&self, operands: Operands);
}

/// A value that a layer reads or writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// Its number.
    pub id: ValueId,
    /// Its sizes.
    pub shape: Shape,
    /// What it holds.
    pub element: Element,
}

/// Where a layer stands in its network.
pub(crate) struct Site<'a> {
    /// The instructions that will run it.
    pub isa: Isa,
    /// How the model rounds.
    pub rounding: Rounding,
    /// What it reads.
    pub inputs: &'a [Value],
    /// What it writes.
    pub output: Value,
}

/// What a layer needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Memory {
    /// Memory that it writes and reads while it runs.
    pub scratch: u64,
    /// Tables that are made of sizes, not of weights, and kept between runs.
    pub tables: u64,
}

/// Lists the kinds of layers: the name of each file, and its structs.
macro_rules! layers {
    ($($file:ident: $($kind:ident),+;)+) => {
        $(
            mod $file;
            pub use $file::{$($kind),+};
        )+

        /// What a node computes.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Layer {
            $($(#[doc = concat!("See [`", stringify!($kind), "`].")] $kind($kind),)+)+
        }

        impl Layer {
            /// The name of its kind.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $($(Layer::$kind(_) => $kind::NAME,)+)+ }
            }

            pub(crate) fn code(&self) -> u8 {
                match self { $($(Layer::$kind(_) => $kind::CODE,)+)+ }
            }

            /// Reads the settings of a layer. The code says of which kind it is; `None` if the
            /// code is unknown.
            pub(crate) fn read(code: u8, file: &mut Reader) -> Result<Option<Self>, ModelError> {
                $($(
                    if code == $kind::CODE {
                        return $kind::read(file).map(|layer| Some(Layer::$kind(layer)));
                    }
                )+)+
                Ok(None)
            }

            pub(crate) fn write(&self, file: &mut Writer) {
                match self { $($(Layer::$kind(layer) => layer.write(file),)+)+ }
            }

            pub(crate) fn output(
                &self,
                inputs: &[Value],
                element: Element,
            ) -> Result<Shape, Problem> {
                match self { $($(Layer::$kind(layer) => layer.output(inputs, element),)+)+ }
            }

            pub(crate) fn memory(&self, site: &Site) -> Memory {
                match self { $($(Layer::$kind(layer) => layer.memory(site),)+)+ }
            }

            pub(crate) fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
                match self { $($(Layer::$kind(layer) => layer.prepare(site),)+)+ }
            }
        }

        $($(
            impl From<$kind> for Layer {
                fn from(layer: $kind) -> Self {
                    Layer::$kind(layer)
                }
            }
        )+)+

        const _: () = assert!(codes_differ(&[$($($kind::CODE),+),+]), "two kinds have the same code");
    };
}

layers! {
    add_twice: IntAddTwice;
    average_pool: AveragePool, IntAveragePool;
    binary: Binary;
    concat: Concat;
    constant: Constant;
    conv: FloatConv, IntConv;
    conv_transpose: FloatConvTranspose, IntConvTranspose;
    convert: Quantize, Dequantize;
    gather: Gather;
    layer_normalization: LayerNormalization;
    leveled: Leveled;
    linear: FloatLinear, IntLinear;
    map: Map;
    matrix_product: MatrixProduct;
    max_pool: MaxPool;
    pad: Pad;
    prelu: Prelu;
    product: IntProduct;
    reduce: Reduce, IntReduce;
    reshape: Reshape;
    resize: Resize, IntResize;
    round: Round;
    select: Select;
    softmax: Softmax;
    sum: IntSum;
    table: Table;
    transpose: Transpose;
}

/// Whether no two kinds have the same code.
const fn codes_differ(codes: &[u8]) -> bool {
    let mut first = 0;
    while first < codes.len() {
        let mut second = first + 1;
        while second < codes.len() {
            if codes[first] == codes[second] {
                return false;
            }
            second += 1;
        }
        first += 1;
    }
    true
}

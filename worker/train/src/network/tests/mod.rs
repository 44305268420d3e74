//! Networks of every operation, compared with the reference evaluation of their graphs: values, and
//! gradients with finite differences, on the fast path and through burn's operations.

mod cases;
mod gradients;
mod net;
mod quantized;
mod random;
mod reference;
mod values;

pub(crate) use cases::named as cases;
pub(crate) use net::Net;
pub(crate) use quantized::annotation;
pub(crate) use random::graph as random_graph;

//! The coordinator: stores studies, proposes candidates, hands tasks to workers, stores every
//! result, and answers with the Pareto front.
//!
//! [`core`] makes the decisions in a synchronous state machine; [`controller`] proposes candidates;
//! [`store`] keeps everything durably; [`service`] speaks gRPC; [`maintenance`] checks and backs up
//! what is stored. The coordinator itself never trains or measures anything.

pub mod controller;
pub mod core;
mod linear_algebra;
pub mod maintenance;
mod packing;
pub mod service;
pub mod store;

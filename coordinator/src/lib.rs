//! The coordinator: keeps studies, proposes candidates, hands tasks to workers, keeps every result,
//! and answers with the Pareto front.
//!
//! Decisions are in [`core`], a synchronous state machine; proposals in [`controller`]; durability in
//! [`store`]; the wire in [`service`]. It never trains or measures anything itself.

pub mod controller;
pub mod core;
mod linear_algebra;
pub mod service;
pub mod store;

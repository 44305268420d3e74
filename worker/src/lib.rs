//! The worker: leases tasks from a coordinator, trains and compresses candidates with burn, times
//! compressed models on its device, looks candidates up in tables, and reports the results.
//!
//! It works on one task at a time and does not know other trials, objectives or fronts.

pub mod evaluate;
pub mod export;
pub mod inherit;
mod lru;
pub mod pipeline;
pub mod probe;
pub mod proxy;
pub mod sensitivity;
pub mod session;
pub mod slots;
pub mod table;

//! The decisions: a synchronous, deterministic state machine.

//! One task from lease to outcome.

//! What survives: records and artifacts.

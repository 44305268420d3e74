//! Times a model on this machine.

//! Tests of the engine's public interface: files, and networks against naive references.

mod allocation;
mod every_kind;
mod file;
mod invalid;
mod layers;
mod leveled;
mod models;
mod one_for_all;
mod reference;
mod session;
mod test_vectors;
mod written;

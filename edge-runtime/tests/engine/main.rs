//! Tests of the engine's public interface: files, and networks against naive references.

mod allocation;
mod file;
mod fp32;
mod int8;
mod invalid;
mod models;
mod reference;
mod written;

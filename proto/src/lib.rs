//! The wire format: code generated from `edgesmith/v1/*.proto`, and all conversions from and to the
//! domain's types. No logic and no defaults.

mod convert;

pub use convert::{
    ConvertError, genotype, hash, optional_hash, optional_hash_bytes, outcome, outcome_message,
    running, trial_state, trial_state_parts, work, work_message, worker_info,
};

/// Generated code.
#[expect(missing_docs, reason = "generated; the protos carry the documentation")]
#[expect(clippy::large_enum_variant, reason = "generated; a report is sent once")]
pub mod v1 {
    tonic::include_proto!("edgesmith.v1");

    /// Descriptors of all protos, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/edgesmith.bin"));
}

/// Workers and coordinators with different versions refuse each other.
pub const PROTOCOL_VERSION: u32 = 9;

/// Most trials in one page of `ListTrials`, and most numbers in one such request. Clients ask for
/// as many, and coordinators refuse more.
pub const MAX_PAGE: u32 = 500;

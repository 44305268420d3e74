//! Compiles the protos without `protoc`: protox makes the descriptor set.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["types", "study", "worker", "artifact", "token"]
        .map(|f| format!("edgesmith/v1/{f}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("edgesmith.bin"), {
        use prost::Message as _;
        descriptors.encode_to_vec()
    })?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

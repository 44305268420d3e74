//! Model files of version 1 that were written before commit 3a154e5, when networks were not yet
//! graphs, from trials of `examples/digits.toml`. They are read and give the same results as then,
//! also after they are written as files of the newest version.

use edgesmith_edge_runtime::{Model, Rounding, Session};

const FP32: (&[u8], [f32; 10]) = (
    include_bytes!("written/fp32.edge"),
    [
        0.90263957,
        -2.2024064,
        -0.031177044,
        -0.88616806,
        -2.2288918,
        -0.43327677,
        0.18150258,
        0.9316482,
        2.5976398,
        1.3288513,
    ],
);

const INT8: (&[u8], [f32; 10]) = (
    include_bytes!("written/int8.edge"),
    [
        1.3550625, -2.0851324, -0.8530255, 2.0661402, -1.4852675, -0.8041856, 1.3976674,
        -0.1974257, 3.7532806, 1.8242118,
    ],
);

/// The image that the logits were recorded for.
fn image() -> Vec<u8> {
    (0..64u32).map(|i| (i * i * 7 % 251) as u8).collect()
}

#[test]
fn files_of_before_are_read_and_written_as_new_ones() {
    for (bytes, _) in [FP32, INT8] {
        let model = Model::from_bytes(bytes).unwrap();
        assert_eq!(model.rounding, Rounding::Twice);
        let new = model.to_bytes();
        assert_eq!(Model::from_bytes(&new).unwrap(), model);
        assert_ne!(new, bytes);
    }
}

#[test]
fn files_of_before_compute_what_they_did() {
    let sessions = |bytes| {
        let model = Model::from_bytes(bytes).unwrap();
        let again = Model::from_bytes(&model.to_bytes()).unwrap();
        let of = |model: &Model| Session::each(model).unwrap().into_iter();
        of(&model).chain(of(&again)).collect::<Vec<_>>()
    };
    for mut session in sessions(INT8.0) {
        assert_eq!(session.run(&image()).unwrap(), INT8.1);
    }
    for mut session in sessions(FP32.0) {
        // Sums in another order differ in the last digits.
        for (got, expected) in session.run(&image()).unwrap().iter().zip(FP32.1) {
            assert!((got - expected).abs() < 1e-5, "{got} instead of {expected}");
        }
    }
}

//! Measures Pareto archives and hypervolumes on seeded random points and prints the times.
//!
//! Run with `cargo run --release -p edgesmith-common --example front_speed`. It asserts nothing
//! about time. Times are wall-clock on one thread, the best of three runs if these finish within a
//! second. The slicing algorithm, which tests use as the reference, is timed for comparison.

use std::time::Instant;

use edgesmith_common::pareto::{Archive, front, hypervolume};

#[path = "../src/pareto/slicing.rs"]
mod slicing;

const MANY: usize = 1_000_000;

fn main() {
    for objectives in [2, 3, 4] {
        let points = uniform(MANY, objectives);
        insert(&format!("{MANY} random points"), &points, objectives);
        let (members, seconds) = timed(|| front(&points).len());
        println!("  front        {:10.3} ms  ({members} members)", seconds * 1e3);
        // With more objectives, slicing a million points would take days.
        volume(&points, objectives, objectives == 2);
    }
    // Points that do not dominate each other, and whether slicing finishes within seconds.
    for (objectives, members, old) in [
        (2, 100_000, true),
        (3, 1_000, true),
        (3, 10_000, true),
        (4, 100, true),
        (4, 1_000, false),
        (5, 50, true),
        (5, 200, false),
    ] {
        let points = sphere(members, objectives);
        insert(&format!("{members} points of a sphere"), &points, objectives);
        volume(&points, objectives, old);
    }
}

/// Measures the hypervolume and, if asked, slicing for comparison.
fn volume(points: &[Vec<f64>], objectives: usize, old: bool) {
    let reference = vec![1.0; objectives];
    let (new, seconds) = timed(|| hypervolume(points, &reference));
    println!("  hypervolume  {:10.3} ms  (value {new:.9})", seconds * 1e3);
    if old {
        let (old, before) = timed(|| slicing::hypervolume(points, &reference));
        let (times, apart) = (before / seconds, (new / old - 1.0).abs());
        println!("  by slicing   {:10.3} ms  ({times:.1}x, off by {apart:.0e})", before * 1e3);
    }
}

/// Inserts all points into an archive and prints the time per point, including the copy of the
/// point.
fn insert(what: &str, points: &[Vec<f64>], objectives: usize) {
    println!("{what}, {objectives} objectives");
    let (archive, seconds) = timed(|| {
        let mut archive = Archive::new(objectives);
        for (i, point) in points.iter().enumerate() {
            archive.insert(point.clone(), i);
        }
        archive
    });
    let each = seconds * 1e9 / points.len() as f64;
    let members = archive.len();
    println!("  insert       {each:10.0} ns each, {seconds:.3} s  ({members} members)");
}

/// The result of the work, and the seconds of its best run.
fn timed<R>(mut work: impl FnMut() -> R) -> (R, f64) {
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    let mut runs = 0;
    loop {
        let start = Instant::now();
        let result = work();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
        if runs == 3 || begin.elapsed().as_secs_f64() > 1.0 {
            return (result, best);
        }
    }
}

fn uniform(n: usize, objectives: usize) -> Vec<Vec<f64>> {
    let mut random = Xorshift(0x9E37_79B9_7F4A_7C15);
    (0..n).map(|_| (0..objectives).map(|_| random.next()).collect()).collect()
}

/// Points that do not dominate each other: uniform on the unit sphere's octant around the ideal.
fn sphere(n: usize, objectives: usize) -> Vec<Vec<f64>> {
    let mut random = Xorshift(0xD1B5_4A32_D192_ED03);
    let mut point = || {
        let normal = |_| {
            let radius = (-2.0 * (1.0 - random.next()).ln()).sqrt();
            (radius * (std::f64::consts::TAU * random.next()).cos()).abs()
        };
        let raw: Vec<f64> = (0..objectives).map(normal).collect();
        let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
        raw.into_iter().map(|x| 1.0 - x / norm).collect()
    };
    (0..n).map(|_| point()).collect()
}

/// Marsaglia 2003, "Xorshift RNGs": seeded, and good enough for timing.
struct Xorshift(u64);

impl Xorshift {
    /// Uniform in 0..1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

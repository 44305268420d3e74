//! A session does not allocate while it runs, and a reader allocates in proportion to the file.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use edgesmith_edge_runtime::{Model, Session};

use crate::models::{Random, arrays, float_model, int_model, tensors};

/// The system's allocator, counting the calls of each thread.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    /// The largest single allocation.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is ending may allocate after its locals are gone; these calls are not counted.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: all calls are forwarded to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: by the caller's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn running_does_not_allocate() {
    for seed in 0..200 {
        for model in [float_model(seed, 8), int_model(seed, 8)] {
            for mut session in [Session::new(&model).unwrap(), Session::portable(&model).unwrap()] {
                let arrays = arrays(&model, seed);
                let tensors = tensors(&arrays);
                let before = CALLS.get();
                session.run_on(&tensors).unwrap();
                assert_eq!(CALLS.get(), before, "seed {seed}");
            }
        }
    }
}

#[test]
fn reading_allocates_in_proportion_to_the_file() {
    let mut random = Random(1);
    for seed in 0..3000 {
        let model = if seed % 2 == 0 { float_model(seed, 6) } else { int_model(seed, 6) };
        let mut bytes = model.to_bytes();
        bytes.truncate(bytes.len() - 4);
        for _ in 0..random.int(0, 3) {
            let at = random.int(20, bytes.len() as i64 - 1) as usize;
            // Often a number that goes on and is large.
            bytes[at] = if random.chance(2) { 0xff } else { random.next() as u8 };
        }
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        LARGEST.set(0);
        let _ = Model::from_bytes(&bytes);
        let largest = LARGEST.get();
        assert!(largest <= 300 * bytes.len(), "seed {seed}: {largest} of {}", bytes.len());
    }
}

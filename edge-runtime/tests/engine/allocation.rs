//! A session does not allocate while it runs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use edgesmith_edge_runtime::Session;

use crate::models::{arrays, float_model, int_model, tensors};

/// The system's allocator, counting the calls of each thread.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending may allocate after its locals are gone; these calls are not counted.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: all calls are forwarded to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
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

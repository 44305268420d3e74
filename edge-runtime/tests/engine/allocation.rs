//! A session does not allocate while it runs, a reader allocates in proportion to the file, and a
//! session allocates what its plan says.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use edgesmith_edge_runtime::*;

use crate::models::{Random, arrays, float_model, int_model, tensors};

/// The system's allocator, counting the calls of each thread.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    /// The largest single allocation.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    /// Bytes that are allocated now, and the most that were at any time.
    static HELD: Cell<i64> = const { Cell::new(0) };
    static MOST_HELD: Cell<i64> = const { Cell::new(0) };
}

fn hold(bytes: i64) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST_HELD.try_with(|most| most.set(most.get().max(held.get())));
    });
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
        hold(layout.size() as i64);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        hold(size as i64 - layout.size() as i64);
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
            for mut session in Session::each(&model).unwrap() {
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

/// The most bytes that `f` holds at a time, besides those that were held before.
fn most_held<T>(f: impl FnOnce() -> T) -> (u64, T) {
    let before = HELD.get();
    MOST_HELD.set(before);
    let result = f();
    ((MOST_HELD.get() - before) as u64, result)
}

/// Bytes that a session may hold besides its plan, per byte of the file without packing: weights
/// that are laid out for processors are wider than those of the file, and rows of one number are
/// filled up.
const PER_BYTE: u64 = 100;

/// Bytes of the weights of a model that are packed in its file, if they were not, at most.
fn unpacked(model: &Model) -> u64 {
    let weights = model.stored_weights();
    let packed = weights.iter().flatten().filter(|weight| weight.packing.is_some());
    packed.map(|weight| 4 * weight.numbers).sum()
}

/// Makes a session of a file, which may be refused, and checks what it holds.
fn check_memory(bytes: &[u8]) {
    let length = bytes.len() as u64;
    let (read, model) = most_held(|| Model::from_bytes(bytes));
    assert!(read <= PER_BYTE * 3 * length, "{read} bytes to read {length}");
    let Ok(model) = model else { return };
    let planned = model.plan(Target::Host).map_or(0, |plan| plan.bytes());
    assert!(planned <= MAX_SESSION_BYTES);
    for new in [Session::new, Session::portable] {
        let length = length + unpacked(&model);
        let (held, session) = most_held(|| new(&model));
        assert!(held <= planned + PER_BYTE * length, "{held} of {planned} for {length} bytes");
        assert_eq!(session.is_ok(), planned > 0);
    }
}

#[test]
fn a_session_holds_what_its_plan_says() {
    for seed in 0..600 {
        for model in [float_model(seed, 8), int_model(seed, 8)] {
            check_memory(&model.to_bytes());
        }
    }
}

/// Each asks for as much as 20 kB can ask for.
#[test]
fn a_hostile_file_gets_no_memory_beyond_its_plan() {
    let element = Element::Uint8(Quantization { scale: 1.0, zero_point: 0 });
    let model = |sizes: &[u32], element: Element, layers: Vec<(Layer, Element)>| {
        let (mut nodes, mut value) = (Vec::new(), ValueId(0));
        for (layer, output) in layers {
            let inputs = if matches!(layer, Layer::Constant(_)) { vec![] } else { vec![value] };
            nodes.push(Node { inputs, layer, output });
            value = ValueId(nodes.len() as u32);
        }
        let axes = sizes.len() as u32;
        let input = Input {
            name: "x".to_owned(),
            shape: Shape::new(sizes).unwrap(),
            order: (0..axes).collect(),
            array: Array::Fp32,
            element,
        };
        let outputs = vec![Output::new("y", ValueId(0), sizes.len())];
        Model {
            inputs: vec![input],
            nodes,
            outputs,
            rounding: Rounding::Once,
            notes: Notes::default(),
        }
    };
    let window = |kernel, stride, dilation, padding| WindowAxis {
        kernel,
        stride,
        dilation,
        before: padding,
        after: padding,
    };
    let float = |groups: u32, axes: Vec<WindowAxis>| {
        let taps: u32 = axes.iter().map(|axis| axis.kernel).product();
        let (weight, bias) = (vec![1.0; (groups * taps) as usize], vec![0.0; groups as usize]);
        let (in_channels, out_channels) = (groups, groups);
        let conv = Conv { in_channels, out_channels, groups, axes, weight, bias };
        (FloatConv { conv, activation: Activation::Linear }.into(), Element::Fp32)
    };
    let int = |groups: u32, axes: Vec<WindowAxis>| {
        let taps: u32 = axes.iter().map(|axis| axis.kernel).product();
        let (weight, bias) = (vec![1; (groups * taps) as usize], vec![0; groups as usize]);
        let (in_channels, out_channels) = (groups, groups);
        let conv = Conv { in_channels, out_channels, groups, axes, weight, bias };
        let requantize = vec![Requantization::from_real(0.5); groups as usize];
        let weight_scale = Vec::new();
        (IntConv { conv, weight_scale, requantize, clamp: (0, 255) }.into(), element)
    };
    let many = |layer: (Layer, Element), count: usize| vec![layer; count];
    let point = || vec![window(1, 1, 1, 0); 2];
    let fp32 = Element::Fp32;
    let pool = AveragePool { axes: vec![window(2, 1, 1, 1); 2], counted: vec![(0, 0); 2] };
    let taps = vec![Taps { indices: [0, 0], weights: [1.0, 0.0] }; 900];
    let models = [
        // A table of corners for each.
        model(&[1, 2000, 2000], fp32, many(float(1, point()), 400)),
        model(&[1, 2000, 2000], element, many(int(1, point()), 300)),
        // A large table of corners and few of them; a padded map that is wider than the input.
        model(&[1, 1000, 1000], fp32, many(float(1, point()), 3)),
        model(&[2, 1000, 1000], element, many(int(2, vec![window(3, 1, 1, 1); 2]), 3)),
        // Many taps with gaps.
        model(&[1, 3000, 3000], fp32, many(float(1, vec![window(60, 1, 50, 0); 2]), 1)),
        model(&[1, 3000, 3000], element, many(int(1, vec![window(120, 1, 20, 0); 2]), 1)),
        model(&[1, 1, 70], element, many(int(1, vec![window(1, 1, 1, 0), window(70, 1, 1, 0)]), 1)),
        // Padding alone.
        model(&[1, 1, 1], fp32, many(float(1, vec![window(1, 1, 1, 900); 2]), 1)),
        // Windows over three axes.
        model(&[1, 100, 100, 100], fp32, many(float(1, vec![window(1, 1, 1, 0); 3]), 100)),
        model(&[1, 1500, 1500], fp32, many((pool.into(), fp32), 500)),
        model(
            &[1, 30, 30],
            fp32,
            many((Resize { axes: vec![taps.clone(), taps] }.into(), fp32), 1),
        ),
        model(&[1, 2000, 2000], fp32, many((Softmax { axis: 1, log: false }.into(), fp32), 900)),
    ];
    for model in models {
        let bytes = model.to_bytes();
        assert!(bytes.len() < 20_000, "{}", bytes.len());
        assert_eq!(model.validate().err(), None);
        check_memory(&bytes);
    }
}

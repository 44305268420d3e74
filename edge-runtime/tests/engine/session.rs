//! Sessions on small models whose results are known.

use edgesmith_edge_runtime::*;

fn image(channels: u32, side: u32, mean: f32, std: f32, element: Element) -> Input {
    let count = channels as usize;
    let (mean, std) = (vec![mean; count], vec![std; count]);
    let image = InputSpec { channels, height: side, width: side, mean, std };
    Input::image(&image, element).unwrap()
}

/// A model that is a chain, whose last value is the output with `axes` axes.
fn chain(input: Input, layers: Vec<(Layer, Element)>, axes: usize) -> Model {
    let nodes = layers.into_iter().zip(0..).map(|((layer, output), value)| Node {
        inputs: vec![ValueId(value)],
        layer,
        output,
    });
    let nodes: Vec<Node> = nodes.collect();
    let last = ValueId(nodes.len() as u32);
    Model {
        inputs: vec![input],
        nodes,
        outputs: vec![Output::new("output", last, axes)],
        rounding: Rounding::Once,
        notes: Notes::default(),
    }
}

fn each(model: &Model) -> Vec<Session> {
    Session::each(model).unwrap()
}

fn pointwise<W: Clone, B: Clone>(channels: u32, out: u32, weight: W, bias: B) -> Conv<W, B> {
    Conv {
        in_channels: channels,
        out_channels: out,
        groups: 1,
        axes: vec![WindowAxis::new(1, 1, 0); 2],
        weight: vec![weight; (channels * out) as usize],
        bias: vec![bias; out as usize],
    }
}

#[test]
fn activations_clamp_at_their_bounds() {
    let all = |activation| {
        // Bytes 0, 51, … 255 mean -10, -6, … 10.
        let input = image(1, 1, 0.5, 0.05, Element::Fp32);
        let layer = FloatConv { conv: pointwise(1, 1, 1.0, 0.0), activation };
        let model = chain(input, vec![(layer.into(), Element::Fp32)], 3);
        let mut sessions = each(&model);
        [0u8, 102, 153, 255].map(|byte| {
            let mut found = sessions.iter_mut().map(|s| s.run(&[byte]).unwrap()[0].round());
            let first = found.next().unwrap();
            assert!(found.all(|other| other == first));
            first
        })
    };
    assert_eq!(all(Activation::Linear), [-10.0, -2.0, 2.0, 10.0]);
    assert_eq!(all(Activation::Relu), [0.0, 0.0, 2.0, 10.0]);
    assert_eq!(all(Activation::Relu6), [0.0, 0.0, 2.0, 6.0]);
    assert_eq!(all(Activation::Clip { low: -3.0, high: 1.0 }), [-3.0, -2.0, 1.0, 1.0]);
}

/// A 1x1 map whose products reach the largest allowed accumulator.
#[test]
fn the_largest_accumulators_do_not_wrap() {
    let channels = 8000;
    let byte = |zero_point| Element::Uint8(Quantization { scale: 1.0, zero_point });
    let one = Requantization::from_real(1.0);
    let narrow = IntConv {
        conv: pointwise(1, channels, 127, 0),
        weight_scale: Vec::new(),
        requantize: vec![one; channels as usize],
        clamp: (0, 255),
    };
    let wide = IntConv {
        conv: Conv {
            weight: [vec![127; channels as usize], vec![-128; channels as usize]].concat(),
            bias: vec![
                i32::MAX - 255 * 127 * channels as i32,
                -(i32::MAX - 255 * 128 * channels as i32),
            ],
            ..pointwise(channels, 2, 0, 0)
        },
        weight_scale: Vec::new(),
        requantize: vec![Requantization::from_real(127.0 / f64::from(i32::MAX)); 2],
        clamp: (0, 255),
    };
    let input = image(1, 1, 0.0, 1.0 / 255.0, byte(0));
    for rounding in [Rounding::Once, Rounding::Twice] {
        let layers = vec![(narrow.clone().into(), byte(0)), (wide.clone().into(), byte(128))];
        let model = Model { rounding, ..chain(input.clone(), layers, 3) };
        for mut session in each(&model) {
            assert_eq!(session.run(&[255]).unwrap(), [127.0, -127.0]);
        }
    }
}

#[test]
fn a_table_looks_every_byte_up() {
    let byte = Element::Uint8(Quantization { scale: 1.0, zero_point: 0 });
    let table = Table { function: None, tables: (0..=255).rev().collect() };
    let model = chain(image(1, 1, 0.0, 1.0 / 255.0, byte), vec![(table.into(), byte)], 3);
    for mut session in each(&model) {
        for byte in 0..=u8::MAX {
            assert_eq!(session.run(&[byte]).unwrap(), [f32::from(255 - byte)]);
        }
    }
}

#[test]
fn classify_returns_the_first_of_equal_highest_logits() {
    let byte = Element::Uint8(Quantization { scale: 1.0, zero_point: 0 });
    let linear =
        Linear { in_features: 1, out_features: 4, weight: vec![0; 4], bias: vec![1, 5, 5, -9] };
    let linear = IntLinear { linear, logit_scale: vec![1.0; 4] };
    let model = chain(image(1, 1, 0.0, 1.0, byte), vec![(linear.into(), Element::Fp32)], 1);
    let mut session = Session::new(&model).unwrap();
    assert_eq!(session.classes(), 4);
    assert_eq!(session.classify(&[7]).unwrap(), 1);
    assert_eq!(session.run(&[7]).unwrap(), [1.0, 5.0, 5.0, -9.0]);
}

/// Channels last outside, two inputs of different types, two outputs.
#[test]
fn several_inputs_and_outputs_have_orders_of_their_own() {
    let shape = Shape::new(&[2, 1, 3]).unwrap();
    let fp32 = Element::Fp32;
    let input = |name: &str, order: &[u32], array| Input {
        name: name.to_owned(),
        shape,
        order: order.to_vec(),
        array,
        element: fp32,
    };
    let bytes = Array::Bytes(Normalization::new(vec![0.0, 0.0], vec![1.0 / 255.0; 2], fp32));
    let add = Binary { function: BinaryFunction::Add };
    let node = Node { inputs: vec![ValueId(0), ValueId(1)], layer: add.into(), output: fp32 };
    let output = |name: &str, value, order: &[u32]| Output {
        name: name.to_owned(),
        value: ValueId(value),
        order: order.to_vec(),
    };
    let model = Model {
        inputs: vec![input("a", &[1, 2, 0], bytes), input("b", &[0, 1, 2], Array::Fp32)],
        nodes: vec![node],
        outputs: vec![output("sum", 2, &[0, 1, 2]), output("a", 0, &[2, 1, 0])],
        rounding: Rounding::Once,
        notes: Notes::default(),
    };
    let mut session = Session::new(&model).unwrap();
    let (pixels, numbers) = ([1, 2, 3, 4, 5, 6], [0.5, 0.25, 0.0, 10.0, 20.0, 30.0]);
    session.run_on(&[Tensor::Bytes(&pixels), Tensor::Fp32(&numbers)]).unwrap();
    assert_eq!(session.output(0), [1.5, 3.25, 5.0, 12.0, 24.0, 36.0]);
    assert_eq!(session.output(1), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    // What does not fit is named.
    assert_eq!(session.run(&pixels), Err(InputError::NotAnImage));
    let error = session.run_on(&[Tensor::Bytes(&pixels)]).unwrap_err();
    assert_eq!(error, InputError::WrongCount { expected: 2, found: 1 });
    let error = session.run_on(&[Tensor::Fp32(&numbers), Tensor::Fp32(&numbers)]).unwrap_err();
    assert_eq!(error.to_string(), "the input a takes bytes");
    let error = session.run_on(&[Tensor::Bytes(&pixels), Tensor::Fp32(&numbers[1..])]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "the array for the input b has 5 numbers, but the model takes 6"
    );
}

#[test]
fn images_of_another_size_are_refused() {
    let table = Map { function: Function::Tanh };
    let input = image(1, 2, 0.0, 1.0, Element::Fp32);
    let mut session = Session::new(&chain(input, vec![(table.into(), Element::Fp32)], 3)).unwrap();
    let error = session.run(&[0; 5]).unwrap_err();
    assert_eq!(error, InputError::WrongLength { expected: 4, found: 5 });
    assert!(session.classify(&[]).is_err());
    assert!(session.run(&[0; 4]).is_ok());
}

#[test]
fn memory_is_reused_along_a_chain() {
    let layer = || Layer::from(Map { function: Function::Tanh });
    let layers = (0..20).map(|_| (layer(), Element::Fp32)).collect();
    let model = chain(image(1, 8, 0.0, 1.0, Element::Fp32), layers, 3);
    let plan = model.plan(Target::Host).unwrap();
    // Two maps of 64, the table of the input and the output.
    assert_eq!((plan.arena, plan.tables, plan.outputs), (2 * 256, 1024, 256));
    assert_eq!(Session::new(&model).unwrap().peak_memory_bytes(), 2 * 256 + 1024 + 256);
}

/// Corners and taps, whatever the processor is.
#[test]
fn tables_of_convolutions_are_in_the_plan() {
    let depthwise = |element| {
        let axes = vec![WindowAxis::new(3, 1, 1), WindowAxis::new(5, 1, 2)];
        let (in_channels, out_channels, groups) = (2, 2, 2);
        match element {
            Element::Fp32 => {
                let (weight, bias) = (vec![1.0; 30], vec![0.0; 2]);
                let conv = Conv { in_channels, out_channels, groups, axes, weight, bias };
                Layer::from(FloatConv { conv, activation: Activation::Linear })
            }
            Element::Uint8(_) => {
                let (weight, bias) = (vec![1; 30], vec![0; 2]);
                let conv = Conv { in_channels, out_channels, groups, axes, weight, bias };
                let requantize = vec![Requantization::from_real(0.1); 2];
                let weight_scale = Vec::new();
                IntConv { conv, weight_scale, requantize, clamp: (0, 255) }.into()
            }
        }
    };
    let bytes = Element::Uint8(Quantization { scale: 0.01, zero_point: 0 });
    // 64 corners and 15 taps of 4 bytes. In fp32 also the table of the input; in integers also 8
    // pairs of taps.
    for (element, tables) in
        [(Element::Fp32, (64 + 15) * 4 + 2 * 256 * 4), (bytes, (64 + 15) * 4 + 8 * 8)]
    {
        let input = image(2, 8, 0.0, 1.0, element);
        let model = chain(input, vec![(depthwise(element), element)], 3);
        assert_eq!(model.plan(Target::Host).unwrap().tables, tables);
    }
}

/// A file of a few bytes per layer, each of which has a table of all its positions.
#[test]
fn what_needs_too_much_memory_is_refused_before_it_is_allocated() {
    let conv = || {
        Layer::from(FloatConv { conv: pointwise(1, 1, 1.0, 0.0), activation: Activation::Linear })
    };
    let layers = (0..1000).map(|_| (conv(), Element::Fp32)).collect();
    let model = chain(image(1, 4096, 0.0, 1.0, Element::Fp32), layers, 3);
    assert!(model.to_bytes().len() < 50_000);
    let error = Session::new(&model).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model needs 67310191616 bytes of memory to run; at most 536870912 are allowed"
    );
}

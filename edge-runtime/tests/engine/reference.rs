//! Computes layers in plain loops, directly from the definitions of the model's types: integers
//! exactly, fp32 in f64.

use edgesmith_edge_runtime::*;

/// A value as its numbers are listed, row by row over all axes. Bytes are numbers from 0 to 255.
#[derive(Debug, Clone)]
pub struct Listed {
    pub sizes: Vec<usize>,
    pub numbers: Vec<f64>,
    pub element: Element,
}

impl Listed {
    fn at(&self, place: &[usize]) -> f64 {
        self.numbers[index(&self.sizes, place)]
    }

    /// The number at a place that may be outside.
    fn inside(&self, place: &[i64]) -> Option<f64> {
        let inside = place.iter().zip(&self.sizes).all(|(&p, &s)| (0..s as i64).contains(&p));
        inside.then(|| self.at(&place.iter().map(|&p| p as usize).collect::<Vec<_>>()))
    }

    /// The number at a place of a larger value, into which this one is repeated.
    fn repeated(&self, place: &[usize]) -> f64 {
        let ours = self.sizes.iter().zip(place).map(|(&s, &p)| if s == 1 { 0 } else { p });
        self.at(&ours.collect::<Vec<_>>())
    }

    fn zero(&self) -> i128 {
        match self.element {
            Element::Uint8(quantization) => i128::from(quantization.zero_point),
            Element::Fp32 => 0,
        }
    }

    /// The byte at a place, without the zero point; 0 outside.
    fn centred(&self, place: &[i64]) -> i128 {
        self.inside(place).map_or(0, |number| number as i128 - self.zero())
    }
}

fn index(sizes: &[usize], place: &[usize]) -> usize {
    sizes.iter().zip(place).fold(0, |index, (&size, &place)| {
        assert!(place < size);
        index * size + place
    })
}

/// All places of a value, in the order in which they are listed.
fn places(sizes: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &size in sizes {
        let longer = |place: Vec<usize>| (0..size).map(move |next| [&place[..], &[next]].concat());
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}

fn sizes_of(shape: Shape) -> Vec<usize> {
    shape.sizes().iter().map(|&size| size as usize).collect()
}

/// The value of an input for an array from outside.
pub fn input(input: &Input, array: &Numbers) -> Listed {
    let sizes = sizes_of(input.shape);
    let outside: Vec<usize> = input.order.iter().map(|&axis| sizes[axis as usize]).collect();
    let numbers = places(&sizes)
        .into_iter()
        .map(|place| {
            let there: Vec<usize> = input.order.iter().map(|&axis| place[axis as usize]).collect();
            let at = index(&outside, &there);
            let real = match (array, &input.array) {
                (Numbers::Bytes(bytes), Array::Bytes(Normalization { mean, std, .. })) => {
                    (f32::from(bytes[at]) / 255.0 - mean[place[0]]) / std[place[0]]
                }
                (Numbers::Fp32(numbers), Array::Fp32) => numbers[at],
                _ => panic!("an array of another type"),
            };
            match input.element {
                Element::Fp32 => f64::from(real),
                Element::Uint8(q) => quantize(real, q),
            }
        })
        .collect();
    Listed { sizes, numbers, element: input.element }
}

fn quantize(real: f32, Quantization { scale, zero_point }: Quantization) -> f64 {
    let q = (real / scale).round() as i64 + i64::from(zero_point);
    q.clamp(0, 255) as f64
}

/// Numbers of a value from the array of an output, and back.
pub fn listed(output: &Output, shape: Shape, element: Element, array: &[f32]) -> Listed {
    let sizes = sizes_of(shape);
    let outside: Vec<usize> = output.order.iter().map(|&axis| sizes[axis as usize]).collect();
    let number = |place: Vec<usize>| {
        let there: Vec<usize> = output.order.iter().map(|&axis| place[axis as usize]).collect();
        let real = array[index(&outside, &there)];
        match element {
            Element::Fp32 => f64::from(real),
            Element::Uint8(q) => {
                let byte = quantize(real, q);
                let exact = q.scale * (byte as f32 - f32::from(q.zero_point));
                assert_eq!(exact, real, "bytes are handed out as the numbers they stand for");
                byte
            }
        }
    };
    Listed { numbers: places(&sizes).into_iter().map(number).collect(), sizes, element }
}

/// What a node computes.
pub fn run(node: &Node, rounding: Rounding, inputs: &[&Listed], shape: Shape) -> Vec<f64> {
    let sizes = sizes_of(shape);
    let output_zero = match node.output {
        Element::Uint8(quantization) => i128::from(quantization.zero_point),
        Element::Fp32 => 0,
    };
    let byte = |accumulator: i128, factor: Requantization, clamp: (u8, u8)| {
        let scaled = scale(accumulator, factor, rounding) + output_zero;
        scaled.clamp(clamp.0.into(), clamp.1.into()) as f64
    };
    let whole = (0, 255);
    let all = places(&sizes);
    let each = |f: &dyn Fn(&[usize]) -> f64| all.iter().map(|place| f(place)).collect::<Vec<_>>();
    match &node.layer {
        Layer::FloatConv(FloatConv { conv, activation }) => each(&|place| {
            let sum: f64 = conv_products(conv, inputs[0], place)
                .into_iter()
                .map(|(at, weight)| inputs[0].inside(&at).unwrap_or(0.0) * f64::from(weight))
                .sum();
            activate(*activation, sum + f64::from(conv.bias[place[0]]))
        }),
        Layer::IntConv(IntConv { conv, requantize, clamp, .. }) => each(&|place| {
            let sum: i128 = conv_products(conv, inputs[0], place)
                .into_iter()
                .map(|(at, weight)| inputs[0].centred(&at) * i128::from(weight))
                .sum();
            byte(sum + i128::from(conv.bias[place[0]]), requantize[place[0]], *clamp)
        }),
        Layer::FloatConvTranspose(FloatConvTranspose { conv, activation }) => each(&|place| {
            let sum: f64 = transposed_products(conv, inputs[0], place)
                .into_iter()
                .map(|(at, weight)| inputs[0].inside(&at).unwrap_or(0.0) * f64::from(weight))
                .sum();
            activate(*activation, sum + f64::from(conv.bias[place[0]]))
        }),
        Layer::IntConvTranspose(layer) => each(&|place| {
            let conv = &layer.conv;
            let sum: i128 = transposed_products(conv, inputs[0], place)
                .into_iter()
                .map(|(at, weight)| inputs[0].centred(&at) * i128::from(weight))
                .sum();
            let sum = sum + i128::from(conv.bias[place[0]]);
            byte(sum, layer.requantize[place[0]], layer.clamp)
        }),
        Layer::FloatLinear(linear) => each(&|place| {
            let row = &linear.weight[place[0] * inputs[0].numbers.len()..];
            let products = inputs[0].numbers.iter().zip(row);
            products.map(|(x, &w)| x * f64::from(w)).sum::<f64>() + f64::from(linear.bias[place[0]])
        }),
        Layer::IntLinear(IntLinear { linear, logit_scale }) => each(&|place| {
            let row = &linear.weight[place[0] * inputs[0].numbers.len()..];
            let products = inputs[0].numbers.iter().zip(row);
            let sum: i128 = products
                .map(|(&q, &w)| (q as i128 - inputs[0].zero()) * i128::from(w))
                .sum::<i128>()
                + i128::from(linear.bias[place[0]]);
            f64::from(sum as f32 * logit_scale[place[0]])
        }),
        Layer::Leveled(leveled) => {
            let real = Node { layer: leveled.real(), ..node.clone() };
            run(&real, rounding, inputs, shape)
        }
        Layer::Round(round) => each(&|place| f64::from(round.apply(inputs[0].at(place) as f32))),
        Layer::Map(Map { function }) => each(&|place| call(*function, inputs[0].at(place))),
        Layer::Table(Table { tables, .. }) => each(&|place| {
            let channel = if tables.len() == 256 { 0 } else { place[0] };
            f64::from(tables[channel * 256 + inputs[0].at(place) as usize])
        }),
        Layer::Prelu(Prelu { slope }) => each(&|place| {
            let x = inputs[0].at(place);
            if x >= 0.0 { x } else { f64::from(slope[place[0]]) * x }
        }),
        Layer::Binary(Binary { function }) => each(&|place| {
            let [a, b] = [0, 1].map(|side| inputs[side].repeated(place));
            let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
            match function {
                BinaryFunction::Add => a + b,
                BinaryFunction::Divide => a / b,
                BinaryFunction::Equal => truth(a == b),
                BinaryFunction::Less => truth(a < b),
                BinaryFunction::LessOrEqual => truth(a <= b),
                BinaryFunction::Maximum => a.max(b),
                BinaryFunction::Minimum => a.min(b),
                BinaryFunction::Multiply => a * b,
                BinaryFunction::Power => a.powf(b),
                BinaryFunction::Subtract => a - b,
            }
        }),
        Layer::Select(_) => each(&|place| {
            let [c, a, b] = [0, 1, 2].map(|side| inputs[side].repeated(place));
            if c != 0.0 { a } else { b }
        }),
        Layer::IntSum(IntSum { multipliers, shift, clamp }) => each(&|place| {
            let sum: i128 = [0, 1]
                .map(|side| {
                    let centred = inputs[side].repeated(place) as i128 - inputs[side].zero();
                    centred * i128::from(multipliers[side])
                })
                .iter()
                .sum();
            // Halves up.
            let rounded = (2 * sum + (1i128 << shift)).div_euclid(2i128 << shift) + output_zero;
            rounded.clamp(clamp.0.into(), clamp.1.into()) as f64
        }),
        Layer::IntProduct(IntProduct { requantize, clamp }) => each(&|place| {
            let [a, b] = [0, 1].map(|s| inputs[s].repeated(place) as i128 - inputs[s].zero());
            byte(a * b, *requantize, *clamp)
        }),
        Layer::IntAddTwice(IntAddTwice { sides, output, clamp }) => each(&|place| {
            let side = |side: usize| {
                let centred = inputs[side].at(place) as i128 - inputs[side].zero();
                scale(centred << 20, sides[side], Rounding::Twice)
            };
            let scaled = scale(side(0) + side(1), *output, Rounding::Twice) + output_zero;
            scaled.clamp(clamp.0.into(), clamp.1.into()) as f64
        }),
        Layer::Quantize(_) => each(&|place| match node.output {
            Element::Uint8(q) => quantize(inputs[0].at(place) as f32, q),
            Element::Fp32 => panic!("not bytes"),
        }),
        Layer::Dequantize(_) => each(&|place| match inputs[0].element {
            Element::Uint8(q) => {
                f64::from(q.scale * (inputs[0].at(place) as f32 - f32::from(q.zero_point)))
            }
            Element::Fp32 => panic!("not bytes"),
        }),
        Layer::Concat(Concat { axis }) => each(&|place| {
            let mut place = place.to_vec();
            for input in inputs {
                let size = input.sizes[*axis as usize];
                if place[*axis as usize] < size {
                    return input.at(&place);
                }
                place[*axis as usize] -= size;
            }
            panic!("outside")
        }),
        Layer::Gather(Gather { axis, indices }) => each(&|place| {
            let mut place = place.to_vec();
            place[*axis as usize] = indices[place[*axis as usize]] as usize;
            inputs[0].at(&place)
        }),
        Layer::Transpose(Transpose { order }) => each(&|place| {
            let mut there = vec![0; place.len()];
            for (axis, &from) in order.iter().enumerate() {
                there[from as usize] = place[axis];
            }
            inputs[0].at(&there)
        }),
        Layer::Reshape(_) => inputs[0].numbers.clone(),
        Layer::Constant(Constant { numbers, .. }) => match numbers {
            Numbers::Bytes(bytes) => bytes.iter().map(|&byte| f64::from(byte)).collect(),
            Numbers::Fp32(numbers) => numbers.iter().map(|&number| f64::from(number)).collect(),
        },
        Layer::Pad(Pad { before, fill, .. }) => each(&|place| {
            let there: Vec<i64> =
                place.iter().zip(before).map(|(&p, &b)| p as i64 - i64::from(b)).collect();
            inputs[0].inside(&there).unwrap_or(match fill {
                Fill::Fp32(number) => f64::from(*number),
                Fill::Byte(byte) => f64::from(*byte),
            })
        }),
        Layer::MaxPool(MaxPool { axes }) => each(&|place| {
            let window = window(axes, place);
            window.iter().filter_map(|at| inputs[0].inside(at)).fold(f64::NEG_INFINITY, f64::max)
        }),
        Layer::AveragePool(pool) => each(&|place| {
            let (inside, count) = counted(pool, inputs[0], place);
            inside.iter().sum::<f64>() / f64::from(count)
        }),
        Layer::IntAveragePool(IntAveragePool { pool, factors }) => each(&|place| {
            let (inside, count) = counted(pool, inputs[0], place);
            let sum = inside.iter().map(|&q| q as i128 - inputs[0].zero()).sum();
            let factor = factors.iter().find(|(other, _)| *other == count).unwrap().1;
            byte(sum, factor, whole)
        }),
        Layer::Reduce(reduce) => each(&|place| {
            let numbers = along(reduce, inputs[0], place);
            let count = numbers.len() as f64;
            let numbers = numbers.into_iter();
            match reduce.function {
                ReduceFunction::Mean => numbers.sum::<f64>() / count,
                ReduceFunction::Sum => numbers.sum(),
                ReduceFunction::Maximum => numbers.fold(f64::NEG_INFINITY, f64::max),
                ReduceFunction::Minimum => numbers.fold(f64::INFINITY, f64::min),
                ReduceFunction::L2 => numbers.map(|x| x * x).sum::<f64>().sqrt(),
            }
        }),
        Layer::IntReduce(IntReduce { reduce, requantize }) => each(&|place| {
            let numbers = along(reduce, inputs[0], place).into_iter();
            match reduce.function {
                ReduceFunction::Mean | ReduceFunction::Sum => {
                    let sum = numbers.map(|q| q as i128 - inputs[0].zero()).sum();
                    byte(sum, *requantize, whole)
                }
                ReduceFunction::Maximum => numbers.fold(f64::NEG_INFINITY, f64::max),
                ReduceFunction::Minimum => numbers.fold(f64::INFINITY, f64::min),
                ReduceFunction::L2 => panic!("not in integers"),
            }
        }),
        Layer::MatrixProduct(MatrixProduct { transposed }) => each(&|place| {
            let (before, [row, column]) = place.split_last_chunk::<2>().unwrap();
            let axes = place.len();
            let inner = inputs[0].sizes[if transposed[0] { axes - 2 } else { axes - 1 }];
            let at = |side: usize, a: usize, b: usize| {
                let matrix = if transposed[side] { [b, a] } else { [a, b] };
                inputs[side].repeated(&[before, &matrix].concat())
            };
            // An axis of size 1 is not repeated inside the matrix, but then the place is 0.
            (0..inner).map(|k| at(0, *row, k) * at(1, k, *column)).sum()
        }),
        Layer::Softmax(Softmax { axis, log }) => each(&|place| {
            let axis = *axis as usize;
            let numbers = (0..inputs[0].sizes[axis]).map(|other| {
                let mut place = place.to_vec();
                place[axis] = other;
                inputs[0].at(&place)
            });
            let largest = numbers.clone().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = numbers.map(|x| (x - largest).exp()).sum();
            let x = inputs[0].at(place) - largest;
            if *log { x - sum.ln() } else { x.exp() / sum }
        }),
        Layer::LayerNormalization(LayerNormalization { axes, epsilon, scale, shift }) => {
            each(&|place| {
                let group: Vec<f64> = places(&sizes)
                    .iter()
                    .filter(|other| {
                        (0..place.len())
                            .all(|axis| axes.contains(&(axis as u32)) || other[axis] == place[axis])
                    })
                    .map(|other| inputs[0].at(other))
                    .collect();
                let count = group.len() as f64;
                let mean = group.iter().sum::<f64>() / count;
                let variance = group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
                let axes: Vec<usize> = axes.iter().map(|&axis| axis as usize).collect();
                let inside: Vec<usize> = axes.iter().map(|&axis| place[axis]).collect();
                let extent: Vec<usize> = axes.iter().map(|&axis| sizes[axis]).collect();
                let at = index(&extent, &inside);
                let normal = (inputs[0].at(place) - mean) / (variance + f64::from(*epsilon)).sqrt();
                normal * scale.get(at).map_or(1.0, |&x| f64::from(x))
                    + shift.get(at).map_or(0.0, |&x| f64::from(x))
            })
        }
        Layer::Resize(Resize { axes }) => each(&|place| {
            mixed(axes, place, |at, weights| {
                inputs[0].at(at) * weights.iter().map(|&w| f64::from(w)).product::<f64>()
            })
            .iter()
            .sum()
        }),
        Layer::IntResize(IntResize { axes }) => each(&|place| {
            let parts = mixed(axes, place, |at, weights| {
                inputs[0].at(at) as i128 * weights.iter().map(|&w| i128::from(w)).product::<i128>()
            });
            let whole = i128::from(IntResize::WHOLE).pow(axes.len() as u32);
            (2 * parts.iter().sum::<i128>() + whole).div_euclid(2 * whole) as f64
        }),
    }
}

/// The places under a window, inside or not.
fn window(axes: &[WindowAxis], place: &[usize]) -> Vec<Vec<i64>> {
    let kernel: Vec<usize> = axes.iter().map(|axis| axis.kernel as usize).collect();
    let at = |tap: Vec<usize>| {
        let mut at = vec![place[0] as i64];
        for (axis, (tap, &place)) in axes.iter().zip(tap.iter().zip(&place[1..])) {
            at.push(
                place as i64 * i64::from(axis.stride) + *tap as i64 * i64::from(axis.dilation)
                    - i64::from(axis.before),
            );
        }
        at
    };
    places(&kernel).into_iter().map(at).collect()
}

/// Places of the input with their weights.
fn conv_products<W: Copy, B>(
    conv: &Conv<W, B>,
    input: &Listed,
    place: &[usize],
) -> Vec<(Vec<i64>, W)> {
    let taps = window(&conv.axes, place);
    let group = input.sizes[0] / conv.groups as usize;
    let first = place[0] / (conv.out_channels / conv.groups) as usize * group;
    let mut products = Vec::new();
    for channel in 0..group {
        for (tap, at) in taps.iter().enumerate() {
            let mut at = at.clone();
            at[0] = (first + channel) as i64;
            products.push((at, conv.weight[(place[0] * group + channel) * taps.len() + tap]));
        }
    }
    products
}

/// Spreads every input over the outputs, and keeps what arrives at `place`.
fn transposed_products<W: Copy, B>(
    conv: &ConvTranspose<W, B>,
    input: &Listed,
    place: &[usize],
) -> Vec<(Vec<i64>, W)> {
    let group = input.sizes[0] / conv.groups as usize;
    let first = place[0] / (conv.out_channels / conv.groups) as usize * group;
    let kernel: Vec<usize> = conv.axes.iter().map(|axis| axis.kernel as usize).collect();
    let taps = places(&kernel);
    let mut products = Vec::new();
    for from in places(&input.sizes[1..]) {
        for (number, tap) in taps.iter().enumerate() {
            let arrives = conv.axes.iter().enumerate().all(|(axis, settings)| {
                let at = from[axis] as i64 * i64::from(settings.stride)
                    + tap[axis] as i64 * i64::from(settings.dilation)
                    - i64::from(settings.before);
                at == place[axis + 1] as i64
            });
            if !arrives {
                continue;
            }
            for channel in 0..group {
                let mut at = vec![(first + channel) as i64];
                at.extend(from.iter().map(|&p| p as i64));
                let weight = (place[0] * group + channel) * taps.len() + number;
                products.push((at, conv.weight[weight]));
            }
        }
    }
    products
}

/// The numbers inside a window, and how many places count.
fn counted(pool: &AveragePool, input: &Listed, place: &[usize]) -> (Vec<f64>, u32) {
    let window = window(&pool.axes, place);
    let counts = window.iter().filter(|at| {
        pool.counted.iter().enumerate().all(|(axis, &(before, after))| {
            let size = input.sizes[axis + 1] as i64;
            (-i64::from(before)..size + i64::from(after)).contains(&at[axis + 1])
        })
    });
    let count = counts.count() as u32;
    (window.iter().filter_map(|at| input.inside(at)).collect(), count)
}

/// The numbers that become the one at `place`.
fn along(reduce: &Reduce, input: &Listed, place: &[usize]) -> Vec<f64> {
    let reduced = |axis: usize| reduce.axes.contains(&(axis as u32));
    let mut kept = place.iter();
    let fixed: Vec<Option<usize>> = (0..input.sizes.len())
        .map(|axis| {
            let place = if reduced(axis) && !reduce.keep { None } else { kept.next().copied() };
            if reduced(axis) { None } else { place }
        })
        .collect();
    places(&input.sizes)
        .iter()
        .filter(|at| fixed.iter().zip(*at).all(|(fixed, at)| fixed.is_none_or(|f| f == *at)))
        .map(|at| input.at(at))
        .collect()
}

/// What the old places around a new one add to it.
fn mixed<W: Copy, T>(
    axes: &[Vec<Taps<W>>],
    place: &[usize],
    part: impl Fn(&[usize], &[W]) -> T,
) -> Vec<T> {
    places(&vec![2; axes.len()])
        .into_iter()
        .map(|sides| {
            let (mut at, mut weights) = (vec![place[0]], Vec::new());
            for (axis, &side) in sides.iter().enumerate() {
                let taps = &axes[axis][place[axis + 1]];
                at.push(taps.indices[side] as usize);
                weights.push(taps.weights[side]);
            }
            part(&at, &weights)
        })
        .collect()
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Linear => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Clip { low, high } => x.clamp(f64::from(low), f64::from(high)),
    }
}

fn call(function: Function, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match function {
        Function::Absolute => x.abs(),
        Function::Clip { low, high } => x.clamp(f64::from(low), f64::from(high)),
        Function::Elu { alpha } => {
            if x > 0.0 {
                x
            } else {
                f64::from(alpha) * (x.exp() - 1.0)
            }
        }
        Function::Erf => erf(x),
        Function::Exponential => x.exp(),
        Function::Gelu => x * 0.5 * (1.0 + erf(x / 2f64.sqrt())),
        Function::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Function::HardSigmoid { slope, offset } => {
            (f64::from(slope) * x + f64::from(offset)).clamp(0.0, 1.0)
        }
        Function::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Function::LeakyRelu { slope } => {
            if x >= 0.0 {
                x
            } else {
                f64::from(slope) * x
            }
        }
        Function::Logarithm => x.ln(),
        Function::Power { exponent } => x.powf(f64::from(exponent)),
        Function::Scale { factor, offset } => f64::from(factor) * x + f64::from(offset),
        Function::Sigmoid => sigmoid(x),
        Function::Silu => x * sigmoid(x),
        Function::Softplus => {
            if x > 30.0 {
                x
            } else {
                x.exp().ln_1p()
            }
        }
        Function::SquareRoot => x.sqrt(),
        Function::Tanh => x.tanh(),
    }
}

/// By the midpoint rule.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let steps = 2000;
    let step = x / f64::from(steps);
    let sum: f64 = (0..steps).map(|i| (-((f64::from(i) + 0.5) * step).powi(2)).exp()).sum();
    sum * step * std::f64::consts::FRAC_2_SQRT_PI
}

/// A factor times a number, as the engine's documentation defines it, in wide integers.
fn scale(value: i128, factor: Requantization, rounding: Rounding) -> i128 {
    let saturate = |x: i128| x.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
    match rounding {
        Rounding::Once => {
            let divisor = 1i128 << (31 - factor.shift);
            saturate((2 * value * i128::from(factor.multiplier) + divisor).div_euclid(2 * divisor))
        }
        Rounding::Twice => {
            let shifted = saturate(value * (1i128 << factor.shift.max(0)));
            let high =
                (shifted * i128::from(factor.multiplier) + (1i128 << 30)).div_euclid(1i128 << 31);
            let divisor = 1i128 << (-factor.shift).max(0);
            let rounded = (2 * high.abs() + divisor) / (2 * divisor) * high.signum();
            saturate(rounded)
        }
    }
}

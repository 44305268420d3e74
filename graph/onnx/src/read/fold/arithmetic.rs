//! Arithmetic on known numbers, some of which depend on the size of the batch.

use std::cmp::Ordering;
use std::rc::Rc;

use super::super::call::{Call, Tensor, axes};
use super::super::constant::{Constant, Data, Size, places, strides, types};
use super::super::error::Fault;
use super::super::network::Network;
use super::moving::spend;

type Folded = Result<Constant, Fault>;

/// `None` if the operator is not one of these.
pub(super) fn fold(call: &Call, network: &mut Network) -> Option<Folded> {
    Some(match call.node.op_type {
        "Equal" => compare(call, network, &|order| order == Ordering::Equal),
        "Less" => compare(call, network, &|order| order == Ordering::Less),
        "LessOrEqual" => compare(call, network, &|order| order != Ordering::Greater),
        "Greater" => compare(call, network, &|order| order == Ordering::Greater),
        "GreaterOrEqual" => compare(call, network, &|order| order != Ordering::Less),
        "Add" => pair(call, network, &|a, b| a + b, &add),
        "Sub" => pair(call, network, &|a, b| a - b, &|a, b, _| {
            add(a, Size { known: b.known.checked_neg()?, ..b }, None)
        }),
        "Mul" => pair(call, network, &|a, b| a * b, &multiply),
        "Div" => pair(call, network, &|a, b| a / b, &divide),
        "Mod" => modulo(call, network),
        "Pow" => pair(call, network, &f32::powf, &|a, b, _| {
            Some(Size::known(a.get()?.checked_pow(u32::try_from(b.get()?).ok()?)?))
        }),
        "Max" => pair(call, network, &f32::max, &|a, b, n| {
            Some(if order(a, b, n)? == Ordering::Less { b } else { a })
        }),
        "Min" => pair(call, network, &f32::min, &|a, b, n| {
            Some(if order(a, b, n)? == Ordering::Less { a } else { b })
        }),
        "And" => pair(call, network, &|_, _| f32::NAN, &|a, b, _| Some(bit(set(a)? && set(b)?))),
        "Or" => pair(call, network, &|_, _| f32::NAN, &|a, b, _| Some(bit(set(a)? || set(b)?))),
        "Not" => single(call, &|_| f32::NAN, &|a| Some(bit(!set(a)?))),
        "Neg" => single(call, &|x| -x, &|a| Some(Size { known: a.known.checked_neg()?, ..a })),
        "Abs" => single(call, &f32::abs, &|a| Some(Size { known: a.known.checked_abs()?, ..a })),
        "Sqrt" => single(call, &f32::sqrt, &|_| None),
        "Exp" => single(call, &f32::exp, &|_| None),
        "Log" => single(call, &f32::ln, &|_| None),
        "Floor" => single(call, &f32::floor, &Some),
        "Ceil" => single(call, &f32::ceil, &Some),
        "Round" => single(call, &f32::round_ties_even, &Some),
        "Reciprocal" => single(call, &|x| 1.0 / x, &|_| None),
        "Relu" => single(call, &|x| x.max(0.0), &|_| None),
        "Sigmoid" => single(call, &|x| 1.0 / (1.0 + (-x).exp()), &|_| None),
        "Tanh" => single(call, &f32::tanh, &|_| None),
        "Sin" => single(call, &f32::sin, &|_| None),
        "Cos" => single(call, &f32::cos, &|_| None),
        "Cast" | "CastLike" => cast(call),
        "Where" => choose(call, network),
        "ReduceProd" => reduce(call, network, &|a, b| a * b, &multiply),
        "ReduceSum" => reduce(call, network, &|a, b| a + b, &add),
        "ReduceMax" => reduce(call, network, &f32::max, &|a, b, n| {
            Some(if order(a, b, n)? == Ordering::Less { b } else { a })
        }),
        "ReduceMin" => reduce(call, network, &f32::min, &|a, b, n| {
            Some(if order(a, b, n)? == Ordering::Less { a } else { b })
        }),
        _ => return None,
    })
}

fn bit(set: bool) -> Size {
    Size::known(set.into())
}

fn set(size: Size) -> Option<bool> {
    size.get().map(|number| number != 0)
}

type OfSizes<'a> = &'a dyn Fn(Size, Size, Option<u32>) -> Option<Size>;

fn add(a: Size, b: Size, _: Option<u32>) -> Option<Size> {
    match (a, b) {
        (a, Size { known: 0, batch: false }) => Some(a),
        (Size { known: 0, batch: false }, b) => Some(b),
        (a, b) if a.batch == b.batch => {
            let known = a.known.checked_add(b.known)?;
            Some(Size { known, batch: a.batch && known != 0 })
        }
        _ => None,
    }
}

fn multiply(a: Size, b: Size, _: Option<u32>) -> Option<Size> {
    let known = a.known.checked_mul(b.known)?;
    let batch = (a.batch || b.batch) && known != 0;
    (!(a.batch && b.batch)).then_some(Size { known, batch })
}

/// The rest of a division: with the sign of the divisor, or of the dividend if it says so.
fn modulo(call: &Call, network: &mut Network) -> Folded {
    let of_dividend = call.int("fmod", 0)? != 0;
    let of_floats = |a: f32, b: f32| if of_dividend { a % b } else { a - (a / b).floor() * b };
    pair(call, network, &of_floats, &|a, b, _| {
        let (a, b) = (a.get()?, b.get()?);
        let rest = a.checked_rem(b)?;
        let turned = !of_dividend && rest != 0 && (rest < 0) != (b < 0);
        Some(Size::known(if turned { rest + b } else { rest }))
    })
}

/// Towards zero, as ONNX divides integers.
fn divide(a: Size, b: Size, _: Option<u32>) -> Option<Size> {
    match (a.batch, b.batch) {
        (false, false) => Some(Size::known(a.known.checked_div(b.known)?)),
        (batch, of) if batch || !of => {
            let whole = a.known.checked_rem(b.known)? == 0;
            whole.then_some(Size { known: a.known / b.known, batch: batch && !of })
        }
        _ => None,
    }
}

/// Which one is larger, as far as that can be known: a batch has at least one example.
fn order(a: Size, b: Size, batch: Option<u32>) -> Option<Ordering> {
    let number = |size: Size| match (size.batch, batch) {
        (false, _) => Some(size.known),
        (true, batch) => size.known.checked_mul(batch?.into()),
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ if a.batch == b.batch => Some(a.known.cmp(&b.known)),
        _ if a.batch && a.known > 0 && b.known <= 0 => Some(Ordering::Greater),
        _ if b.batch && b.known > 0 && a.known <= 0 => Some(Ordering::Less),
        _ if a.batch && b.known == 1 && a.known >= 1 => Some(Ordering::Greater),
        _ if b.batch && a.known == 1 && b.known >= 1 => Some(Ordering::Less),
        _ => None,
    }
}

fn unknown() -> Fault {
    Fault::batch("it computes with the number of examples")
}

/// Both inputs repeated to the same shape.
fn both(a: &Constant, b: &Constant, network: &mut Network) -> Result<(Constant, Constant), Fault> {
    let rank = a.dims.len().max(b.dims.len());
    let size = |c: &Constant, axis: usize| {
        (axis + c.dims.len()).checked_sub(rank).map_or(1, |axis| c.dims[axis])
    };
    let dims: Vec<usize> = (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (1, other) | (other, _) => other,
        })
        .collect();
    spend(network, &dims)?;
    match (a.broadcast(&dims), b.broadcast(&dims)) {
        (Some(a), Some(b)) => Ok((a, b)),
        _ => {
            let (a, b) = (&a.dims, &b.dims);
            Err(Fault::invalid(format!(
                "its inputs have the shapes {a:?} and {b:?}, which do not fit together"
            )))
        }
    }
}

fn constants(call: &Call) -> Result<Vec<Rc<Constant>>, Fault> {
    (0..call.inputs.len()).map(|input| call.constant(input)).collect()
}

/// Of the inputs one after the other; most have two.
fn pair(
    call: &Call,
    network: &mut Network,
    of_floats: &dyn Fn(f32, f32) -> f32,
    of_sizes: OfSizes,
) -> Folded {
    let inputs = constants(call)?;
    let (first, others) = inputs.split_first().ok_or_else(|| Fault::invalid("it has no inputs"))?;
    let mut result = (**first).clone();
    for other in others {
        let data_type = result.data_type;
        let (a, b) = both(&result, other, network)?;
        result = match (&a.data, &b.data) {
            (Data::Float(_), _) | (_, Data::Float(_)) => {
                let (a_floats, b_floats) = (a.to_floats()?, b.to_floats()?);
                let numbers = a_floats.iter().zip(b_floats.iter()).map(|(&a, &b)| of_floats(a, b));
                Constant::floats(a.dims, numbers.collect())
            }
            (a_data, _) => {
                let truths = matches!(a_data, Data::Bool(_));
                let sizes = a.to_sizes()?.into_iter().zip(b.to_sizes()?);
                let of = |(a, b)| integers(a, b, of_sizes, network.batch);
                let sizes: Vec<Size> = sizes.map(of).collect::<Result<_, _>>()?;
                if truths {
                    Constant::bools(a.dims, sizes.iter().map(|s| s.known != 0).collect())
                } else {
                    Constant::sizes(a.dims, sizes)
                }
            }
        }
        .of_type(data_type);
    }
    Ok(result)
}

/// A function of two sizes; where it depends on a batch that the file fixes, of that number.
fn integers(a: Size, b: Size, f: OfSizes, batch: Option<u32>) -> Result<Size, Fault> {
    if let Some(result) = f(a, b, batch) {
        return Ok(result);
    }
    let number = |size: Size| match (size.batch, batch) {
        (true, Some(batch)) => size.known.checked_mul(batch.into()).map(Size::known),
        (true, None) => None,
        (false, _) => Some(size),
    };
    match (number(a), number(b)) {
        (Some(x), Some(y)) if a.batch || b.batch => f(x, y, batch),
        (Some(_), Some(_)) => {
            return Err(Fault::invalid("its result is not an integer of 64 bits"));
        }
        _ => None,
    }
    .ok_or_else(unknown)
}

fn single(
    call: &Call,
    of_floats: &dyn Fn(f32) -> f32,
    of_sizes: &dyn Fn(Size) -> Option<Size>,
) -> Folded {
    let input = call.constant(0)?;
    let dims = input.dims.clone();
    let of = |size: Size| {
        of_sizes(size).ok_or_else(|| {
            if size.batch {
                unknown()
            } else if of_sizes(Size::ONE).is_none() {
                Fault::invalid("it takes real numbers, but has integers")
            } else {
                Fault::invalid("its result is not an integer of 64 bits")
            }
        })
    };
    let result = match &input.data {
        Data::Float(data) => Constant::floats(dims, data.iter().map(|&x| of_floats(x)).collect()),
        Data::Bool(_) => {
            let truths: Vec<Size> =
                input.to_sizes()?.into_iter().map(of).collect::<Result<_, _>>()?;
            Constant::bools(dims, truths.iter().map(|size| size.known != 0).collect())
        }
        Data::Int(_) | Data::Sizes(_) => {
            Constant::sizes(dims, input.to_sizes()?.into_iter().map(of).collect::<Result<_, _>>()?)
        }
    };
    Ok(result.of_type(input.data_type))
}

fn compare(call: &Call, network: &mut Network, holds: &dyn Fn(Ordering) -> bool) -> Folded {
    let (a, b) = both(&*call.constant(0)?, &*call.constant(1)?, network)?;
    let truths: Vec<bool> = match (&a.data, &b.data) {
        (Data::Float(a), Data::Float(b)) => {
            let order = |(a, b): (&f32, &f32)| a.partial_cmp(b).is_some_and(holds);
            a.iter().zip(b.iter()).map(order).collect()
        }
        _ => {
            let sizes = a.to_sizes()?.into_iter().zip(b.to_sizes()?);
            let of = |(a, b)| order(a, b, network.batch).map(holds).ok_or_else(unknown);
            sizes.map(of).collect::<Result<_, _>>()?
        }
    };
    Ok(Constant::bools(a.dims, truths))
}

fn cast(call: &Call) -> Folded {
    let input = call.constant(0)?;
    let to = call.cast_to()?;
    let dims = input.dims.clone();
    let result = match (&input.data, to) {
        (Data::Sizes(_), types::BOOL) => {
            Constant::bools(dims, input.to_sizes()?.iter().map(|size| size.known != 0).collect())
        }
        // Shapes that are computed with real numbers are mostly whole again in the end.
        (Data::Sizes(_), _) => return Ok((*input).clone()),
        (_, types::BOOL) => {
            Constant::bools(dims, input.to_floats()?.iter().map(|&x| x != 0.0).collect())
        }
        (_, to) if types::is_float(to) => {
            let data = Data::Float(input.to_floats()?);
            return Ok(Constant { data, ..(*input).clone() }.of_type(to));
        }
        (Data::Float(data), _) => Constant::ints(dims, data.iter().map(|&x| x as i64).collect()),
        _ => Constant::ints(dims, input.to_ints()?),
    };
    Ok(result.of_type(to))
}

fn choose(call: &Call, network: &mut Network) -> Folded {
    let [condition, a, b] = [call.constant(0)?, call.constant(1)?, call.constant(2)?];
    let (a, b) = both(&a, &b, network)?;
    let (condition, a) = both(&condition, &a, network)?;
    let (_, b) = both(&condition, &b, network)?;
    let Data::Bool(condition) = condition.data else {
        return Err(Fault::invalid("its condition is not a truth"));
    };
    if let (Data::Float(x), Data::Float(y)) = (&a.data, &b.data) {
        let chosen = condition.iter().zip(x.iter().zip(y.iter()));
        let numbers = chosen.map(|(&first, (&x, &y))| if first { x } else { y }).collect();
        return Ok(Constant::floats(a.dims, numbers));
    }
    let sizes = condition.iter().zip(a.to_sizes()?.into_iter().zip(b.to_sizes()?));
    let sizes = sizes.map(|(&first, (x, y))| if first { x } else { y }).collect();
    Ok(Constant::sizes(a.dims, sizes).of_type(a.data_type))
}

fn reduce(
    call: &Call,
    network: &mut Network,
    of_floats: &dyn Fn(f32, f32) -> f32,
    of_sizes: OfSizes,
) -> Folded {
    let input = call.constant(0)?;
    if call.inputs.iter().any(|input| matches!(input, Some(Tensor::Unknown))) {
        return Err(unknown());
    }
    let rank = input.dims.len();
    let listed = call.setting(1, "axes")?.unwrap_or_default();
    let over = match &listed[..] {
        [] if call.int("noop_with_empty_axes", 0)? != 0 => return Ok((*input).clone()),
        [] => (0..rank).collect(),
        listed => axes(listed, rank)?,
    };
    let keep = call.int("keepdims", 1)? != 0;
    let steps = strides(&input.dims);
    let kept: Vec<usize> = (0..rank).filter(|axis| !over.contains(axis)).collect();
    let pick = |axes: &[usize], start: usize| {
        let dims: Vec<usize> = axes.iter().map(|&axis| input.dims[axis]).collect();
        let steps: Vec<usize> = axes.iter().map(|&axis| steps[axis]).collect();
        places(&dims, &steps, start)
    };
    network.spend(input.elements())?;
    let starts = pick(&kept, 0);
    let dims: Vec<usize> = (0..rank)
        .filter(|axis| keep || kept.contains(axis))
        .map(|axis| if kept.contains(&axis) { input.dims[axis] } else { 1 })
        .collect();
    let empty = || Fault::invalid("it reduces no numbers");
    if let Data::Float(data) = &input.data {
        let of = |&start: &usize| {
            let numbers = pick(&over, start).into_iter().map(|place| data[place]);
            numbers.reduce(of_floats).ok_or_else(empty)
        };
        return Ok(Constant::floats(dims, starts.iter().map(of).collect::<Result<_, _>>()?));
    }
    let sizes = input.to_sizes()?;
    let of = |&start: &usize| {
        let mut numbers = pick(&over, start).into_iter().map(|place| sizes[place]);
        let first = numbers.next().ok_or_else(empty)?;
        numbers.try_fold(first, |a, b| integers(a, b, of_sizes, network.batch))
    };
    let sizes = starts.iter().map(of).collect::<Result<_, _>>()?;
    Ok(Constant::sizes(dims, sizes).of_type(input.data_type))
}

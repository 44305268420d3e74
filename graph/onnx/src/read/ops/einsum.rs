//! `Einsum` as products of matrices: of the first two tensors, then of that and the third one, and
//! so on.

use edgesmith_graph::ReduceFunction;

use super::super::call::{Call, Outputs, Tensor};
use super::super::constant::Size;
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::View;
use super::matrix::product;
use super::reduction::reduced;
use super::shape::reshaped;

fn unsupported(equation: &str) -> Fault {
    Fault::unsupported(
        format!("its equation {equation} is not a product of matrices"),
        "write it with MatMul and Transpose",
    )
}

pub(super) fn einsum(call: &Call, network: &mut Network) -> Outputs {
    let equation = call.text("equation", "")?;
    let plain: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    // Without an arrow, the letters that are there once, in the order of the alphabet.
    let (inputs, output) = match plain.split_once("->") {
        Some((inputs, output)) => (inputs, output.chars().collect()),
        None => (&*plain, once(&plain)),
    };
    let terms: Vec<Vec<char>> = inputs.split(',').map(|term| term.chars().collect()).collect();
    let twice = |term: &[char]| (1..term.len()).any(|i| term[..i].contains(&term[i]));
    let mut letters = terms.iter().flatten().chain(&output);
    let simple = letters.all(char::is_ascii_alphabetic);
    let all = call.all()?;
    let fits = terms.len() == all.len()
        && terms.iter().zip(&all).all(|(term, tensor)| term.len() == tensor.sizes().len());
    if !simple || !fits || terms.iter().any(|term| twice(term)) || twice(&output) {
        return Err(unsupported(equation));
    }
    let known = |letter: &char| terms.iter().any(|term| term.contains(letter));
    if !output.iter().all(known) {
        return Err(Fault::invalid(format!("its equation is {equation:?}")));
    }
    if let ([a], [term]) = (&all[..], &terms[..]) {
        let view = summed(network, a, term, |letter| output.contains(letter))?;
        let kept: Vec<char> = term.iter().copied().filter(|l| output.contains(l)).collect();
        return Ok(vec![ordered(&view, &kept, &output).into()]);
    }
    let mut rest = all.iter().zip(&terms);
    let (first, term) = rest.next().expect("a node has inputs");
    let (mut result, mut letters) = (first.clone(), term.clone());
    while let Some((next, term)) = rest.next() {
        // What a later tensor or the result has stays.
        let later = |letter: &char| {
            output.contains(letter) || rest.clone().any(|(_, term)| term.contains(letter))
        };
        let mut kept: Vec<char> = letters.iter().copied().filter(later).collect();
        kept.extend(term.iter().filter(|letter| !letters.contains(letter) && later(letter)));
        if rest.len() == 0 {
            kept.clone_from(&output);
        }
        result = of_two(network, [&result, next], [&letters, term], &kept)?.into();
        letters = kept;
    }
    Ok(vec![result])
}

/// The letters of terms that are there once, in the order of the alphabet.
fn once(terms: &str) -> Vec<char> {
    let count = |letter: char| terms.chars().filter(|&other| other == letter).count();
    let mut letters: Vec<char> =
        terms.chars().filter(|&letter| letter != ',' && count(letter) == 1).collect();
    letters.sort_unstable();
    letters
}

/// With those axes summed up and removed whose letter is not kept.
fn summed(
    network: &mut Network,
    tensor: &Tensor,
    term: &[char],
    keep: impl Fn(&char) -> bool,
) -> Result<View, Fault> {
    let mut view = tensor.to_view(network)?;
    let over: Vec<usize> = (0..term.len()).filter(|&axis| !keep(&term[axis])).collect();
    if !over.is_empty() {
        view = reduced(network, &view, ReduceFunction::Sum, &over)?;
    }
    for &axis in over.iter().rev() {
        view = view.squeezed(axis)?;
    }
    Ok(view)
}

/// With its axes in the order of these letters.
fn ordered(view: &View, letters: &[char], order: &[char]) -> View {
    let place = |letter: &char| letters.iter().position(|own| own == letter);
    view.transposed(&order.iter().filter_map(place).collect::<Vec<usize>>())
}

fn of_two(
    network: &mut Network,
    tensors: [&Tensor; 2],
    terms: [&[char]; 2],
    output: &[char],
) -> Result<View, Fault> {
    let [first, second] = terms;
    let in_both = |letter: &char| first.contains(letter) && second.contains(letter);
    // Letters of one tensor alone are summed up at once.
    let keep = |letter: &char| output.contains(letter) || in_both(letter);
    let kept = |term: &[char]| term.iter().copied().filter(|l| keep(l)).collect::<Vec<char>>();
    let (first, second) = (kept(first), kept(second));
    let a = summed(network, tensors[0], terms[0], keep)?;
    let b = summed(network, tensors[1], terms[1], keep)?;
    let of = |letters: &[char], which: &dyn Fn(&char) -> bool| {
        letters.iter().copied().filter(|letter| which(letter)).collect::<Vec<char>>()
    };
    let lead = of(output, &in_both);
    let inner = of(&first, &|letter| in_both(letter) && !output.contains(letter));
    let rows = of(&first, &|letter| !in_both(letter));
    let columns = of(&second, &|letter| !in_both(letter));
    let a = ordered(&a, &first, &[&lead[..], &rows, &inner].concat());
    let b = ordered(&b, &second, &[&lead[..], &inner, &columns].concat());
    let (a_sizes, b_sizes) = (a.sizes(), b.sizes());
    let (leads, row_count) = (lead.len(), rows.len());
    let a = matrices(network, &a, leads, leads + row_count)?;
    let b = matrices(network, &b, leads, leads + inner.len())?;
    let c = product(network, &a.into(), &b.into())?;
    let mut split = b_sizes[..leads].to_vec();
    // Either of both may have a size of 1 there.
    for (size, other) in split.iter_mut().zip(&a_sizes) {
        if *size == Size::ONE {
            *size = *other;
        }
    }
    split.extend(&a_sizes[leads..leads + row_count]);
    split.extend(&b_sizes[leads + inner.len()..]);
    let c = reshaped(network, &c, &split)?;
    Ok(ordered(&c, &[&lead[..], &rows, &columns].concat(), output))
}

/// With the axes from `first` to `second`, and those after, as one each.
fn matrices(
    network: &mut Network,
    view: &View,
    first: usize,
    second: usize,
) -> Result<View, Fault> {
    let sizes = view.sizes();
    let whole = |sizes: &[Size]| Size {
        known: sizes.iter().map(|size| size.known).product(),
        batch: sizes.iter().any(|size| size.batch),
    };
    let mut target = sizes[..first].to_vec();
    target.extend([whole(&sizes[first..second]), whole(&sizes[second..])]);
    reshaped(network, view, &target)
}

//! A recurrent policy: a two-layer LSTM draws one choice after the other. Each is drawn from a
//! softmax over its options, after the network has read the earlier draws (Zoph & Le, "Neural
//! Architecture Search with Reinforcement Learning", ICLR 2017: two layers of 35 units, with
//! initial weights uniform in ±0.08). A choice without effect is drawn too, but the network does
//! not read what was drawn.
//!
//! Gradients come from burn's automatic differentiation through all choices.

use burn::tensor::activation::{log_softmax, sigmoid, tanh};
use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_search_space::{Genotype, Space};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::draw;

const UNITS: usize = 35;
const LAYERS: usize = 2;
const SPREAD: f32 = 0.08;

/// Weights of the network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lstm {
    /// Number of options of each choice.
    options: Vec<usize>,
    /// All matrices, row by row, in the order of [`Lstm::shapes`].
    parameters: Vec<f32>,
}

/// The parameters as tensors, for one call.
struct Matrices {
    /// `[1 + options, units]`: the input before the first choice and after one without effect, then
    /// after each option of each choice.
    embedding: Tensor<2>,
    /// By layer: from the input and from the state `[units, 4 * units]`, and `[1, 4 * units]`.
    layers: Vec<[Tensor<2>; 3]>,
    /// `[units, options]` and `[1, options]`, all choices next to each other.
    heads: [Tensor<2>; 2],
}

impl Lstm {
    /// A network whose choices are nearly uniform.
    pub(super) fn new(space: &Space, seed: [u8; 32]) -> Self {
        let options: Vec<usize> = space.choices().iter().map(|c| c.options.len()).collect();
        let mut lstm = Self { options, parameters: Vec::new() };
        let count = lstm.shapes().iter().map(|[rows, columns]| rows * columns).sum();
        let mut rng = ChaCha8Rng::from_seed(seed);
        lstm.parameters = (0..count).map(|_| rng.random_range(-SPREAD..SPREAD)).collect();
        lstm
    }

    /// All parameters.
    pub(super) fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// All parameters, mutable.
    pub(super) fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// Draws one choice after the other.
    pub(super) fn sample(&self, space: &Space, rng: &mut dyn Rng) -> Genotype {
        let genotype = |picked: &[u16]| {
            space.genotype(picked.to_vec()).expect("a policy's options are its space's")
        };
        let mut picked = vec![0; self.options.len()];
        let matrices = self.tensors(&Device::flex());
        self.walk(&matrices, |choice, log_p| {
            let log_p: Vec<f32> = log_p.clone().into_data().iter::<f32>().collect();
            picked[choice] = draw(&log_p, rng.random());
            // Choices that are not drawn yet do not count.
            let active = space.active_in_order(&genotype(&picked))[choice];
            active.then_some(picked[choice])
        });
        genotype(&picked)
    }

    /// As [`Policy::log_probability`](super::Policy::log_probability); `active` says which choices
    /// have an effect.
    pub(super) fn log_probability(&self, genotype: &Genotype, active: &[bool]) -> f64 {
        let along =
            |choice: usize, _: &Tensor<2>| active[choice].then_some(genotype.indices()[choice]);
        let (taken, _) = self.walk(&self.tensors(&Device::flex()), along);
        f64::from(taken.into_scalar::<f32>())
    }

    /// As [`Policy::gradient`](super::Policy::gradient).
    pub(super) fn gradient(
        &self,
        genotype: &Genotype,
        active: &[bool],
        advantage: f32,
        entropy: f32,
    ) -> Vec<f32> {
        let matrices = self.tensors(&Device::flex().autodiff());
        let along =
            |choice: usize, _: &Tensor<2>| active[choice].then_some(genotype.indices()[choice]);
        let (taken, negative_entropy) = self.walk(&matrices, along);
        let gradients = (taken * -advantage + negative_entropy * entropy).backward();
        let mut flat = Vec::with_capacity(self.parameters.len());
        for matrix in matrices.all() {
            match matrix.grad(&gradients) {
                Some(gradient) => flat.extend(gradient.into_data().iter::<f32>()),
                // A space in which every choice has one option does not use all of them.
                None => flat.resize(flat.len() + matrix.dims().iter().product::<usize>(), 0.0),
            }
        }
        flat
    }

    /// Goes through all choices and takes the option that `pick` returns, given the choice and the
    /// log-probabilities of its options `[1, options]`; `None` for a choice without effect. Returns
    /// the log-probability of all taken options, and the sum of the negative entropies in nats of
    /// their choices.
    fn walk(
        &self,
        matrices: &Matrices,
        mut pick: impl FnMut(usize, &Tensor<2>) -> Option<u16>,
    ) -> (Tensor<1>, Tensor<1>) {
        let device = matrices.embedding.device();
        let zeros = || Tensor::<2>::zeros([1, UNITS], &device);
        let mut states: Vec<[Tensor<2>; 2]> = (0..LAYERS).map(|_| [zeros(), zeros()]).collect();
        let mut taken = Tensor::<1>::zeros([1], &device);
        let mut negative_entropy = Tensor::<1>::zeros([1], &device);
        let (mut first, mut read) = (0, 0);
        for (choice, &options) in self.options.iter().enumerate() {
            let mut signal = matrices.embedding.clone().slice([read..read + 1, 0..UNITS]);
            for ([input, state, bias], [hidden, cell]) in matrices.layers.iter().zip(&mut states) {
                let gates = signal.matmul(input.clone())
                    + hidden.clone().matmul(state.clone())
                    + bias.clone();
                let gate = |i: usize| gates.clone().slice([0..1, i * UNITS..(i + 1) * UNITS]);
                let kept = cell.clone() * sigmoid(gate(1));
                *cell = kept + sigmoid(gate(0)) * tanh(gate(2));
                *hidden = sigmoid(gate(3)) * tanh(cell.clone());
                signal = hidden.clone();
            }
            let [weight, bias] = &matrices.heads;
            let own = first..first + options;
            let logits = signal.matmul(weight.clone().slice([0..UNITS, own.clone()]))
                + bias.clone().slice([0..1, own]);
            let log_p = log_softmax(logits, 1); // [1, options]
            read = 0;
            if let Some(option) = pick(choice, &log_p).map(usize::from) {
                taken = taken + log_p.clone().slice([0..1, option..option + 1]).reshape([1]);
                negative_entropy = negative_entropy + (log_p.clone().exp() * log_p).sum();
                read = 1 + first + option;
            }
            first += options;
        }
        (taken, negative_entropy)
    }

    fn shapes(&self) -> Vec<[usize; 2]> {
        let options = self.options.iter().sum();
        let mut shapes = vec![[1 + options, UNITS]];
        for _ in 0..LAYERS {
            shapes.extend([[UNITS, 4 * UNITS], [UNITS, 4 * UNITS], [1, 4 * UNITS]]);
        }
        shapes.extend([[UNITS, options], [1, options]]);
        shapes
    }

    fn tensors(&self, device: &Device) -> Matrices {
        let mut rest = self.parameters.as_slice();
        let mut tensors = self.shapes().into_iter().map(|shape| {
            let (own, others) = rest.split_at(shape[0] * shape[1]);
            rest = others;
            let tensor = Tensor::<2>::from_data(TensorData::new(own.to_vec(), shape), device);
            if device.is_autodiff() { tensor.require_grad() } else { tensor }
        });
        let mut next = || tensors.next().expect("a tensor for each shape");
        Matrices {
            embedding: next(),
            layers: (0..LAYERS).map(|_| [next(), next(), next()]).collect(),
            heads: [next(), next()],
        }
    }
}

impl Matrices {
    /// In the order of [`Lstm::shapes`].
    fn all(&self) -> impl Iterator<Item = &Tensor<2>> {
        let layers = self.layers.iter().flatten();
        std::iter::once(&self.embedding).chain(layers).chain(&self.heads)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::conformance::{medium_space, rng};
    use super::*;

    /// A network that is not nearly uniform.
    fn uneven() -> (Space, Lstm) {
        let space = medium_space();
        let mut lstm = Lstm::new(&space, [5; 32]);
        lstm.parameters.iter_mut().for_each(|p| *p *= 6.0);
        (space, lstm)
    }

    /// The same computation in plain loops: log-probability and sum of entropies.
    fn plain(space: &Space, lstm: &Lstm, genotype: &Genotype) -> (f64, f64) {
        let mut rest = lstm.parameters.as_slice();
        let matrices: Vec<(usize, Vec<f64>)> = lstm
            .shapes()
            .into_iter()
            .map(|[rows, columns]| {
                let (own, others) = rest.split_at(rows * columns);
                rest = others;
                (columns, own.iter().map(|v| f64::from(*v)).collect())
            })
            .collect();
        let row = |matrix: usize, row: usize| {
            let (columns, values) = &matrices[matrix];
            &values[row * columns..(row + 1) * columns]
        };
        let add = |out: &mut [f64], vector: &[f64], matrix: usize| {
            for (i, v) in vector.iter().enumerate() {
                out.iter_mut().zip(row(matrix, i)).for_each(|(out, w)| *out += v * w);
            }
        };
        let squash = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (mut hidden, mut cell) = ([[0.0; UNITS]; LAYERS], [[0.0; UNITS]; LAYERS]);
        let (mut log_p, mut entropy, mut first, mut read) = (0.0, 0.0, 0, 0);
        let picks =
            lstm.options.iter().zip(genotype.indices()).zip(space.active_in_order(genotype));
        for ((&options, &index), active) in picks {
            let mut signal = row(0, read).to_vec();
            for layer in 0..LAYERS {
                let mut gates = row(3 + 3 * layer, 0).to_vec();
                add(&mut gates, &signal, 1 + 3 * layer);
                add(&mut gates, &hidden[layer], 2 + 3 * layer);
                for i in 0..UNITS {
                    let gate = |g: usize| gates[g * UNITS + i];
                    cell[layer][i] =
                        cell[layer][i] * squash(gate(1)) + squash(gate(0)) * gate(2).tanh();
                    hidden[layer][i] = squash(gate(3)) * cell[layer][i].tanh();
                }
                signal = hidden[layer].to_vec();
            }
            let mut logits = row(2 + 3 * LAYERS, 0).to_vec();
            add(&mut logits, &signal, 1 + 3 * LAYERS);
            let own = &logits[first..first + options];
            first += options;
            if !active {
                read = 0;
                continue;
            }
            let total = own.iter().map(|l| l.exp()).sum::<f64>().ln();
            log_p += own[usize::from(index)] - total;
            entropy -= own.iter().map(|l| (l - total).exp() * (l - total)).sum::<f64>();
            read = 1 + first - options + usize::from(index);
        }
        (log_p, entropy)
    }

    #[test]
    fn the_walk_agrees_with_plain_loops() {
        let (space, lstm) = uneven();
        for seed in 0..5 {
            let genotype = lstm.sample(&space, &mut rng(seed));
            let (expected, _) = plain(&space, &lstm, &genotype);
            let got = lstm.log_probability(&genotype, &space.active_in_order(&genotype));
            assert!((got - expected).abs() < 1e-4, "{got} against {expected}");
        }
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let (space, lstm) = uneven();
        let genotype = lstm.sample(&space, &mut rng(3));
        let (advantage, entropy) = (0.7, 0.3);
        let active = space.active_in_order(&genotype);
        let gradient = lstm.gradient(&genotype, &active, advantage as f32, entropy as f32);
        assert_eq!(gradient.len(), lstm.parameters.len());
        let loss = |lstm: &Lstm| {
            let (log_p, h) = plain(&space, lstm, &genotype);
            -advantage * log_p - entropy * h
        };
        // Some parameters of every matrix; all of them would take minutes.
        for (i, g) in gradient.iter().enumerate().step_by(211) {
            let moved = |by: f32| {
                let mut moved = lstm.clone();
                moved.parameters[i] += by;
                (f64::from(moved.parameters[i]), loss(&moved))
            };
            let ((x1, up), (x0, down)) = (moved(1e-3), moved(-1e-3));
            let expected = (up - down) / (x1 - x0);
            assert!((f64::from(*g) - expected).abs() < 1e-4, "{i}: {g} against {expected}");
        }
    }

    #[test]
    fn later_choices_depend_on_earlier_ones() {
        let (space, lstm) = uneven();
        let genotype = lstm.sample(&space, &mut rng(3));
        let last = genotype.indices().len() - 1;
        let odds_of_last = |first: u16| {
            let mut indices = genotype.indices().to_vec();
            // The last choice is a temperature, which has no effect without a teacher.
            indices[last - 1] = 1;
            indices[1] = first;
            let with = |option: u16| {
                let mut indices = indices.clone();
                indices[last] = option;
                plain(&space, &lstm, &space.genotype(indices).unwrap()).0
            };
            with(1) - with(0)
        };
        assert!((odds_of_last(0) - odds_of_last(1)).abs() > 1e-9);
    }
}

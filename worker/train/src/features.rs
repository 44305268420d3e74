//! What a student copies of its teacher besides the answers: where it looks (attention), how it
//! places the examples of a batch beside each other (relations), and what it computes in the middle
//! (hints, whose loss is in [`super::hints`]). Losses and gradients are computed in f64 on plain
//! numbers.
//!
//! A teacher's features are computed once, with its soft targets, so a training does not run it.
//! An attention map has no channels, relations need one vector of each image, and there is only one
//! hint: the end of the stage in the middle.

use std::ops::Range;

use edgesmith_graph::{Graph, Role, ValueId};
use edgesmith_search_space::{Features, last_layer};

use super::TrainError;

/// Weight of the angles among the relations, beside 1 for the distances (Park et al. 2019 weigh
/// them 2 to 1).
const ANGLES: f64 = 2.0;

/// Differences of vectors shorter than this share of the vectors have no direction.
const SHORTEST: f64 = 1e-9;

/// A teacher's features of each view of each image.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureTargets {
    /// Rows and columns of the attention maps, each size once.
    pub maps: Vec<[usize; 2]>,
    /// How many numbers the layer that makes the classes reads; 0 if no student needs them.
    pub width: usize,
    /// Channels, rows and columns of the hint, if there is one.
    pub hint: Option<[usize; 3]>,
    /// `[views][images]` rows: the maps one after the other, each of length 1; then the numbers
    /// that the layer reads; then those of the hint, divided by their root mean square over all
    /// rows. All are finite.
    pub numbers: Vec<f32>,
}

impl FeatureTargets {
    /// Numbers of a row.
    pub fn row(&self) -> usize {
        self.maps_size() + self.width + self.hint_size()
    }

    fn maps_size(&self) -> usize {
        self.maps.iter().map(|[rows, columns]| rows * columns).sum()
    }

    fn hint_size(&self) -> usize {
        self.hint.map_or(0, |sizes| sizes.iter().product())
    }

    /// Divides the hints by their root mean square, so that the weight of their loss means the same
    /// for all teachers.
    pub(super) fn scale_hints(&mut self) {
        let (row, size) = (self.row(), self.hint_size());
        if size == 0 {
            return;
        }
        let (mut sum, mut count) = (0.0, 0.0);
        for hint in self.numbers.chunks_exact(row).map(|all| &all[row - size..]) {
            sum += hint.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            count += size as f64;
        }
        let scale = if sum > 0.0 { (count / sum).sqrt() } else { 1.0 };
        for hint in self.numbers.chunks_exact_mut(row).map(|all| &mut all[row - size..]) {
            hint.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
        }
    }
}

/// The values of a network that are features, and what they are compared with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Copied {
    pub(super) features: Features,
    /// Each with its part of the teacher's rows.
    pub(super) values: Vec<(ValueId, Range<usize>)>,
}

impl Copied {
    /// What the student `graph` copies of a teacher.
    ///
    /// # Errors
    /// If it has nothing to compare.
    pub(super) fn of(
        graph: &Graph,
        features: Features,
        targets: &FeatureTargets,
    ) -> Result<Self, TrainError> {
        let maps = targets.maps_size();
        let values = match features {
            Features::None => Vec::new(),
            Features::Attention => {
                let mut start = 0;
                let ends = copyable_ends(graph, features, "student")?;
                let mut matched = Vec::new();
                for size in &targets.maps {
                    let part = start..start + size[0] * size[1];
                    start = part.end;
                    let same = ends.iter().find(|end| space_of(graph, **end) == *size);
                    matched.extend(same.map(|end| (*end, part)));
                }
                if matched.is_empty() {
                    let own: Vec<_> = ends.iter().map(|end| space_of(graph, *end)).collect();
                    return Err(TrainError::NoAttention {
                        student: sizes(&own),
                        teacher: sizes(&targets.maps),
                    });
                }
                matched
            }
            Features::Relations => {
                let part = maps..maps + targets.width;
                vec![(classifier_input(graph).ok_or(TrainError::NoRelations)?, part)]
            }
            Features::Hints => {
                let ends = copyable_ends(graph, features, "student")?;
                let [_, rows, columns] = targets.hint.ok_or(TrainError::NoFeatures)?;
                let same = |end: &&ValueId| space_of(graph, **end) == [rows, columns];
                let Some(end) = ends.iter().find(same) else {
                    let own: Vec<_> = ends.iter().map(|end| space_of(graph, *end)).collect();
                    let (student, teacher) = (sizes(&own), sizes(&[[rows, columns]]));
                    return Err(TrainError::NoHint { student, teacher });
                };
                let start = maps + targets.width;
                vec![(*end, start..start + targets.hint_size())]
            }
        };
        Ok(Self { features, values })
    }

    /// The same values of a network that has values of the same names.
    pub(super) fn within(&self, own: &Graph, other: &Graph) -> Vec<ValueId> {
        let found = |(id, _): &(ValueId, _)| other.value_named(&own.value(*id).name);
        self.values.iter().map(|value| found(value).expect("both have the same values")).collect()
    }
}

/// The values of a teacher that are features, in the order of a row.
#[derive(Debug, Default)]
pub(super) struct Taught {
    /// The ends of stages for attention.
    pub(super) ends: Vec<ValueId>,
    /// What the layer of the classes reads for relations.
    pub(super) read: Option<ValueId>,
    /// The end of the stage in the middle.
    pub(super) hint: Option<ValueId>,
}

/// The features of a teacher.
///
/// # Errors
/// If it has none of a kind that is needed.
pub(super) fn taught(graph: &Graph, needed: &[Features]) -> Result<Taught, TrainError> {
    let ends = if needed.contains(&Features::Attention) {
        copyable_ends(graph, Features::Attention, "teacher")?
    } else {
        Vec::new()
    };
    let read = if needed.contains(&Features::Relations) {
        Some(classifier_input(graph).ok_or(TrainError::NoRelations)?)
    } else {
        None
    };
    let hint = if needed.contains(&Features::Hints) {
        let ends = copyable_ends(graph, Features::Hints, "teacher")?;
        Some(ends[ends.len() / 2])
    } else {
        None
    };
    Ok(Taught { ends, read, hint })
}

/// The [`stage_ends`] of a network, of which there must be one.
fn copyable_ends(
    graph: &Graph,
    features: Features,
    network: &'static str,
) -> Result<Vec<ValueId>, TrainError> {
    let ends = stage_ends(graph);
    if ends.is_empty() { Err(TrainError::NothingToCopy { features, network }) } else { Ok(ends) }
}

/// The values at the ends of stages that have rows and columns: of each size the last. Values that
/// no trained weight has a part in do not count: they are the picture, which is the same for
/// teacher and student.
pub(super) fn stage_ends(graph: &Graph) -> Vec<ValueId> {
    let learned = learned_values(graph);
    let mut ends: Vec<(u32, ValueId)> = Vec::new();
    for (_, node) in graph.nodes() {
        let Some(stage) = node.place.stage.filter(|_| learned[node.output.index()]) else {
            continue;
        };
        ends.retain(|(other, _)| *other != stage);
        ends.push((stage, node.output));
    }
    let mut sized: Vec<ValueId> = Vec::new();
    for (_, end) in ends {
        if graph.shape(end).space().len() == 2 && graph.shape(end).positions() > 1 {
            sized.retain(|other| space_of(graph, *other) != space_of(graph, end));
            sized.push(end);
        }
    }
    sized
}

/// By value: whether it depends on a number that is trained.
fn learned_values(graph: &Graph) -> Vec<bool> {
    let mut learned = vec![false; graph.values().len()];
    for (_, node) in graph.nodes() {
        let own = node.parameters.iter().any(|id| graph.parameter(*id).role != Role::Constant);
        learned[node.output.index()] = own || node.inputs.iter().any(|id| learned[id.index()]);
    }
    learned
}

/// What the layer that makes the classes reads.
fn classifier_input(graph: &Graph) -> Option<ValueId> {
    last_layer(graph).map(|layer| graph.node(layer).inputs[0])
}

/// Rows and columns of a value that has both.
pub(super) fn space_of(graph: &Graph, value: ValueId) -> [usize; 2] {
    let space = graph.shape(value).space();
    [space[0] as usize, space[1] as usize]
}

fn sizes(all: &[[usize; 2]]) -> String {
    if all.is_empty() {
        return "none".to_owned();
    }
    let texts: Vec<_> = all.iter().map(|[rows, columns]| format!("{rows}x{columns}")).collect();
    texts.join(", ")
}

/// A map of sums of squared activations, at length 1; zeros if nothing is active.
pub(super) fn normalized(map: &[f32]) -> Vec<f64> {
    let length = map.iter().map(|q| f64::from(*q).powi(2)).sum::<f64>().sqrt();
    let by = if length > 0.0 { length } else { 1.0 };
    map.iter().map(|q| f64::from(*q) / by).collect()
}

/// Attention transfer (Zagoruyko & Komodakis 2017): the mean over the batch of `|q / |q| - t|²`,
/// and its gradient with respect to `q`. `student` has the maps `q` of sums of squared activations,
/// `[batch][positions]`, `teacher` the maps `t` at length 1.
pub(super) fn attention(student: &[f32], teacher: &[f32], positions: usize) -> (f64, Vec<f64>) {
    let batch = (student.len() / positions) as f64;
    let (mut loss, mut gradient) = (0.0, Vec::with_capacity(student.len()));
    for (map, wanted) in student.chunks_exact(positions).zip(teacher.chunks_exact(positions)) {
        let unit = normalized(map);
        let off: Vec<f64> = unit.iter().zip(wanted).map(|(u, t)| u - f64::from(*t)).collect();
        loss += off.iter().map(|e| e * e).sum::<f64>() / batch;
        let along: f64 = unit.iter().zip(&off).map(|(u, e)| u * e).sum();
        let length = map.iter().map(|q| f64::from(*q).powi(2)).sum::<f64>().sqrt();
        let factor = if length > 0.0 { 2.0 / (batch * length) } else { 0.0 };
        gradient.extend(unit.iter().zip(&off).map(|(u, e)| factor * (e - u * along)));
    }
    (loss, gradient)
}

/// Relations (Park et al. 2019) of the vectors of a batch: the loss and its gradient with respect
/// to the student's vectors. `student` and `teacher` are `[batch]` vectors; those of the one may be
/// longer than those of the other.
///
/// The loss is the mean of `h(d/μ - d'/μ')` over pairs, where `d` is the distance of two vectors,
/// `μ` the mean distance, and `h` Huber's function, plus [`ANGLES`] times the mean of
/// `h(cos - cos')` over triples, where `cos` is that of the angle at the second vector.
pub(super) fn relations(student: &[f32], teacher: &[f32], batch: usize) -> (f64, Vec<f64>) {
    if batch < 2 {
        return (0.0, vec![0.0; student.len()]);
    }
    let (own, wanted) = (Relations::of(student, batch), Relations::of(teacher, batch));
    let at = |i: usize, j: usize| i * batch + j;
    let mut loss = 0.0;
    // Gradients with respect to distances and to products of vectors.
    let mut of_distances = vec![0.0; batch * batch];
    let mut of_products = vec![0.0; batch * batch];

    let pairs = (batch * (batch - 1)) as f64;
    let mut along = 0.0;
    for i in 0..batch {
        for j in (0..batch).filter(|j| *j != i) {
            let (d, scale) = (own.distances[at(i, j)], own.scale());
            let (value, slope) = huber(d * scale - wanted.distances[at(i, j)] * wanted.scale());
            loss += value / pairs;
            of_distances[at(i, j)] = slope * scale / pairs;
            along += slope / pairs * d * scale * scale;
        }
    }
    // The mean distance grows with each of them.
    let positive = own.distances.iter().filter(|d| **d > 0.0).count() as f64;
    for (slope, d) in of_distances.iter_mut().zip(&own.distances) {
        *slope = if *d > 0.0 { *slope - along / positive } else { 0.0 };
    }

    let triples = (batch * (batch - 1)) as f64 * (batch as f64 - 2.0);
    for j in 0..batch {
        for i in (0..batch).filter(|i| *i != j) {
            for k in (i + 1..batch).filter(|k| *k != j) {
                let cosine = own.cosine(i, j, k);
                let (value, slope) = huber(cosine - wanted.cosine(i, j, k));
                // The angle is the same with the ends exchanged.
                loss += 2.0 * ANGLES * value / triples;
                let slope = 2.0 * ANGLES * slope / triples;
                let (one, other) = (own.distances[at(i, j)], own.distances[at(k, j)]);
                if one == 0.0 || other == 0.0 {
                    continue;
                }
                let of_product = slope / (one * other);
                of_products[at(i, k)] += of_product;
                of_products[at(i, j)] -= of_product;
                of_products[at(k, j)] -= of_product;
                of_products[at(j, j)] += of_product;
                of_distances[at(i, j)] -= slope * cosine / one;
                of_distances[at(k, j)] -= slope * cosine / other;
            }
        }
    }

    for i in 0..batch {
        for j in 0..batch {
            let d = own.distances[at(i, j)];
            if d > 0.0 {
                let slope = of_distances[at(i, j)] / d;
                of_products[at(i, i)] += slope / 2.0;
                of_products[at(j, j)] += slope / 2.0;
                of_products[at(i, j)] -= slope;
            }
        }
    }
    let width = student.len() / batch;
    let mut gradient = vec![0.0; student.len()];
    for i in 0..batch {
        for j in 0..batch {
            let factor = of_products[at(i, j)] + of_products[at(j, i)];
            let row = &own.vectors[j * width..][..width];
            for (slope, x) in gradient[i * width..][..width].iter_mut().zip(row) {
                *slope += factor * x;
            }
        }
    }
    (loss, gradient)
}

/// Huber's function and its slope: a parabola up to 1, and a line from there on.
fn huber(x: f64) -> (f64, f64) {
    if x.abs() <= 1.0 { (x * x / 2.0, x) } else { (x.abs() - 0.5, x.signum()) }
}

/// The vectors of a batch, their products and their distances.
struct Relations {
    batch: usize,
    /// `[batch][width]`. Their mean is 0, which changes no relation and keeps products precise.
    vectors: Vec<f64>,
    products: Vec<f64>,
    /// 0 for vectors that are alike.
    distances: Vec<f64>,
}

impl Relations {
    fn of(vectors: &[f32], batch: usize) -> Self {
        let width = vectors.len() / batch;
        let mut centred: Vec<f64> = vectors.iter().map(|x| f64::from(*x)).collect();
        for column in 0..width {
            let rows = || (0..batch).map(|row| row * width + column);
            let mean = rows().map(|place| centred[place]).sum::<f64>() / batch as f64;
            rows().for_each(|place| centred[place] -= mean);
        }
        let row = |i: usize| &centred[i * width..][..width];
        let mut products = vec![0.0; batch * batch];
        for i in 0..batch {
            for j in i..batch {
                let product: f64 = row(i).iter().zip(row(j)).map(|(x, y)| x * y).sum();
                (products[i * batch + j], products[j * batch + i]) = (product, product);
            }
        }
        let mut distances = vec![0.0; batch * batch];
        for i in 0..batch {
            for j in 0..batch {
                let both = products[i * batch + i] + products[j * batch + j];
                let squared = both - 2.0 * products[i * batch + j];
                if squared > SHORTEST * SHORTEST * both {
                    distances[i * batch + j] = squared.sqrt();
                }
            }
            distances[i * batch + i] = 0.0;
        }
        Self { batch, vectors: centred, products, distances }
    }

    /// One over the mean distance of those that are not alike; 0 if all are.
    fn scale(&self) -> f64 {
        let positive = self.distances.iter().filter(|d| **d > 0.0);
        let (count, sum) = positive.fold((0.0, 0.0), |(count, sum), d| (count + 1.0, sum + d));
        if sum > 0.0 { count / sum } else { 0.0 }
    }

    /// Of the angle at `j` between `i` and `k`; 0 if one of them is like `j`.
    fn cosine(&self, i: usize, j: usize, k: usize) -> f64 {
        let product = |a: usize, b: usize| self.products[a * self.batch + b];
        let lengths = self.distances[i * self.batch + j] * self.distances[k * self.batch + j];
        if lengths == 0.0 {
            return 0.0;
        }
        (product(i, k) - product(i, j) - product(k, j) + product(j, j)) / lengths
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The gradient by finite differences.
    fn slopes(numbers: &[f32], loss: impl Fn(&[f32]) -> f64) -> Vec<f64> {
        let slope = |place: usize| {
            let at = |offset: f32| {
                let mut moved = numbers.to_vec();
                moved[place] += offset;
                (loss(&moved), f64::from(moved[place]))
            };
            let ((low, from), (high, to)) = (at(-1e-3), at(1e-3));
            (high - low) / (to - from)
        };
        (0..numbers.len()).map(slope).collect()
    }

    fn assert_near(a: &[f64], b: &[f64]) {
        let size = b.iter().fold(1e-2, |size: f64, x| size.max(x.abs()));
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 2e-3 * size, "{a} {b}");
        }
    }

    /// Distances and angles from the vectors themselves, pair by pair and triple by triple.
    fn naive(student: &[f32], teacher: &[f32], batch: usize) -> f64 {
        type Vector = Vec<f64>;
        let rows = |all: &[f32]| -> Vec<Vector> {
            let width = all.len() / batch;
            all.chunks(width).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
        };
        let minus =
            |a: &Vector, b: &Vector| -> Vector { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        let dot = |a: &Vector, b: &Vector| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let length = |a: &Vector| dot(a, a).sqrt();
        let distances = |rows: &[Vector]| -> Vec<f64> {
            let mut all = Vec::new();
            for i in 0..batch {
                for j in 0..batch {
                    if i != j {
                        all.push(length(&minus(&rows[i], &rows[j])));
                    }
                }
            }
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            all.iter().map(|d| d / mean).collect()
        };
        let cosines = |rows: &[Vector]| -> Vec<f64> {
            let mut all = Vec::new();
            for i in 0..batch {
                for j in 0..batch {
                    for k in 0..batch {
                        if i != j && j != k && i != k {
                            let (a, b) = (minus(&rows[i], &rows[j]), minus(&rows[k], &rows[j]));
                            all.push(dot(&a, &b) / (length(&a) * length(&b)));
                        }
                    }
                }
            }
            all
        };
        let huber = |x: f64| if x.abs() < 1.0 { 0.5 * x * x } else { x.abs() - 0.5 };
        let mean = |a: Vec<f64>, b: Vec<f64>| {
            let all: Vec<f64> = a.iter().zip(&b).map(|(a, b)| huber(a - b)).collect();
            all.iter().sum::<f64>() / all.len() as f64
        };
        let (s, t) = (rows(student), rows(teacher));
        mean(distances(&s), distances(&t)) + 2.0 * mean(cosines(&s), cosines(&t))
    }

    proptest! {
        #[test]
        fn relations_equal_those_of_plain_loops(
            student in prop::collection::vec(-2.0f32..2.0, 5 * 3),
            teacher in prop::collection::vec(-9.0f32..9.0, 5 * 4),
        ) {
            let (loss, gradient) = relations(&student, &teacher, 5);
            let expected = naive(&student, &teacher, 5);
            prop_assert!((loss - expected).abs() < 1e-9, "{loss} {expected}");
            assert_near(&gradient, &slopes(&student, |moved| naive(moved, &teacher, 5)));
        }

        #[test]
        fn attention_equals_its_formula(
            student in prop::collection::vec(0.1f32..4.0, 2 * 6),
            teacher in prop::collection::vec(0.1f32..4.0, 2 * 6),
        ) {
            let unit = |map: &[f32]| -> Vec<f64> {
                let length = map.iter().map(|q| f64::from(*q).powi(2)).sum::<f64>().sqrt();
                map.iter().map(|q| f64::from(*q) / length).collect()
            };
            let naive = |student: &[f32]| -> f64 {
                let off = |image: usize| -> f64 {
                    let maps = [student, &teacher].map(|all| unit(&all[6 * image..][..6]));
                    maps[0].iter().zip(&maps[1]).map(|(a, b)| (a - b).powi(2)).sum()
                };
                (off(0) + off(1)) / 2.0
            };
            let maps = teacher.chunks(6).flat_map(unit).map(|t| t as f32).collect::<Vec<_>>();
            let (loss, gradient) = attention(&student, &maps, 6);
            prop_assert!((loss - naive(&student)).abs() < 1e-5, "{loss}");
            assert_near(&gradient, &slopes(&student, naive));
        }
    }

    #[test]
    fn relations_do_not_depend_on_place_size_and_width() {
        let teacher = [0.0, 0.0, 1.0, 0.5, -2.0, 1.0, 0.3, 3.0];
        // Moved, turned, twice as large, and with one number more.
        let student: Vec<f32> =
            teacher.chunks(2).flat_map(|p: &[f32]| [7.0 - 2.0 * p[1], 3.0, 2.0 * p[0]]).collect();
        let (loss, gradient) = relations(&student, &teacher, 4);
        assert!(loss < 1e-12, "{loss}");
        assert!(gradient.iter().all(|slope| slope.abs() < 1e-6), "{gradient:?}");
    }

    #[test]
    fn what_is_alike_or_silent_has_no_direction() {
        let teacher = [1.0, 2.0, -1.0, 0.5, 0.0, 3.0];
        for student in [[0.5; 6], [0.5, 0.5, 0.5, 0.5, 1.0, 2.0]] {
            let (loss, gradient) = relations(&student, &teacher, 3);
            assert!(loss.is_finite() && gradient.iter().all(|slope| slope.is_finite()));
        }
        assert_eq!(relations(&[1.0, 2.0], &[3.0], 1), (0.0, vec![0.0, 0.0]));
        assert_eq!(attention(&[0.0; 2], &[1.0, 0.0], 2), (1.0, vec![0.0, 0.0]));
    }
}

//! Which channel indices of an operation's inputs, output and parameters belong together.
//!
//! An operation states its ties; nobody guesses them. Indices that are tied, directly or through
//! other operations, are kept or removed together (Fang et al. 2023, "DepGraph: Towards any
//! structural pruning"). A tie is between indices and not between whole axes, so it can say what a
//! concatenation, a shuffle or a flatten does.
//!
//! An input or the output that no tie of the operation names has *fixed* channels: none may be
//! removed. So what an operation does not state is not pruned.

use smallvec::SmallVec;

/// An axis of channels, as one operation sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The channels of an input, by its place in the list.
    Input(usize),
    /// The channels of the output.
    Output,
    /// An axis of a parameter: the parameter's place in the list, and the axis.
    Parameter(usize, usize),
}

/// Index `i` of `from` belongs together with those indices of `to` that the relation gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tie {
    /// One axis.
    pub from: Port,
    /// The other axis.
    pub to: Port,
    /// Which of its indices.
    pub relation: Relation,
}

/// The indices of `to` that belong together with index `i` of `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// `i` itself.
    Same,
    /// `i + offset`, as in a concatenation.
    Shift(u32),
    /// `i * size` to `(i + 1) * size - 1`, as in a flatten.
    Blocks(u32),
    /// All indices that leave the remainder `i` when divided by the period; for `i` below the
    /// period. So the groups of a grouped convolution stay equally large.
    Stride(u32),
    /// The places of `i` in this list, as in a shuffle or a slice: index `j` of `to` is made of
    /// index `list[j]` of `from`.
    Gather(Vec<u32>),
}

/// The ties of one operation.
pub type Ties = SmallVec<[Tie; 6]>;

impl Tie {
    /// Index `i` of one axis belongs together with index `i` of the other.
    pub fn same(from: Port, to: Port) -> Self {
        Self { from, to, relation: Relation::Same }
    }

    /// Each index of `from` belongs together with those indices of `to`.
    pub fn new(from: Port, to: Port, relation: Relation) -> Self {
        Self { from, to, relation }
    }
}

impl Relation {
    /// Calls `tie(i, j)` for each pair of an index of an axis of length `from` and one of an axis
    /// of length `to`.
    pub fn for_each(&self, from: u32, to: u32, mut tie: impl FnMut(u32, u32)) {
        match self {
            Relation::Same => (0..from.min(to)).for_each(|i| tie(i, i)),
            Relation::Shift(offset) => (0..from).for_each(|i| tie(i, i + offset)),
            Relation::Blocks(size) => (0..to).for_each(|j| tie(j / size, j)),
            Relation::Stride(period) => (0..to).for_each(|j| tie(j % period, j)),
            Relation::Gather(list) => list.iter().zip(0..).for_each(|(&i, j)| tie(i, j)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_pair_the_indices_they_say() {
        let pairs = |relation: Relation, from, to| {
            let mut pairs = Vec::new();
            relation.for_each(from, to, |i, j| pairs.push((i, j)));
            pairs
        };
        assert_eq!(pairs(Relation::Same, 2, 2), [(0, 0), (1, 1)]);
        assert_eq!(pairs(Relation::Shift(3), 2, 5), [(0, 3), (1, 4)]);
        assert_eq!(pairs(Relation::Blocks(2), 2, 4), [(0, 0), (0, 1), (1, 2), (1, 3)]);
        assert_eq!(pairs(Relation::Stride(2), 2, 4), [(0, 0), (1, 1), (0, 2), (1, 3)]);
        assert_eq!(pairs(Relation::Gather(vec![2, 0]), 3, 2), [(2, 0), (0, 1)]);
    }
}

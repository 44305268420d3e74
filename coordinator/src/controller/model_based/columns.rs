//! The codes of a candidate with all points that a model is fitted to, at once.
//!
//! A code is a sum over the candidate's choices: each option that it picks has a column with what
//! that adds for each point. So a candidate takes a few additions for each choice and point, on
//! numbers that lie side by side.

use super::kernel::{Features, Groups};

/// Number of columns that are added at once.
const AT_ONCE: usize = 8;

/// Points prepared for comparison with candidates.
#[derive(Debug)]
pub struct Columns {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Codes fit into 16 bits.
    Short(Table<u16>),
    /// They do not.
    Long(Table<u32>),
    /// Codes are not such sums, because some counts are capped.
    Apart(Vec<Features>),
}

/// A number that holds codes.
pub trait Word: Copy {
    /// The number; its highest bits are lost if they do not fit.
    fn of(code: u32) -> Self;
    /// The code.
    fn code(self) -> u32;
    /// `self + other`, around the largest number if need be.
    fn plus(self, other: Self) -> Self;
    /// `self` less all others, around zero if need be.
    fn less(self, others: [Self; AT_ONCE]) -> Self;
}

macro_rules! word {
    ($number:ty) => {
        impl Word for $number {
            fn of(code: u32) -> Self {
                code as Self
            }

            fn code(self) -> u32 {
                u32::from(self)
            }

            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn less(self, [a, b, c, d, e, f, g, h]: [Self; AT_ONCE]) -> Self {
                let first = a.wrapping_add(b).wrapping_add(c).wrapping_add(d);
                let last = e.wrapping_add(f).wrapping_add(g).wrapping_add(h);
                self.wrapping_sub(first).wrapping_sub(last)
            }
        }
    };
}

word!(u16);
word!(u32);

#[derive(Debug)]
struct Table<W> {
    /// What each point adds whatever the candidate picks.
    base: Vec<W>,
    /// A column for each option of each choice, one after the other, and at last one of zeros.
    columns: Vec<W>,
}

impl Columns {
    /// For these points.
    pub fn new(groups: &Groups, points: &[&Features]) -> Self {
        let kind = if groups.counts_are_capped() {
            Kind::Apart(points.iter().map(|point| (*point).clone()).collect())
        } else if groups.codes() <= usize::from(u16::MAX) {
            Kind::Short(Table::new(groups, points))
        } else {
            Kind::Long(Table::new(groups, points))
        };
        Self { kind }
    }

    /// The codes of a candidate with each point.
    pub fn codes(&self, groups: &Groups, candidate: &Features) -> Vec<u32> {
        match &self.kind {
            Kind::Short(table) => table.codes(groups, candidate),
            Kind::Long(table) => table.codes(groups, candidate),
            Kind::Apart(points) => {
                points.iter().map(|point| groups.code(candidate, point)).collect()
            }
        }
    }
}

impl<W: Word> Table<W> {
    fn new(groups: &Groups, points: &[&Features]) -> Self {
        let base = points.iter().map(|point| W::of(groups.point_part(point))).collect();
        let mut columns = Vec::new();
        for (choice, option) in groups.picks() {
            let part = |point: &&Features| W::of(groups.common_part(point, choice, option));
            columns.extend(points.iter().map(part));
        }
        columns.extend(points.iter().map(|_| W::of(0)));
        Self { base, columns }
    }

    fn codes(&self, groups: &Groups, candidate: &Features) -> Vec<u32> {
        let n = self.base.len();
        let own = W::of(groups.candidate_part(candidate));
        let none = &self.columns[self.columns.len() - n..];
        let column = |place: usize| &self.columns[place * n..][..n];
        let picked: Vec<&[W]> = groups.places(candidate).map(column).collect();
        let mut sums: Vec<W> = self.base.iter().map(|base| base.plus(own)).collect();
        for several in picked.chunks(AT_ONCE) {
            let columns: [&[W]; AT_ONCE] =
                std::array::from_fn(|i| several.get(i).map_or(none, |column| &column[..n]));
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = sum.less(columns.map(|column| column[i]));
            }
        }
        sums.into_iter().map(Word::code).collect()
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::{CellIdentity, CellSpace, Space};
    use rand::SeedableRng as _;

    use super::super::super::conformance::medium_space;
    use super::*;

    #[test]
    fn the_codes_are_those_of_each_pair() {
        let cells = Space::Cell(CellSpace::nas_bench_201(CellIdentity::Network));
        for space in [cells, medium_space()] {
            let groups = Groups::new(&space);
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
            let mut sample = || groups.features(&space.sample(&mut rng));
            let points: Vec<Features> = (0..50).map(|_| sample()).collect();
            let points: Vec<&Features> = points.iter().collect();
            let short = Columns::new(&groups, &points);
            assert!(matches!(short.kind, Kind::Short(_)));
            let long = Columns { kind: Kind::Long(Table::new(&groups, &points)) };
            let apart = points.iter().map(|point| (*point).clone()).collect();
            let apart = Columns { kind: Kind::Apart(apart) };
            for candidate in (0..50).map(|_| sample()).chain(points.iter().map(|p| (*p).clone())) {
                let expected: Vec<u32> =
                    points.iter().map(|point| groups.code(&candidate, point)).collect();
                for columns in [&short, &long, &apart] {
                    assert_eq!(columns.codes(&groups, &candidate), expected);
                }
            }
        }
    }
}

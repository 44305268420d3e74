//! The cell space of NAS-Bench-201 (Dong & Yang, "NAS-Bench-201: Extending the Scope of
//! Reproducible Neural Architecture Search", ICLR 2020): four nodes, six edges, five operations.
//! Its cells are rows of a table; nothing here builds or trains them.

use std::fmt;
use std::str::FromStr;

use crate::architecture::ParseNameError;
use crate::space::{Choice, Genotype};

/// Edges as (source, target) nodes in the order of the benchmark's cell strings.
const EDGES: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
const NODES: usize = 4;

/// The operation on an edge of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CellOperation {
    /// Outputs zeros.
    None,
    /// The identity.
    Skip,
    /// ReLU, 1x1 convolution, batch normalisation.
    Conv1x1,
    /// ReLU, 3x3 convolution, batch normalisation.
    Conv3x3,
    /// 3x3 average pooling.
    AvgPool3x3,
}

impl CellOperation {
    /// Every operation, in the order of a choice's options.
    pub const ALL: [CellOperation; 5] = [
        CellOperation::None,
        CellOperation::Skip,
        CellOperation::Conv1x1,
        CellOperation::Conv3x3,
        CellOperation::AvgPool3x3,
    ];

    /// The benchmark's name.
    pub fn name(self) -> &'static str {
        match self {
            CellOperation::None => "none",
            CellOperation::Skip => "skip_connect",
            CellOperation::Conv1x1 => "nor_conv_1x1",
            CellOperation::Conv3x3 => "nor_conv_3x3",
            CellOperation::AvgPool3x3 => "avg_pool_3x3",
        }
    }
}

/// One cell: the operation of each edge, in the order of [`Cell`]'s text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell([CellOperation; EDGES.len()]);

/// Which cells of a table count as the same candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellIdentity {
    /// Cells that compute the same network count as one, and only one of them is proposed.
    Network,
    /// Every row is a separate candidate: each was trained and measured separately, so the figures
    /// of equal networks differ by chance.
    Row,
}

impl CellIdentity {
    /// Every identity.
    pub const ALL: [CellIdentity; 2] = [CellIdentity::Network, CellIdentity::Row];

    /// The name in study files.
    pub fn name(self) -> &'static str {
        match self {
            CellIdentity::Network => "network",
            CellIdentity::Row => "row",
        }
    }
}

impl FromStr for CellIdentity {
    type Err = ParseNameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let error = || ParseNameError::new("identity", s, Self::ALL.map(Self::name).to_vec());
        Self::ALL.into_iter().find(|identity| identity.name() == s).ok_or_else(error)
    }
}

/// Every cell of the benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct CellSpace {
    choices: Vec<Choice>,
    identity: CellIdentity,
}

impl CellSpace {
    /// The 15,625 cells of NAS-Bench-201.
    pub fn nas_bench_201(identity: CellIdentity) -> Self {
        let options = || CellOperation::ALL.map(|operation| operation.name().to_owned()).to_vec();
        let choice = |(from, to)| Choice { name: format!("edge{from}-{to}"), options: options() };
        Self { choices: EDGES.map(choice).to_vec(), identity }
    }

    /// Which cells count as the same candidate.
    pub fn identity(&self) -> CellIdentity {
        self.identity
    }

    /// The edges, in genotype order.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// The cell that a genotype of this space describes.
    ///
    /// # Panics
    /// If the genotype belongs to another space.
    pub fn decode(&self, genotype: &Genotype) -> Cell {
        let indices: [u16; EDGES.len()] =
            genotype.indices().try_into().expect("a genotype of another space");
        Cell(indices.map(|index| CellOperation::ALL[usize::from(index)]))
    }

    /// The genotype that describes `cell`.
    pub fn encode(&self, cell: &Cell) -> Genotype {
        let place = |operation: &CellOperation| {
            CellOperation::ALL.iter().position(|other| other == operation).unwrap_or(0) as u16
        };
        Genotype(cell.0.iter().map(place).collect())
    }
}

impl Cell {
    /// The operation of each edge.
    pub fn operations(&self) -> &[CellOperation] {
        &self.0
    }

    /// The same text for cells that compute the same network: identities are left out, parts
    /// without a path from the input become zero, and the order of a sum does not matter. This
    /// results in the benchmark's 6,466 classes. As in the benchmark, a zero term of a sum is kept.
    pub fn canonical(&self) -> String {
        let mut nodes: Vec<String> = vec!["0".to_owned()];
        for target in 1..NODES {
            let into = EDGES.iter().zip(&self.0).filter(|((_, to), _)| *to == target);
            let mut terms: Vec<String> = into
                .map(|((from, _), operation)| match (operation, nodes[*from].as_str()) {
                    (CellOperation::None, _) | (_, ZERO) => ZERO.to_owned(),
                    (CellOperation::Skip, source) => source.to_owned(),
                    (operation, source) => format!("({source})@{}", operation.name()),
                })
                .collect();
            terms.sort_unstable();
            nodes.push(terms.join("+"));
        }
        nodes.swap_remove(NODES - 1)
    }
}

const ZERO: &str = "#";

/// `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|`
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, ((from, to), operation)) in EDGES.iter().zip(&self.0).enumerate() {
            if place == 0 {
                f.write_str("|")?;
            } else if EDGES[place - 1].1 != *to {
                f.write_str("+|")?;
            }
            write!(f, "{}~{from}|", operation.name())?;
        }
        Ok(())
    }
}

impl FromStr for Cell {
    type Err = ParseCellError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let error = || ParseCellError(s.to_owned());
        let terms: Vec<&str> = s.split(['|', '+']).filter(|term| !term.is_empty()).collect();
        let terms: [&str; EDGES.len()] = terms.try_into().map_err(|_| error())?;
        let mut operations = [CellOperation::None; EDGES.len()];
        for ((slot, term), (from, _)) in operations.iter_mut().zip(terms).zip(EDGES) {
            let (name, source) = term.split_once('~').ok_or_else(error)?;
            let known = CellOperation::ALL.into_iter().find(|operation| operation.name() == name);
            if source != from.to_string() {
                return Err(error());
            }
            *slot = known.ok_or_else(error)?;
        }
        Ok(Self(operations))
    }
}

/// A text that does not describe a cell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a cell; write |op~0|+|op~0|op~1|+|op~0|op~1|op~2| with the operations {names}",
    names = CellOperation::ALL.map(CellOperation::name).join(", ")
)]
pub struct ParseCellError(String);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn all() -> Vec<Cell> {
        let space = CellSpace::nas_bench_201(CellIdentity::Network);
        let digit = |code: usize, place: u32| (code / 5_usize.pow(place) % 5) as u16;
        (0..15_625)
            .map(|code| space.decode(&Genotype((0..6).map(|p| digit(code, p)).collect())))
            .collect()
    }

    #[test]
    fn cells_survive_a_round_trip_through_text() {
        let space = CellSpace::nas_bench_201(CellIdentity::Network);
        for cell in all() {
            assert_eq!(cell.to_string().parse(), Ok(cell));
            assert_eq!(space.decode(&space.encode(&cell)), cell);
        }
        let text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|none~1|none~2|";
        assert_eq!(text.parse::<Cell>().unwrap().to_string(), text);
        for wrong in ["", "|none~0|", &text.replace("avg", "max"), &text.replace("~2", "~1")] {
            assert!(wrong.parse::<Cell>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_number_of_classes_is_the_published_one() {
        let classes: HashSet<String> = all().iter().map(Cell::canonical).collect();
        assert_eq!(classes.len(), 6_466);
    }
}

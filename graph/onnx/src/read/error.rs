//! Why a network could not be read.

use std::fmt;

use edgesmith_graph::GraphError;

/// What keeps a network from being read; at least one problem.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct ReadErrors {
    /// All that were found. If nodes are not supported, the first one of each kind is here.
    pub problems: Vec<ReadError>,
}

/// One problem. Written to follow "failed to read the network: ".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// The file is not what the format says.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// A tensor of the file whose numbers cannot be had.
    #[error("tensor {tensor:?}: {problem}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// Two things of one name.
    #[error("two tensors of the network are called {name:?}; each needs a name of its own")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A node, or the network's output, reads what nothing computes.
    #[error("{reader} reads {name:?}, but no input, constant or node has this name")]
    Missing {
        /// Who reads it.
        reader: String,
        /// The name.
        name: String,
    },
    /// Nodes that wait for each other.
    #[error(
        "node {node:?} ({op_type}) reads what is computed from its own output; networks must not \
         have cycles"
    )]
    Cycle {
        /// One of the nodes.
        node: String,
        /// Its operator.
        op_type: String,
    },
    /// Sizes that the file leaves open.
    #[error("input {input:?} has free sizes ({sizes}); give --input-shape {input}={example}")]
    FreeSizes {
        /// The input's name.
        input: String,
        /// The sizes as the file gives them.
        sizes: String,
        /// Those that it fixes, by axis; `None` if it says not even how many axes there are.
        known: Option<Vec<Option<u32>>>,
        /// A shape that could be given.
        example: String,
    },
    /// A shape from outside that does not fit the file.
    #[error("the shape given for {input:?} does not fit: {problem}")]
    InputShape {
        /// The input's name.
        input: String,
        /// Why.
        problem: String,
    },
    /// A node that contradicts itself or the format.
    #[error("node {node:?} ({op_type}): {problem}")]
    Invalid {
        /// The node's name.
        node: String,
        /// Its operator.
        op_type: String,
        /// What is wrong.
        problem: String,
    },
    /// A node that cannot be read.
    #[error("node {node:?} ({op_type}{}) is not supported: {problem}; {help}", more(*.others))]
    Unsupported {
        /// The node's name.
        node: String,
        /// Its operator.
        op_type: String,
        /// How many other nodes have the same problem.
        others: usize,
        /// What is not supported.
        problem: String,
        /// What would help.
        help: String,
    },
    /// A node that mixes examples of a batch with something else.
    #[error(
        "node {node:?} ({op_type}) mixes the batch with other axes: {problem}; export the network \
         with a fixed batch of 1"
    )]
    Batch {
        /// The node's name.
        node: String,
        /// Its operator.
        op_type: String,
        /// What it does.
        problem: String,
    },
    /// The network as a whole makes no graph.
    #[error("{0}")]
    Graph(#[from] GraphError),
}

/// Bytes that are not those of an ONNX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a message at all.
    #[error("the file is not an ONNX file, or it is damaged: its {message} cannot be decoded")]
    Message {
        /// Which part of the file.
        message: &'static str,
    },
    /// A length beyond the end.
    #[error(
        "the file is damaged or cut short: its {message} claims {claimed} bytes where {there} are \
         left"
    )]
    Cut {
        /// Which part of the file.
        message: &'static str,
        /// What it claims.
        claimed: u64,
        /// What there is.
        there: u64,
    },
    /// A field of another type.
    #[error(
        "the file is not an ONNX file, or it is damaged: field {number} has another type than ONNX \
         says"
    )]
    Field {
        /// The field's number.
        number: u32,
    },
    /// A name that is no text.
    #[error("the file is not an ONNX file, or it is damaged: field {number} is not text")]
    Text {
        /// The field's number.
        number: u32,
    },
    /// A file without a network.
    #[error("the file has no network in it; an ONNX file has a graph with at least one output")]
    NoGraph,
    /// A node that says nothing.
    #[error("a node of the network has no operator or no output; the file is damaged")]
    EmptyNode,
    /// Graphs in attributes of graphs, again and again.
    #[error("the network's control flow is nested more than {limit} deep")]
    Nesting {
        /// How deep is allowed.
        limit: u32,
    },
    /// A version that nobody can know.
    #[error(
        "the network needs version {version} of ONNX's operators; versions 7 to {newest} are read. \
         Export it with opset 17"
    )]
    Opset {
        /// The version.
        version: i64,
        /// The newest that is read.
        newest: i64,
    },
}

/// Why a node could not be read; the walk over the nodes adds which one it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    Invalid(String),
    Unsupported { problem: String, help: &'static str },
    Batch(String),
}

impl Fault {
    pub(super) fn invalid(problem: impl Into<String>) -> Self {
        Self::Invalid(problem.into())
    }

    pub(super) fn unsupported(problem: impl Into<String>, help: &'static str) -> Self {
        Self::Unsupported { problem: problem.into(), help }
    }

    pub(super) fn batch(problem: impl Into<String>) -> Self {
        Self::Batch(problem.into())
    }

    /// The problem of a node.
    pub(super) fn of(self, node: &str, op_type: &str) -> ReadError {
        let (node, op_type) = (node.to_owned(), op_type.to_owned());
        match self {
            Self::Invalid(problem) => ReadError::Invalid { node, op_type, problem },
            Self::Unsupported { problem, help } => {
                let help = help.to_owned();
                ReadError::Unsupported { node, op_type, others: 0, problem, help }
            }
            Self::Batch(problem) => ReadError::Batch { node, op_type, problem },
        }
    }
}

impl From<GraphError> for Fault {
    fn from(error: GraphError) -> Self {
        match error {
            GraphError::Operands { kind, problem, .. } => {
                Self::Invalid(format!("as {kind}, {problem}"))
            }
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<ReadError> for ReadErrors {
    fn from(problem: ReadError) -> Self {
        Self { problems: vec![problem] }
    }
}

impl From<Malformed> for ReadErrors {
    fn from(problem: Malformed) -> Self {
        ReadError::from(problem).into()
    }
}

impl fmt::Display for ReadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            let separator = if place == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// ` and 3 more`
fn more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" and {count} more") }
}

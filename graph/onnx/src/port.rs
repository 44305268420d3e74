//! Tensors at the border of a file.

/// A tensor at the border of the file, and which axes of the graph's value its axes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in the file.
    pub name: String,
    /// By axis of the tensor.
    pub axes: Vec<PortAxis>,
}

/// What an axis of a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortAxis {
    /// The examples: so many if the file fixes it, else any number.
    Batch(Option<u32>),
    /// This axis of the graph's value; 0 is the channels.
    Of(u32),
    /// A size of 1 that the value does not have.
    One,
}

impl Port {
    /// Any number of examples, and then these axes of the value.
    #[must_use]
    pub fn batched(name: &str, order: impl IntoIterator<Item = u32>) -> Self {
        let axes = order.into_iter().map(PortAxis::Of);
        let axes = std::iter::once(PortAxis::Batch(None)).chain(axes).collect();
        Self { name: name.to_owned(), axes }
    }

    /// How many examples the file fixes; `None` if it takes any number, or does
    /// not have such an axis.
    #[must_use]
    pub fn batch(&self) -> Option<u32> {
        self.axes.iter().find_map(|axis| match axis {
            PortAxis::Batch(batch) => *batch,
            PortAxis::Of(_) | PortAxis::One => None,
        })
    }
}

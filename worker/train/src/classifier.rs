//! What a network must be like to learn classes of square images: which images it reads, and how
//! many classes it tells apart.

use edgesmith_graph::Graph;

use super::TrainError;

/// Sizes of a network that reads square images and computes one number per class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Classifier {
    /// Channels of an image.
    pub(super) channels: usize,
    /// Rows and columns of an image.
    pub(super) side: usize,
    /// Number of classes.
    pub(super) classes: usize,
}

impl Classifier {
    /// The sizes of `graph`.
    ///
    /// # Errors
    /// If it reads something else than one square image, or computes something else than one
    /// vector, or one of its values has more than two axes of positions.
    pub(super) fn of(graph: &Graph) -> Result<Self, TrainError> {
        if let Some((_, value)) = graph.values().find(|(_, value)| value.shape.space().len() > 2) {
            let (value, shape) = (value.name.to_string(), value.shape.to_string());
            return Err(TrainError::Axes { value, shape });
        }
        let one = graph.inputs().len() == 1 && graph.outputs().len() == 1;
        if let ([rows, columns], [], true) = (graph.input().space(), graph.output().space(), one)
            && rows == columns
        {
            let [channels, side, classes] =
                [graph.input().channels(), *rows, graph.output().channels()].map(|n| n as usize);
            return Ok(Self { channels, side, classes });
        }
        let list = |shapes: &mut dyn Iterator<Item = String>| shapes.collect::<Vec<_>>().join(", ");
        Err(TrainError::NoClassifier {
            inputs: list(&mut graph.inputs().map(|id| graph.shape(id).to_string())),
            outputs: list(&mut graph.outputs().iter().map(|&id| graph.shape(id).to_string())),
        })
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{Flatten, GraphBuilder, Op, Place, Reshape, Shape};
    use edgesmith_testing::conv_graph;

    use super::*;

    #[test]
    fn networks_that_do_not_classify_square_images_are_refused() {
        let sizes = Classifier { channels: 1, side: 8, classes: 10 };
        assert_eq!(Classifier::of(&conv_graph()), Ok(sizes));
        let flat = |space: &[u32]| {
            let mut builder = GraphBuilder::new();
            let input = builder.input("input", Shape::new(2, space).unwrap()).unwrap();
            let output = builder.node("flat", Flatten, &[input], &[], Place::default()).unwrap();
            builder.finish(&[output]).unwrap()
        };
        assert!(Classifier::of(&flat(&[3, 3])).is_ok());
        assert_eq!(
            Classifier::of(&flat(&[3, 4])).unwrap_err().to_string(),
            "the network reads 2x3x4 and computes 24, but training needs one square image and one \
             number per class"
        );
        assert!(Classifier::of(&flat(&[9])).is_err());
    }

    #[test]
    fn networks_of_more_axes_than_training_works_on_are_refused() {
        let mut builder = GraphBuilder::new();
        let mut value = builder.input("input", Shape::new(4, &[3, 3]).unwrap()).unwrap();
        let split = Reshape { sizes: [2, 2, 3, 3][..].into() };
        for (name, op) in [("split", Op::from(split)), ("flat", Flatten.into())] {
            value = builder.node(name, op, &[value], &[], Place::default()).unwrap();
        }
        let graph = builder.finish(&[value]).unwrap();
        assert_eq!(
            Classifier::of(&graph).unwrap_err().to_string(),
            "\"split\" has shape 2x2x3x3, but training works on values of channels and at most two \
             axes of positions"
        );
    }
}

//! A classifier's softmax at the end: losses take the numbers before it.

use crate::{Graph, GraphError, NodeId, Op, Rebuild};

impl Graph {
    /// The network without a softmax, or its logarithm, over the channels at its end. `None` if it
    /// has none, or something else reads its result.
    ///
    /// # Errors
    /// If a parameter belonged to it alone, which none does.
    pub fn without_final_softmax(&self) -> Result<Option<Graph>, GraphError> {
        let is_last = |id: &NodeId| {
            let node = self.node(*id);
            matches!(&node.op, Op::Softmax(softmax) if softmax.axis == 0)
                && self.readers()[node.output.index()].is_empty()
        };
        let last: Option<NodeId> = match self.outputs() {
            [output] => self.producer(*output).filter(is_last),
            _ => None,
        };
        let Some(last) = last else { return Ok(None) };
        let mut rebuild = Rebuild::new(self);
        for (id, node) in self.nodes() {
            if id == last {
                let logits = rebuild.value(node.inputs[0]);
                rebuild.replace(node.output, logits);
            } else {
                rebuild.copy(id)?;
            }
        }
        rebuild.finish().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Add, GraphBuilder, Linear, Place, Role, Shape, Softmax};

    fn classifier(softmax: Softmax) -> (GraphBuilder, crate::ValueId) {
        let mut b = GraphBuilder::new();
        let x = b.input("x", Shape::new(3, &[]).unwrap()).unwrap();
        let weight = b.parameter("w", &[2, 3], Role::Weight).unwrap();
        let x = b.node("fc", Linear, &[x], &[weight], Place::default()).unwrap();
        let x = b.node("shares", softmax, &[x], &[], Place::default()).unwrap();
        (b, x)
    }

    #[test]
    fn only_a_softmax_over_the_channels_at_the_end_is_taken_off() {
        for log in [false, true] {
            let (b, shares) = classifier(Softmax { axis: 0, log });
            let graph = b.finish(&[shares]).unwrap();
            let logits = graph.without_final_softmax().unwrap().unwrap();
            assert_eq!(&*logits.value(logits.outputs()[0]).name, "fc");
            assert_eq!(logits.nodes().len(), 1);
            assert_eq!(logits.without_final_softmax().unwrap(), None);
        }
        let (mut b, shares) = classifier(Softmax { axis: 0, log: false });
        let sum = b.node("sum", Add, &[shares, shares], &[], Place::default()).unwrap();
        assert_eq!(b.finish(&[sum]).unwrap().without_final_softmax().unwrap(), None);
        let (mut b, shares) = classifier(Softmax { axis: 0, log: false });
        b.node("sum", Add, &[shares, shares], &[], Place::default()).unwrap();
        assert_eq!(b.finish(&[shares]).unwrap().without_final_softmax().unwrap(), None);
    }
}

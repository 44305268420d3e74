//! Which nodes of a partly quantized network stay real, and which values therefore need no scale.
//! It chooses nothing: the layers are named.

use std::collections::BTreeSet;

use edgesmith_graph::{Graph, NodeId, ParameterId, Role, ValueId};

/// The parts of a network that stay real.
pub(crate) struct Real {
    /// By node.
    nodes: Vec<bool>,
    /// By value: whether it needs no scale.
    values: Vec<bool>,
}

impl Real {
    /// The layers with these names stay real. So does the clip that is computed along with such a
    /// layer, a layer that shares its weight, and each node without a weight between real ones. A
    /// value needs a scale if a node that reads or writes it is in integers; then conversions stand
    /// between. An output that only a real layer computes needs none.
    ///
    /// # Errors
    /// The first name that no layer with a weight has.
    pub fn of<'n>(graph: &Graph, names: &'n BTreeSet<String>) -> Result<Self, &'n str> {
        if names.is_empty() {
            let (nodes, values) = (graph.nodes().len(), graph.values().len());
            return Ok(Self { nodes: vec![false; nodes], values: vec![false; values] });
        }
        let mut weights = vec![false; graph.parameters().len()];
        for name in names {
            let layer = graph.value_named(name).and_then(|value| graph.producer(value));
            let weight = layer.and_then(|id| weight(graph, id)).ok_or(name.as_str())?;
            weights[weight.index()] = true;
        }
        // By node with a weight, and by the clip computed along with it: whether it stays real.
        let mut decided = vec![None; graph.nodes().len()];
        let clips = graph.absorbed_clips();
        for (id, _) in graph.nodes() {
            let Some(weight) = weight(graph, id) else { continue };
            let real = Some(weights[weight.index()]);
            decided[id.index()] = real;
            if let Some((clip, _)) = clips[id.index()] {
                decided[clip.index()] = real;
            }
        }
        let readers = graph.readers();
        // The others are taken to be real until a neighbour is not.
        let mut nodes: Vec<bool> = decided.iter().map(|real| real.unwrap_or(true)).collect();
        loop {
            let made = |value: &ValueId| graph.producer(*value).is_some_and(|id| nodes[id.index()]);
            let read = |value: ValueId| readers[value.index()].iter().all(|id| nodes[id.index()]);
            let other = graph.nodes().find(|(id, node)| {
                let free = decided[id.index()].is_none() && nodes[id.index()];
                free && !(node.inputs.iter().all(made) && read(node.output))
            });
            match other {
                Some((id, _)) => nodes[id.index()] = false,
                None => break,
            }
        }
        let value = |id: ValueId| {
            let readers = &readers[id.index()];
            let written = match graph.producer(id) {
                Some(producer) => nodes[producer.index()],
                None => !readers.is_empty(),
            };
            written && readers.iter().all(|reader| nodes[reader.index()])
        };
        let values = graph.values().map(|(id, _)| value(id)).collect();
        Ok(Self { nodes, values })
    }

    /// Whether a node stays real.
    pub fn node(&self, id: NodeId) -> bool {
        self.nodes[id.index()]
    }

    /// Whether a value needs no scale.
    pub fn value(&self, id: ValueId) -> bool {
        self.values[id.index()]
    }
}

/// The weight of a node that has one.
pub(crate) fn weight(graph: &Graph, id: NodeId) -> Option<ParameterId> {
    let first = graph.node(id).parameters.first().copied();
    first.filter(|&id| graph.parameter(id).role == Role::Weight)
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{Add, Clip, Constant, GraphBuilder, Linear, Place, Shape};

    use super::*;

    /// Layers `a` to `d` with rectifiers; the sum of `b` and `c` is rectified before `d`.
    fn graph() -> Graph {
        let mut builder = GraphBuilder::new();
        let x = builder.input("x", Shape::new(2, &[]).unwrap()).unwrap();
        let layer = |builder: &mut GraphBuilder, name: &'static str, input| {
            let weight =
                builder.parameter(format!("{name}.weight"), &[2, 2], Role::Weight).unwrap();
            builder.node(name, Linear, &[input], &[weight], Place::default()).unwrap()
        };
        let relu = |builder: &mut GraphBuilder, name: &'static str, input| {
            builder.node(name, Clip::RELU, &[input], &[], Place::default()).unwrap()
        };
        let a = layer(&mut builder, "a", x);
        let a = relu(&mut builder, "a.relu", a);
        let b = layer(&mut builder, "b", a);
        let c = layer(&mut builder, "c", a);
        let sum = builder.node("sum", Add, &[b, c], &[], Place::default()).unwrap();
        let sum = relu(&mut builder, "sum.relu", sum);
        let d = layer(&mut builder, "d", sum);
        builder.finish(&[d]).unwrap()
    }

    /// Names of the nodes that are real, and of the values without a scale.
    fn of(names: &[&str]) -> [Vec<String>; 2] {
        let (graph, names) = (graph(), names.iter().map(|&name| name.to_owned()).collect());
        let real = Real::of(&graph, &names).unwrap();
        let name = |id: ValueId| graph.value(id).name.to_string();
        let nodes = graph.nodes().filter(|(id, _)| real.node(*id));
        let values = graph.values().filter(|(id, _)| real.value(*id));
        [
            nodes.map(|(_, node)| name(node.output)).collect(),
            values.map(|(id, _)| name(id)).collect(),
        ]
    }

    /// A constant has no neighbour before it that could be in integers.
    #[test]
    fn nothing_is_real_that_is_not_asked_for() {
        let mut builder = GraphBuilder::new();
        builder.input("x", Shape::new(2, &[]).unwrap()).unwrap();
        let numbers = builder.parameter("numbers", &[2], Role::Constant).unwrap();
        let place = Place::default();
        let constant = builder.node("constant", Constant, &[], &[numbers], place).unwrap();
        let graph = builder.finish(&[constant]).unwrap();
        let real = Real::of(&graph, &BTreeSet::new()).unwrap();
        assert!(graph.nodes().all(|(id, _)| !real.node(id)));
        assert!(graph.values().all(|(id, _)| !real.value(id)));
    }

    #[test]
    fn what_stands_between_real_layers_is_real() {
        assert_eq!(of(&[]), [vec![] as Vec<String>, vec![]]);
        // Its clip goes with it, and the picture is not read as bytes.
        assert_eq!(of(&["a"]), [vec!["a", "a.relu"], vec!["x", "a"]]);
        assert_eq!(of(&["a", "b"]), [vec!["a", "a.relu", "b"], vec!["x", "a"]]);
        // A sum of which a part is in integers is, too.
        assert_eq!(of(&["b", "d"]), [vec!["b", "d"], vec!["d"]]);
        let [nodes, values] = of(&["b", "c", "d"]);
        assert_eq!(nodes, ["b", "c", "sum", "sum.relu", "d"]);
        assert_eq!(values, ["b", "c", "sum", "sum.relu", "d"]);
        let unknown = BTreeSet::from(["a".to_owned(), "sum".to_owned()]);
        assert_eq!(Real::of(&graph(), &unknown).err(), Some("sum"));
    }
}

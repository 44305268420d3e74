//! Which layers of a network a model computes in integers and which in fp32, and why.

use std::fmt;

use edgesmith_edge_runtime::{Element, Layer, Model};
use edgesmith_graph::{Graph, Node, NodeId, Operation as _};
use edgesmith_search_space::layer_names;
use edgesmith_worker::export::{has_integer_form, lift_with_places};

/// What a layer computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Integers,
    Fp32(Why),
}

/// Why a layer of a network that is partly in integers is in fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The engine computes such a layer in fp32 only.
    NoForm,
    /// Its weights are fp32.
    Weights,
    /// It has no weights, and what it reads or writes is in fp32.
    Neighbours,
}

impl Form {
    /// The form of each layer of a graph that a model was made of, or that was made of the model,
    /// in order. Layers are the nodes that are not computed along with another one. `None` if the
    /// two do not belong together.
    pub fn of(graph: &Graph, model: &Model) -> Option<Vec<(NodeId, Self)>> {
        let (lifted, places) = lift_with_places(model).ok()?;
        let (ours, theirs) = (layers(graph), layers(&lifted.graph));
        if kinds(graph, &ours) != kinds(&lifted.graph, &theirs) {
            return None;
        }
        let form = |(&node, &of_lifted): (&NodeId, &NodeId)| {
            let place = &model.nodes[places[of_lifted.index()]];
            let integers = matches!(place.layer, Layer::IntLinear(_))
                || matches!(place.output, Element::Uint8(_));
            let form = match integers {
                true => Self::Integers,
                false => Self::Fp32(Why::of(graph, graph.node(node))),
            };
            (node, form)
        };
        Some(ours.iter().zip(&theirs).map(form).collect())
    }

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integers => "integers",
            Self::Fp32(_) => "fp32",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integers => f.write_str("integers"),
            Self::Fp32(why) => write!(f, "fp32: {why}"),
        }
    }
}

impl Why {
    fn of(graph: &Graph, node: &Node) -> Self {
        if !has_integer_form(&node.op) {
            Self::NoForm
        } else if graph.has_weight(node) {
            Self::Weights
        } else {
            Self::Neighbours
        }
    }

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoForm => "no-form",
            Self::Weights => "weights",
            Self::Neighbours => "neighbours",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoForm => "no form in integers",
            Self::Weights => "its weights stay in fp32",
            Self::Neighbours => "between layers in fp32",
        })
    }
}

/// The layers of a graph that a model was lifted to, each with its name in the network that it was
/// made of, as far as its layers are known there; else with its own name.
pub fn named(lifted: &Graph, network: &Graph) -> Vec<(NodeId, String)> {
    let (ours, theirs) = (layers(lifted), layers(network));
    let own = |id: &NodeId| lifted.value(lifted.node(*id).output).name.to_string();
    if kinds(lifted, &ours) == kinds(network, &theirs) {
        let name = |id: &NodeId| network.value(network.node(*id).output).name.to_string();
        return ours.iter().copied().zip(theirs.iter().map(name)).collect();
    }
    let weighted = |id: &NodeId| lifted.has_weight(lifted.node(*id));
    // Passes may have left layers out.
    let same = ours.iter().filter(|id| weighted(id)).count() == layer_names(network).count();
    let mut names = layer_names(network).filter(|_| same);
    let name = |id: &NodeId| {
        let known = if weighted(id) { names.next() } else { None };
        (*id, known.map_or_else(|| own(id), str::to_owned))
    };
    ours.iter().map(name).collect()
}

fn layers(graph: &Graph) -> Vec<NodeId> {
    graph.layers().map(|(id, _)| id).collect()
}

fn kinds(graph: &Graph, layers: &[NodeId]) -> Vec<&'static str> {
    layers.iter().map(|id| graph.node(*id).op.kind()).collect()
}

#[cfg(test)]
mod tests {
    use edgesmith_edge_runtime as edge;
    use edgesmith_graph::{Flatten, Function, GraphBuilder, Map, Place, Shape, Softmax};

    use super::*;

    /// A softmax, which has no form in integers, and a function in integers and in fp32.
    fn model() -> Model {
        let fp32 = Element::Fp32;
        let scale = edge::Quantization { scale: 0.01, zero_point: 0 };
        let function = edge::Function::Tanh;
        let tables = (0..=u8::MAX).map(|byte| {
            let x = scale.dequantize(byte);
            scale.quantize(function.apply(x))
        });
        let table = edge::Table { function: Some(function), tables: tables.collect() };
        let nodes: Vec<(Layer, Element)> = vec![
            (edge::Softmax { axis: 0, log: false }.into(), fp32),
            (edge::Quantize.into(), Element::Uint8(scale)),
            (table.into(), Element::Uint8(scale)),
            (edge::Dequantize.into(), fp32),
            (edge::Map { function }.into(), fp32),
        ];
        let node = |(at, (layer, output)): (usize, (Layer, Element))| edge::Node {
            inputs: vec![edge::ValueId(at as u32)],
            layer,
            output,
        };
        Model {
            inputs: vec![edge::Input {
                name: "x".to_owned(),
                shape: edge::Shape::new(&[4]).unwrap(),
                order: vec![0],
                array: edge::Array::Fp32,
                element: fp32,
            }],
            nodes: nodes.into_iter().enumerate().map(node).collect(),
            outputs: vec![edge::Output::new("y", edge::ValueId(5), 1)],
            rounding: edge::Rounding::Once,
            notes: edge::Notes::default(),
        }
    }

    fn network(flat: bool) -> Graph {
        let mut b = GraphBuilder::new();
        let mut value = b.input("x", Shape::new(4, &[]).unwrap()).unwrap();
        if flat {
            value = b.node("flat", Flatten, &[value], &[], Place::default()).unwrap();
        }
        let softmax = Softmax { axis: 0, log: false };
        value = b.node("shares", softmax, &[value], &[], Place::default()).unwrap();
        for name in ["first", "second"] {
            let map = Map { function: Function::Tanh };
            value = b.node(name, map, &[value], &[], Place::default()).unwrap();
        }
        b.finish(&[value]).unwrap()
    }

    #[test]
    fn layers_in_fp32_say_why() {
        let forms = |graph: &Graph| -> Option<Vec<String>> {
            let forms = Form::of(graph, &model())?;
            Some(forms.into_iter().map(|(_, form)| form.to_string()).collect())
        };
        let expected = ["fp32: no form in integers", "integers", "fp32: between layers in fp32"];
        let expected = Some(expected.map(str::to_owned).to_vec());
        assert_eq!(forms(&network(false)), expected);
        assert_eq!(forms(&lift_with_places(&model()).unwrap().0.graph), expected);
        assert_eq!(forms(&network(true)), None, "another network");
    }

    #[test]
    fn layers_have_the_names_that_they_came_with() {
        let lifted = lift_with_places(&model()).unwrap().0.graph;
        let names = |network: &Graph| -> Vec<String> {
            named(&lifted, network).into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!(names(&network(false)), ["shares", "first", "second"]);
        // Where others were left out, those without weights have numbers.
        assert_eq!(names(&network(true)), ["node0", "node2", "y"]);
    }
}

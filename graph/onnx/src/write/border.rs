//! Tensors at the border of a file. The network has its values as `[batch][channels][positions…]`;
//! a file may have its axes in another order, and leave out or add those of size 1.

use edgesmith_graph::Shape;

use super::file::{File, Name, ints};
use crate::port::{Port, PortAxis};
use crate::proto::{
    Dimension, DimensionProto, FLOAT, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Where an axis of a tensor stands in the network: 0 is the batch, 1 the channels.
type Place = u32;

/// Adds what makes a value of the network out of an input. Returns the tensor of the value.
pub(super) fn inside(file: &mut File, port: &Port, shape: &Shape) -> Name {
    let Order { kept, left_out, ones } = Order::of(port, shape);
    let end = end(&kept, &left_out);
    let places = [kept, left_out].concat();
    let at = |place: u32| places.iter().position(|&other| other == place);
    let order = (0..places.len() as u32).map(|place| at(place).expect("all axes") as u32);
    let steps = [Step::Squeeze(ones), Step::Unsqueeze(end), Step::Transpose(order.collect())];
    let mut tensor = port.name.clone();
    for step in steps.into_iter().filter(Step::does_something) {
        let name = file.claim(&format!("{}.{}", port.name, step.part()));
        step.add(file, &tensor, &name);
        tensor = name;
    }
    tensor
}

/// Adds what makes an output out of the tensor of a value, under the output's name.
pub(super) fn outside(file: &mut File, tensor: &str, port: &Port, shape: &Shape) {
    let Order { kept, left_out, ones } = Order::of(port, shape);
    let end = end(&kept, &left_out);
    let order = [kept, left_out].concat();
    let steps = [Step::Transpose(order), Step::Squeeze(end), Step::Unsqueeze(ones)];
    let steps: Vec<Step> = steps.into_iter().filter(Step::does_something).collect();
    let mut tensor = tensor.to_owned();
    for (place, step) in steps.iter().enumerate() {
        let name = if place + 1 == steps.len() {
            port.name.clone()
        } else {
            file.claim(&format!("{}.{}", port.name, step.part()))
        };
        step.add(file, &tensor, &name);
        tensor = name;
    }
    if steps.is_empty() {
        file.node("Identity", &[&tensor], &port.name, vec![]);
    }
}

/// Whether a tensor is what the network has.
pub(super) fn is_plain(port: &Port, shape: &Shape) -> bool {
    let Order { kept, left_out, ones } = Order::of(port, shape);
    kept.is_sorted() && left_out.is_empty() && ones.is_empty()
}

/// A float tensor with its sizes.
pub(super) fn value_info(port: &Port, doc: &str, shape: &Shape) -> ValueInfoProto {
    let sizes = shape.sizes();
    let dims = port.axes.iter().map(|axis| match *axis {
        PortAxis::Batch(None) => Dimension::Parameter("batch".to_owned()),
        PortAxis::Batch(Some(count)) => Dimension::Value(i64::from(count)),
        PortAxis::Of(axis) => Dimension::Value(i64::from(sizes[axis as usize])),
        PortAxis::One => Dimension::Value(1),
    });
    let dim = dims.map(|dimension| DimensionProto { value: Some(dimension) }).collect();
    let tensor_type =
        Some(TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) });
    ValueInfoProto {
        name: port.name.clone(),
        r#type: Some(TypeProto { tensor_type }),
        doc_string: doc.to_owned(),
    }
}

/// The axes of a tensor.
struct Order {
    /// Those of the tensor that the network has, too.
    kept: Vec<Place>,
    /// Those of size 1 that only the network has.
    left_out: Vec<Place>,
    /// Where in the tensor those of size 1 are that only it has.
    ones: Vec<u32>,
}

impl Order {
    fn of(port: &Port, shape: &Shape) -> Self {
        let sizes = shape.sizes();
        let (mut kept, mut ones) = (Vec::new(), Vec::new());
        for (at, axis) in port.axes.iter().enumerate() {
            match axis {
                PortAxis::Batch(_) => kept.push(0),
                PortAxis::Of(axis) => kept.push(axis + 1),
                PortAxis::One => ones.push(at as u32),
            }
        }
        let left_out: Vec<Place> =
            (0..=sizes.len() as u32).filter(|place| !kept.contains(place)).collect();
        let all_one = left_out.iter().all(|&place| place == 0 || sizes[place as usize - 1] == 1);
        assert!(all_one, "{} has every axis of its value that is longer than 1", port.name);
        assert_eq!(kept.len() + left_out.len(), sizes.len() + 1, "{}: each axis once", port.name);
        Self { kept, left_out, ones }
    }
}

/// The last axes of a tensor with all axes: those that are left out.
fn end(kept: &[Place], left_out: &[Place]) -> Vec<u32> {
    (kept.len() as u32..(kept.len() + left_out.len()) as u32).collect()
}

/// Something that moves axes.
enum Step {
    Squeeze(Vec<u32>),
    Unsqueeze(Vec<u32>),
    Transpose(Vec<u32>),
}

impl Step {
    fn does_something(&self) -> bool {
        match self {
            Step::Squeeze(axes) | Step::Unsqueeze(axes) => !axes.is_empty(),
            Step::Transpose(order) => !order.is_sorted(),
        }
    }

    /// What the name of its result says.
    fn part(&self) -> &'static str {
        match self {
            Step::Squeeze(_) => "squeezed",
            Step::Unsqueeze(_) => "unsqueezed",
            Step::Transpose(_) => "transposed",
        }
    }

    /// Adds it. `name` is claimed.
    fn add(&self, file: &mut File, tensor: &str, name: &str) {
        let mut sized = |op: &str, axes: &[u32]| {
            let axes = file.indices(&format!("{name}.axes"), axes);
            file.node(op, &[tensor, &axes], name, vec![]);
        };
        match self {
            Step::Squeeze(axes) => sized("Squeeze", axes),
            Step::Unsqueeze(axes) => sized("Unsqueeze", axes),
            Step::Transpose(order) => {
                file.node("Transpose", &[tensor], name, vec![ints("perm", order)]);
            }
        }
    }
}

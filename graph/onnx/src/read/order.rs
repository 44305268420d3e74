//! The nodes that the outputs need, each after what it reads.

use std::collections::HashMap;

use super::error::ReadError;
use super::model::Node;

/// Places of nodes, in an order in which they can be computed. `known` says which names need no
/// node.
///
/// # Errors
/// If two nodes compute the same name, one reads what nothing computes, or they wait for each
/// other.
pub(super) fn order<'a>(
    nodes: &[Node<'a>],
    known: &dyn Fn(&str) -> bool,
    outputs: &[&'a str],
) -> Result<Vec<usize>, ReadError> {
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (place, node) in nodes.iter().enumerate() {
        for &name in node.outputs.iter().filter(|name| !name.is_empty()) {
            if known(name) || producers.insert(name, place).is_some() {
                return Err(ReadError::Duplicate { name: name.to_owned() });
            }
        }
    }
    let producer = |name: &str, reader: &dyn Fn() -> String| match producers.get(name) {
        Some(&place) => Ok(Some(place)),
        None if name.is_empty() || known(name) => Ok(None),
        None => Err(ReadError::Missing { reader: reader(), name: name.to_owned() }),
    };
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Untouched,
        Waiting,
        Done,
    }
    let mut states = vec![State::Untouched; nodes.len()];
    let mut order = vec![];
    for output in outputs {
        let Some(first) = producer(output, &|| "the network's output".to_owned())? else {
            continue;
        };
        // The nodes that wait, each with the next input to look at.
        let mut stack = vec![(first, 0)];
        while let Some((place, input)) = stack.pop() {
            let node = &nodes[place];
            if states[place] == State::Done {
                continue;
            }
            states[place] = State::Waiting;
            let Some(name) = node.inputs.get(input) else {
                states[place] = State::Done;
                order.push(place);
                continue;
            };
            stack.push((place, input + 1));
            let reader = || format!("node {:?} ({})", node.label(), node.op_type);
            match producer(name, &reader)? {
                Some(before) if states[before] == State::Waiting => {
                    let (node, op_type) = (node.label().to_owned(), node.op_type.to_owned());
                    return Err(ReadError::Cycle { node, op_type });
                }
                Some(before) if states[before] == State::Untouched => stack.push((before, 0)),
                _ => {}
            }
        }
    }
    // As in the file, where that is possible.
    let mut sorted = order.clone();
    sorted.sort_unstable();
    let in_order = sorted.iter().all(|&place| {
        let before = |name: &&str| producers.get(name).is_none_or(|&producer| producer < place);
        nodes[place].inputs.iter().all(before)
    });
    Ok(if in_order { sorted } else { order })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&'static str], output: &'static str) -> Node<'static> {
        Node { inputs: inputs.to_vec(), outputs: vec![output], op_type: "Add", ..Node::default() }
    }

    #[test]
    fn nodes_come_after_what_they_read() {
        let nodes =
            [node(&["b", "x"], "c"), node(&["x"], "a"), node(&["a"], "b"), node(&["c"], "d")];
        let known = |name: &str| name == "x";
        assert_eq!(order(&nodes, &known, &["c"]).unwrap(), [1, 2, 0]);
        let sorted = [node(&["x"], "a"), node(&["x"], "b"), node(&["b", "a"], "c")];
        assert_eq!(order(&sorted, &known, &["c"]).unwrap(), [0, 1, 2]);
    }

    #[test]
    fn mistakes_are_named() {
        let known = |name: &str| name == "x";
        let error = |nodes: &[Node<'static>]| order(nodes, &known, &["y"]).unwrap_err().to_string();
        assert_eq!(
            error(&[node(&["z"], "y")]),
            "node \"y\" (Add) reads \"z\", but no input, constant or node has this name"
        );
        assert!(error(&[node(&["x"], "a")]).starts_with("the network's output reads \"y\""));
        assert!(error(&[node(&["x"], "y"), node(&["x"], "y")]).starts_with("two tensors"));
        assert!(error(&[node(&["x"], "x")]).starts_with("two tensors"));
        assert!(error(&[node(&["a"], "y"), node(&["y"], "a")]).contains("must not have cycles"));
        assert!(error(&[node(&["y"], "y")]).contains("must not have cycles"));
    }
}

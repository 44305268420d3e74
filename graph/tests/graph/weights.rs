//! Whether weights fit a graph.

use edgesmith_graph::{Shape, WeightsError};

use crate::{Net, random};

#[test]
fn every_mismatch_is_named() {
    let mut net = Net::new();
    let input = net.input(Shape::new(2, &[]).unwrap());
    let hidden = net.linear(input, 3);
    let output = net.normalize(hidden);
    let graph = net.builder.finish(&[output]).unwrap();
    let good = random::weights(&graph, 1);
    assert_eq!(good.check(&graph), Ok(()));

    let mut lacking = good.clone();
    lacking.arrays.remove("n2.gamma");
    lacking.arrays.remove("n2.beta");
    let names = vec!["n2.beta".to_owned(), "n2.gamma".to_owned()];
    assert_eq!(lacking.check(&graph), Err(WeightsError::Missing { names }));

    let mut extra = good.clone();
    extra.set("head", "bias", vec![1], vec![0.0]);
    let names = vec!["head.bias".to_owned()];
    assert_eq!(extra.check(&graph), Err(WeightsError::Unexpected { names }));

    let mut misshapen = good.clone();
    misshapen.set("n1", "bias", vec![2], vec![0.0; 2]);
    let error = misshapen.check(&graph).unwrap_err().to_string();
    assert_eq!(error, "n1.bias has shape [2] with 2 values, but the network needs shape [3]");

    let mut short = good.clone();
    short.arrays.get_mut("n1.weight").unwrap().data.pop();
    assert!(matches!(short.check(&graph), Err(WeightsError::Shape { .. })));

    let mut infinite = good.clone();
    infinite.arrays.get_mut("n1.weight").unwrap().data[3] = f32::NAN;
    let error = infinite.check(&graph).unwrap_err().to_string();
    assert_eq!(error, "n1.weight contains NaN, which is not a finite number");

    let mut negative = good;
    negative.arrays.get_mut("n2.variance").unwrap().data[0] = -1.0;
    assert!(matches!(negative.check(&graph), Err(WeightsError::NegativeVariance { .. })));
}

//! The operator of the function, or several where opset 17 has none

use edgesmith_graph::{Function, Map};

use super::{Name, Site, Write};
use crate::write::file::float;

impl Write for Map {
    fn write(&self, site: &mut Site<'_>) -> Name {
        let x = &*site.input(0);
        match self.function {
            Function::Absolute => site.finish("Abs", &[x], vec![]),
            Function::Elu { alpha } => site.finish("Elu", &[x], vec![float("alpha", alpha)]),
            Function::Erf => site.finish("Erf", &[x], vec![]),
            Function::Exponential => site.finish("Exp", &[x], vec![]),
            // As PyTorch writes it, so that others recognise it.
            Function::Gelu => {
                let root = site.scalar("root", std::f32::consts::SQRT_2);
                let scaled = site.step("scaled", "Div", &[x, &root], vec![]);
                let erf = site.step("erf", "Erf", &[&scaled], vec![]);
                half_of_one_more(site, x, &erf)
            }
            Function::GeluTanh => {
                let three = site.scalar("three", 3.0);
                let cube = site.step("cube", "Pow", &[x, &three], vec![]);
                let factor = site.scalar("cubic", 0.044715);
                let cube = site.step("cubed", "Mul", &[&cube, &factor], vec![]);
                let sum = site.step("sum", "Add", &[x, &cube], vec![]);
                let root = site.scalar("root", (2.0 / std::f64::consts::PI).sqrt() as f32);
                let scaled = site.step("scaled", "Mul", &[&sum, &root], vec![]);
                let tanh = site.step("tanh", "Tanh", &[&scaled], vec![]);
                half_of_one_more(site, x, &tanh)
            }
            Function::HardSigmoid { slope, offset } => {
                let settings = vec![float("alpha", slope), float("beta", offset)];
                site.finish("HardSigmoid", &[x], settings)
            }
            Function::HardSwish => site.finish("HardSwish", &[x], vec![]),
            Function::Logarithm => site.finish("Log", &[x], vec![]),
            Function::Power { exponent } => {
                let exponent = site.scalar("exponent", exponent);
                site.finish("Pow", &[x, &exponent], vec![])
            }
            Function::Scale { factor, offset: 0.0 } => {
                let factor = site.scalar("factor", factor);
                site.finish("Mul", &[x, &factor], vec![])
            }
            Function::Scale { factor, offset } => {
                let factor = site.scalar("factor", factor);
                let scaled = site.step("scaled", "Mul", &[x, &factor], vec![]);
                let offset = site.scalar("offset", offset);
                site.finish("Add", &[&scaled, &offset], vec![])
            }
            Function::Sigmoid => site.finish("Sigmoid", &[x], vec![]),
            Function::Silu => {
                let gate = site.step("gate", "Sigmoid", &[x], vec![]);
                site.finish("Mul", &[x, &gate], vec![])
            }
            Function::Softplus => site.finish("Softplus", &[x], vec![]),
            Function::SquareRoot => site.finish("Sqrt", &[x], vec![]),
            Function::Tanh => site.finish("Tanh", &[x], vec![]),
        }
    }
}

/// `x * (1 + gate) / 2`
fn half_of_one_more(site: &mut Site<'_>, x: &str, gate: &str) -> Name {
    let one = site.scalar("one", 1.0);
    let gate = site.step("gate", "Add", &[gate, &one], vec![]);
    let gated = site.step("gated", "Mul", &[x, &gate], vec![]);
    let half = site.scalar("half", 0.5);
    site.finish("Mul", &[&gated, &half], vec![])
}

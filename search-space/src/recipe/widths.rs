//! How many bits a quantized network has for its weights and values, and what computes it. It says
//! what is meant; the levels are chosen by workers.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::mistakes::Errors;

/// Bits of weights and values. The default is that of integers: 8 for both, symmetric weights.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Widths {
    /// Bits of a weight: 1, 2, 4, 8 or 16. With 1, a weight is a sign times the mean magnitude
    /// (Rastegari et al. 2016, "XNOR-Net").
    #[serde(rename = "weight_bits", skip_serializing_if = "is_eight")]
    pub weights: u32,
    /// Whether the levels of weights have a zero point, so that they cover no more than there is.
    #[serde(rename = "affine_weights", skip_serializing_if = "is_not")]
    pub affine: bool,
    /// Bits of a value: 8, 16, or 32 for fp32.
    #[serde(rename = "activation_bits", skip_serializing_if = "is_eight")]
    pub activations: u32,
    /// Layers whose weights have other bits, by name, sorted.
    #[serde(serialize_with = "by_name", skip_serializing_if = "Vec::is_empty")]
    pub layer_bits: Vec<(String, u32)>,
}

/// What computes a quantized network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// The engine, in integers.
    Integers,
    /// The engine, in fp32: weights are levels in the file and become fp32 when it is loaded.
    Fp32,
    /// No engine on a device. The reference rounds values in fp32, so that accuracy and size are
    /// known and latency is not.
    Reference,
}

impl Arithmetic {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integers => "integers",
            Self::Fp32 => "fp32",
            Self::Reference => "reference",
        }
    }
}

impl Widths {
    /// Bits of weights.
    pub const WEIGHTS: [u32; 5] = [1, 2, 4, 8, 16];
    /// Bits of values; 32 are fp32.
    pub const ACTIVATIONS: [u32; 3] = [8, 16, 32];
    /// Bits of the weights of a layer by itself; 32 leave it in fp32.
    pub const LAYERS: [u32; 6] = [1, 2, 4, 8, 16, 32];

    /// What computes a network with these.
    pub fn arithmetic(&self) -> Arithmetic {
        let wide = self.weights > 8 || self.layer_bits.iter().any(|(_, bits)| *bits > 8);
        match self.activations {
            32 => Arithmetic::Fp32,
            8 if !self.affine && !wide => Arithmetic::Integers,
            _ => Arithmetic::Reference,
        }
    }

    /// Whether a training can round weights and values as these do.
    pub fn can_be_trained(&self) -> bool {
        self.arithmetic() == Arithmetic::Integers
    }

    /// Whether it can be learned which way weights are rounded. A sign leaves no choice.
    pub fn can_learn_rounding(&self) -> bool {
        let binary = self.weights == 1 || self.layer_bits.iter().any(|(_, bits)| *bits == 1);
        self.arithmetic() == Arithmetic::Integers && !binary
    }
}

impl Default for Widths {
    fn default() -> Self {
        Self { weights: 8, affine: false, activations: 8, layer_bits: Vec::new() }
    }
}

/// What differs from the default, each after a space.
impl fmt::Display for Widths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.weights != 8 {
            write!(f, " w{}", self.weights)?;
        }
        if self.affine {
            f.write_str(" affine")?;
        }
        if self.activations != 8 {
            write!(f, " a{}", self.activations)?;
        }
        for (layer, bits) in &self.layer_bits {
            write!(f, " {layer} w{bits}")?;
        }
        match self.arithmetic() {
            Arithmetic::Reference => f.write_str(" by reference"),
            Arithmetic::Integers | Arithmetic::Fp32 => Ok(()),
        }
    }
}

/// What a layer by itself may have: bits of its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerWidth(pub u32);

/// The first two are names of precisions.
impl fmt::Display for LayerWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            32 => f.write_str("fp32"),
            1 => f.write_str("binary"),
            bits => write!(f, "int{bits}"),
        }
    }
}

/// Options of [`Widths`]. Every list has at least one value, apart from the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WidthsSpace {
    /// Bits of weights.
    pub weights: Vec<u32>,
    /// Whether weights have zero points.
    pub affine: Vec<bool>,
    /// Bits of values.
    pub activations: Vec<u32>,
    /// Bits that each of the layers may have that are chosen by themselves. Empty stands for 8
    /// and 32.
    pub layers: Vec<u32>,
}

impl Default for WidthsSpace {
    fn default() -> Self {
        let Widths { weights, affine, activations, .. } = Widths::default();
        Self {
            weights: vec![weights],
            affine: vec![affine],
            activations: vec![activations],
            layers: Vec::new(),
        }
    }
}

impl WidthsSpace {
    /// What a layer that is chosen by itself may have.
    pub(crate) fn of_layers(&self) -> Vec<LayerWidth> {
        match &self.layers[..] {
            [] => vec![LayerWidth(8), LayerWidth(32)],
            layers => layers.iter().map(|&bits| LayerWidth(bits)).collect(),
        }
    }

    /// Every combination, where a layer by itself may be all that differs. `mixed` says whether
    /// there are such layers.
    fn all(&self, mixed: bool) -> impl Iterator<Item = Widths> + '_ {
        let layers = if mixed { self.of_layers() } else { Vec::new() };
        self.weights.iter().flat_map(move |&weights| {
            let layers = layers.clone();
            self.affine.iter().flat_map(move |&affine| {
                let layers = layers.clone();
                // A layer that has no other bits stands for none.
                let others: Vec<u32> =
                    [weights].into_iter().chain(layers.iter().map(|l| l.0)).collect();
                self.activations.iter().flat_map(move |&activations| {
                    let of = move |bits: u32| Widths {
                        weights,
                        affine: affine && weights > 1,
                        activations,
                        layer_bits: match bits {
                            bits if bits == weights || bits == 32 => Vec::new(),
                            bits => vec![(String::new(), bits)],
                        },
                    };
                    others.clone().into_iter().map(of)
                })
            })
        })
    }

    /// Whether a candidate may be computed by this.
    pub fn may_be(&self, arithmetic: Arithmetic, mixed: bool) -> bool {
        self.all(mixed).any(|widths| widths.arithmetic() == arithmetic)
    }

    /// Whether any candidate can be trained on.
    pub fn may_be_trained(&self, mixed: bool) -> bool {
        self.all(mixed).any(|widths| widths.can_be_trained())
    }

    /// Whether the rounding of any candidate can be learned.
    pub fn may_learn_rounding(&self, mixed: bool) -> bool {
        self.all(mixed).any(|widths| widths.can_learn_rounding())
    }

    /// Checks them by the rules for new studies. `at` gives the path of a setting.
    pub(super) fn check(&self, errors: &mut Errors, at: impl Fn(&str) -> String, mixed: bool) {
        let text = |all: &[u32]| {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            format!("one of {}", all.join(", "))
        };
        let known = |bits: &u32| Widths::WEIGHTS.contains(bits);
        errors.check(&at("weight_bits"), &self.weights, known, &text(&Widths::WEIGHTS));
        errors.check(&at("affine_weights"), &self.affine, |_| true, "");
        let known = |bits: &u32| Widths::ACTIVATIONS.contains(bits);
        errors.check(&at("activation_bits"), &self.activations, known, &text(&Widths::ACTIVATIONS));
        if self.affine.contains(&true) && self.weights == [1] {
            let text = "weights of 1 bit are a sign and have no zero point; use false";
            errors.push(&at("affine_weights"), text.to_owned());
        }
        if !self.layers.is_empty() {
            let known = |bits: &u32| Widths::LAYERS.contains(bits);
            errors.check(&at("mixed_bits"), &self.layers, known, &text(&Widths::LAYERS));
            if !mixed {
                let text = "applies to the layers in `mixed`, but `mixed` is empty; leave it out";
                errors.push(&at("mixed_bits"), text.to_owned());
            }
        } else if mixed && self.weights != [8] {
            let text = "is missing; say which bits the layers of mixed may have, such as [4, 32]";
            errors.push(&at("mixed_bits"), text.to_owned());
        }
    }

    /// Checks those of a recipe that was accepted once.
    pub(super) fn check_recorded(&self, errors: &mut Errors, at: impl Fn(&str) -> String) {
        let known = |bits: &u32| (1..=32).contains(bits);
        errors.check_recorded(&at("weight_bits"), &self.weights, known);
        errors.check_recorded(&at("affine_weights"), &self.affine, |_| true);
        errors.check_recorded(&at("activation_bits"), &self.activations, known);
        if !self.layers.is_empty() {
            errors.check_recorded(&at("mixed_bits"), &self.layers, known);
        }
    }
}

fn by_name<S: Serializer>(layers: &[(String, u32)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(layers.iter().map(|(layer, bits)| (layer, bits)))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_eight(bits: &u32) -> bool {
    *bits == 8
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_not(what: &bool) -> bool {
    !*what
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_computes_a_network_follows_from_the_bits() {
        let of = |weights, affine, activations| {
            Widths { weights, affine, activations, layer_bits: Vec::new() }.arithmetic()
        };
        assert_eq!(Widths::default().arithmetic(), Arithmetic::Integers);
        for bits in [1, 2, 4, 8] {
            assert_eq!(of(bits, false, 8), Arithmetic::Integers);
            assert_eq!(of(bits, true, 8), Arithmetic::Reference);
        }
        assert_eq!(of(16, false, 8), Arithmetic::Reference);
        for bits in Widths::WEIGHTS {
            assert_eq!(of(bits, false, 16), Arithmetic::Reference);
            assert_eq!(of(bits, true, 32), Arithmetic::Fp32);
        }
        let one = |bits| Widths { layer_bits: vec![("a".to_owned(), bits)], ..Widths::default() };
        assert_eq!(one(4).arithmetic(), Arithmetic::Integers);
        assert_eq!(one(16).arithmetic(), Arithmetic::Reference);
        assert!(one(4).can_be_trained() && one(1).can_be_trained());
        assert!(one(4).can_learn_rounding() && !one(1).can_learn_rounding());
    }

    #[test]
    fn a_space_knows_what_its_candidates_may_be() {
        let usual = WidthsSpace::default();
        assert!(usual.may_be(Arithmetic::Integers, true) && usual.may_be_trained(true));
        assert!(!usual.may_be(Arithmetic::Reference, true));
        assert!(!usual.may_be(Arithmetic::Fp32, true));
        let wide = WidthsSpace { layers: vec![4, 16], ..usual.clone() };
        assert!(wide.may_be(Arithmetic::Reference, true));
        assert!(!wide.may_be(Arithmetic::Reference, false));
        let binary = WidthsSpace { weights: vec![1], affine: vec![true], ..usual.clone() };
        assert!(!binary.may_be(Arithmetic::Reference, false), "signs have no zero point");
        assert!(binary.may_be_trained(false));
        let real = WidthsSpace { activations: vec![32], ..usual };
        assert!(real.may_be(Arithmetic::Fp32, false) && !real.may_be(Arithmetic::Integers, false));
    }
}

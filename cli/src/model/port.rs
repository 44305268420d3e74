//! What goes into a network and comes out, as files of arrays hold it.

use std::fmt;

use edgesmith_console::invalid;
use edgesmith_data::arrays::NumberArray;
use edgesmith_graph::Shape;
use edgesmith_onnx::PortAxis;

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Sizes of the array of one example, outermost first.
    pub sizes: Vec<usize>,
    /// Which of its axes has the channels.
    pub channels: usize,
    /// Whether arrays hold bytes, `0..=255`, and not any numbers.
    pub bytes: bool,
}

/// The numbers of one array, one example after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// How many.
    pub count: usize,
    /// Whether the array has an axis for them.
    pub axis: bool,
    /// All their numbers.
    pub numbers: Vec<f32>,
}

impl Port {
    /// A tensor of an ONNX file, without its axis of examples. `shape` is that of its value.
    pub fn of_file(port: &edgesmith_onnx::Port, shape: &Shape) -> Self {
        let mut made = Self { name: port.name.clone(), sizes: vec![], channels: 0, bytes: false };
        for axis in &port.axes {
            match axis {
                PortAxis::Batch(_) => {}
                PortAxis::Of(of) => {
                    if *of == 0 {
                        made.channels = made.sizes.len();
                    }
                    made.sizes.push(shape.sizes()[*of as usize] as usize);
                }
                PortAxis::One => made.sizes.push(1),
            }
        }
        made
    }

    /// An input or output of a model, whose value has these sizes in this order.
    pub fn of_model(name: &str, sizes: &[u32], order: &[u32], bytes: bool) -> Self {
        Self {
            name: name.to_owned(),
            sizes: order.iter().map(|&axis| sizes[axis as usize] as usize).collect(),
            channels: order.iter().position(|&axis| axis == 0).unwrap_or(0),
            bytes,
        }
    }

    /// Numbers of one example.
    pub fn elements(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Channels, height and width, if it is a picture.
    pub fn picture(&self) -> Option<[usize; 3]> {
        let mut picture: [usize; 3] = self.sizes.clone().try_into().ok()?;
        picture[..=self.channels].rotate_right(1);
        Some(picture)
    }

    /// The numbers of a picture `[channels][height][width]` in the order of the array.
    ///
    /// # Panics
    /// If it is not a picture, or has another size than `numbers`.
    pub fn arranged(&self, numbers: &[f32]) -> Vec<f32> {
        let [channels, height, width] = self.picture().expect("a picture");
        assert_eq!(numbers.len(), channels * height * width, "a picture of the network's size");
        let mut strides = [height * width, width, 1];
        strides[..=self.channels].rotate_left(1);
        let [first, second, third] = self.sizes[..] else { unreachable!("a picture") };
        let mut arranged = Vec::with_capacity(numbers.len());
        for (i, j) in (0..first).flat_map(|i| (0..second).map(move |j| (i, j))) {
            let start = i * strides[0] + j * strides[1];
            arranged.extend((0..third).map(|k| numbers[start + k * strides[2]]));
        }
        arranged
    }

    /// The examples in an array. It has the sizes of one example, or one more axis before them.
    pub fn examples(&self, array: NumberArray) -> anyhow::Result<Examples> {
        let NumberArray { shape, numbers } = array;
        let examples = if shape == self.sizes {
            Examples { count: 1, axis: false, numbers }
        } else if shape.len() == self.sizes.len() + 1 && shape[1..] == self.sizes[..] {
            Examples { count: shape[0], axis: true, numbers }
        } else {
            let (name, sizes) = (&self.name, by(&self.sizes));
            return Err(invalid(format!(
                "the array for {name} has shape {}, but the network reads {sizes}, with or without \
                 an axis of examples before it",
                by(&shape)
            )));
        };
        if self.bytes
            && let Some(number) =
                examples.numbers.iter().find(|n| n.fract() != 0.0 || !(0.0..=255.0).contains(*n))
        {
            return Err(invalid(format!(
                "the array for {} has {number}, but the network reads pixels: whole numbers from \
                 0 to 255",
                self.name
            )));
        }
        Ok(examples)
    }

    /// The array of these numbers, with an axis of examples or without.
    pub fn array(&self, numbers: Vec<f32>, count: usize, axis: bool) -> NumberArray {
        let mut shape = if axis { vec![count] } else { Vec::new() };
        shape.extend(&self.sizes);
        NumberArray { shape, numbers }
    }
}

/// `image 3x32x32 of bytes`
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, by(&self.sizes))?;
        if self.bytes { f.write_str(" of bytes") } else { Ok(()) }
    }
}

/// `3x32x32`; `one number` without an axis.
fn by(sizes: &[usize]) -> String {
    if sizes.is_empty() {
        return "one number".to_owned();
    }
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(bytes: bool) -> Port {
        Port { name: "x".to_owned(), sizes: vec![2, 3], channels: 0, bytes }
    }

    fn array(shape: &[usize]) -> NumberArray {
        let count = shape.iter().product();
        NumberArray { shape: shape.to_vec(), numbers: (0..count).map(|n| n as f32).collect() }
    }

    #[test]
    fn arrays_have_an_axis_of_examples_or_not() {
        let examples = port(false).examples(array(&[2, 3])).unwrap();
        assert_eq!((examples.count, examples.axis), (1, false));
        let examples = port(false).examples(array(&[4, 2, 3])).unwrap();
        assert_eq!((examples.count, examples.axis, examples.numbers.len()), (4, true, 24));
        let none = port(false).examples(array(&[0, 2, 3])).unwrap();
        assert_eq!(none.count, 0);
        for wrong in [&[3, 2][..], &[6], &[1, 1, 2, 3], &[4, 3, 2]] {
            let error = port(false).examples(array(wrong)).unwrap_err().to_string();
            assert!(error.contains("array for x") && error.contains("2x3"), "{error}");
        }
        assert_eq!(port(false).array(vec![0.0; 12], 2, true).shape, [2, 2, 3]);
        assert_eq!(port(false).array(vec![0.0; 6], 1, false).shape, [2, 3]);
        assert_eq!(port(true).to_string(), "x 2x3 of bytes");
    }

    #[test]
    fn pictures_are_arranged_as_the_array_has_them() {
        let port = |sizes: [usize; 3], channels| Port {
            name: "x".to_owned(),
            sizes: sizes.to_vec(),
            channels,
            bytes: false,
        };
        let planes: Vec<f32> = (0..12).map(|n| n as f32).collect();
        assert_eq!(port([2, 3, 2], 0).picture(), Some([2, 3, 2]));
        assert_eq!(port([2, 3, 2], 0).arranged(&planes), planes);
        // Channels last: 2 rows, 3 columns, 2 channels.
        let last = port([2, 3, 2], 2);
        assert_eq!(last.picture(), Some([2, 2, 3]));
        let expected = [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11].map(|n| n as f32);
        assert_eq!(last.arranged(&planes), expected);
        let middle = port([3, 2, 2], 1);
        assert_eq!(middle.picture(), Some([2, 3, 2]));
        let expected = [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11].map(|n| n as f32);
        assert_eq!(middle.arranged(&planes), expected);
        assert_eq!(Port { sizes: vec![13], ..port([1, 1, 1], 0) }.picture(), None);
    }

    #[test]
    fn pixels_are_whole_numbers_of_a_byte() {
        assert!(port(true).examples(array(&[2, 3])).is_ok());
        for wrong in [0.5, -1.0, 256.0, f32::NAN] {
            let mut array = array(&[2, 3]);
            array.numbers[2] = wrong;
            assert!(port(false).examples(array.clone()).is_ok());
            let error = port(true).examples(array).unwrap_err().to_string();
            assert!(error.contains(&wrong.to_string()), "{error}");
        }
    }
}

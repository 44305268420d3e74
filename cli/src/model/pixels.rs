//! How an image becomes the numbers that a network reads.

use edgesmith_console::invalid;
use edgesmith_data::Normalization;

use super::{Opened, Port};
use crate::output::counted;

/// Options for networks that do not say it themselves.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PixelArgs {
    /// The network reads (pixel / 255 - mean) / std: the mean of each channel, as 0.485,0.456,0.406
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        requires = "std",
        allow_negative_numbers = true
    )]
    pub mean: Vec<f32>,
    /// The standard deviation of each channel
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "mean")]
    pub std: Vec<f32>,
    /// The network reads pixels as they are, 0 to 255
    #[arg(long, conflicts_with_all = ["mean", "std"])]
    pub raw_pixels: bool,
}

/// What the network reads of a pixel.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// The byte; what the network makes of it is inside.
    Raw,
    /// `(byte / 255 - mean) / std`, one per channel.
    Normalized {
        /// The means.
        mean: Vec<f32>,
        /// The standard deviations, above 0.
        std: Vec<f32>,
    },
}

impl Pixels {
    /// As the network says, or else as the options say.
    pub fn of(opened: &Opened, args: &PixelArgs) -> anyhow::Result<Self> {
        Self::known(&opened.words, opened.pixels.as_ref(), args)?.ok_or_else(|| {
            invalid(format!(
                "{} does not say how it reads pixels; give --mean and --std of pixels divided by \
                 255 (0 and 1 for pixels from 0 to 1), or --raw-pixels for pixels from 0 to 255",
                opened.words
            ))
        })
    }

    /// As the network says, or else as the options say; `None` if neither does. `words` name the
    /// network.
    pub fn known(
        words: &str,
        said: Option<&Self>,
        args: &PixelArgs,
    ) -> anyhow::Result<Option<Self>> {
        let given = Self::given(args)?;
        if said.is_some() && given.is_some() {
            return Err(invalid(format!(
                "{words} says itself how it reads pixels; leave out --mean, --std and --raw-pixels"
            )));
        }
        Ok(said.cloned().or(given))
    }

    /// What the options say; `None` if they say nothing.
    pub fn given(args: &PixelArgs) -> anyhow::Result<Option<Self>> {
        let PixelArgs { mean, std, raw_pixels } = args;
        if *raw_pixels {
            return Ok(Some(Pixels::Raw));
        }
        if mean.is_empty() {
            return Ok(None);
        }
        if mean.len() != std.len() {
            let (means, stds) = (counted(mean.len(), "number"), std.len());
            return Err(invalid(format!(
                "--mean has {means} and --std has {stds}; give one of each per channel"
            )));
        }
        if let Some(number) = std.iter().find(|std| !(std.is_finite() && **std > 0.0)) {
            return Err(invalid(format!("--std has {number}; give numbers above 0")));
        }
        if let Some(number) = mean.iter().find(|mean| !mean.is_finite()) {
            return Err(invalid(format!("--mean has {number}; give finite numbers")));
        }
        Ok(Some(Pixels::Normalized { mean: mean.clone(), std: std.clone() }))
    }

    /// Channels, height and width of the picture that an input is.
    pub fn picture(&self, port: &Port) -> anyhow::Result<(usize, (usize, usize))> {
        let picture = match port.picture() {
            Some([channels @ (1 | 3), height, width]) => (channels, (height, width)),
            _ => {
                return Err(invalid(format!(
                    "{port} is not a picture of 1 or 3 channels; give the network's input as .npy"
                )));
            }
        };
        if let Pixels::Normalized { mean, .. } = self
            && mean.len() != 1
            && mean.len() != picture.0
        {
            let given = counted(mean.len(), "number");
            let channels = counted(picture.0, "channel");
            return Err(invalid(format!("--mean has {given}, but the network reads {channels}")));
        }
        Ok(picture)
    }

    /// The constants that make what the network reads of bytes, one for each channel of an input.
    pub fn normalization(&self, port: &Port) -> anyhow::Result<Normalization> {
        let (channels, _) = self.picture(port)?;
        let all = |numbers: &[f32]| {
            // One may stand for all channels.
            (0..channels).map(|channel| numbers[channel.min(numbers.len() - 1)]).collect()
        };
        Ok(match self {
            Pixels::Raw => Normalization { mean: all(&[0.0]), std: all(&[1.0 / 255.0]) },
            Pixels::Normalized { mean, std } => Normalization { mean: all(mean), std: all(std) },
        })
    }

    /// The numbers of bytes `[channels][height][width]`, in the same order.
    pub fn numbers(&self, bytes: &[u8], channels: usize) -> Vec<f32> {
        match self {
            Pixels::Raw => bytes.iter().map(|&byte| f32::from(byte)).collect(),
            Pixels::Normalized { mean, std } => {
                let plane = bytes.len() / channels;
                let normalized = |(place, &byte): (usize, &u8)| {
                    // One pair may stand for all channels.
                    let channel = (place / plane).min(mean.len() - 1);
                    (f32::from(byte) / 255.0 - mean[channel]) / std[channel]
                };
                bytes.iter().enumerate().map(normalized).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(mean: &[f32], std: &[f32]) -> PixelArgs {
        PixelArgs { mean: mean.to_vec(), std: std.to_vec(), raw_pixels: false }
    }

    #[test]
    fn pixels_are_normalised_per_channel() {
        let pixels = Pixels::given(&args(&[0.5, 0.0], &[0.5, 1.0])).unwrap().unwrap();
        assert_eq!(pixels.numbers(&[0, 255, 0, 255], 2), [-1.0, 1.0, 0.0, 1.0]);
        let one = Pixels::given(&args(&[0.0], &[0.5])).unwrap().unwrap();
        assert_eq!(one.numbers(&[0, 255, 0, 255], 2), [0.0, 2.0, 0.0, 2.0]);
        let raw = PixelArgs { raw_pixels: true, ..PixelArgs::default() };
        assert_eq!(Pixels::given(&raw).unwrap(), Some(Pixels::Raw));
        assert_eq!(Pixels::Raw.numbers(&[7, 255], 1), [7.0, 255.0]);
        assert_eq!(Pixels::given(&PixelArgs::default()).unwrap(), None);
    }

    #[test]
    fn wrong_constants_are_refused() {
        let error =
            |mean: &[f32], std: &[f32]| Pixels::given(&args(mean, std)).unwrap_err().to_string();
        assert!(error(&[0.5], &[0.5, 1.0]).contains("--mean has 1 number and --std has 2;"));
        assert!(error(&[0.5], &[0.0]).contains("above 0"));
        assert!(error(&[f32::NAN], &[1.0]).contains("finite"));
        let port = |sizes: &[usize]| Port {
            name: "x".to_owned(),
            sizes: sizes.to_vec(),
            channels: 0,
            bytes: false,
        };
        let pixels = Pixels::given(&args(&[0.5, 0.5], &[0.5, 1.0])).unwrap().unwrap();
        assert_eq!(Pixels::Raw.picture(&port(&[3, 8, 9])).unwrap(), (3, (8, 9)));
        let one = Pixels::given(&args(&[0.25], &[0.5])).unwrap().unwrap();
        let constants = one.normalization(&port(&[3, 8, 9])).unwrap();
        assert_eq!((constants.mean, constants.std), (vec![0.25; 3], vec![0.5; 3]));
        let error = |sizes: &[usize]| pixels.picture(&port(sizes)).unwrap_err().to_string();
        assert!(error(&[3, 8, 9]).contains("3 channels"));
        assert!(
            error(&[1, 8, 9]).ends_with("--mean has 2 numbers, but the network reads 1 channel")
        );
        let error = Pixels::Raw.picture(&port(&[13])).unwrap_err().to_string();
        assert!(error.contains(".npy"), "{error}");
    }
}

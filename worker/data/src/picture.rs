//! Reads one image from a file. Images are PNG or JPEG, which is detected from the content. They are
//! turned upright, converted to grey or RGB, and resized. Transparency is ignored.

use std::io::{self, Cursor};
use std::path::Path;

use edgesmith_common::ArtifactHash;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::image_set::Resize;
use super::listing::format_name;
use super::{DataError, ImageSet};
use crate::files;

/// Largest size of an image file, bytes.
const MAX_FILE: u64 = 512 << 20;
/// Largest size of a decoded image, bytes.
const MAX_DECODED: u64 = 512 << 20;

/// The bytes `[channels][height][width]` of one image, 1 channel (grey) or 3 (red, green, blue),
/// from a file. An image folder whose `side` is `height` and `width` gives the same bytes, except of
/// 16-bit images of a folder in which all images are darker than that.
///
/// # Errors
/// If the file cannot be read, or is no PNG or JPEG.
///
/// # Panics
/// If there are neither 1 nor 3 channels, or a size is 0.
pub fn read_image(
    path: &Path,
    channels: usize,
    (height, width): (usize, usize),
) -> Result<Vec<u8>, DataError> {
    assert!(channels == 1 || channels == 3, "images are grey or in colour");
    let (image, _) = decode(path)?;
    let pixels = vec![0; channels * height * width];
    let mut set = ImageSet { channels, height, width, pixels, labels: vec![0] };
    put(image, u16::MAX, 0, &mut set);
    Ok(set.pixels)
}

/// The values of an image with 16 bits per value.
pub(super) fn samples_of_16_bits(image: &mut DynamicImage) -> Option<&mut [u16]> {
    match image {
        DynamicImage::ImageLuma16(image) => Some(image),
        DynamicImage::ImageLumaA16(image) => Some(image),
        DynamicImage::ImageRgb16(image) => Some(image),
        DynamicImage::ImageRgba16(image) => Some(image),
        _ => None,
    }
}

/// The image in a file, and the hash of the file.
pub(super) fn decode(path: &Path) -> Result<(DynamicImage, ArtifactHash), DataError> {
    let bytes = files::read(path, MAX_FILE)?;
    let hash = ArtifactHash::of(&bytes);
    let undecodable = |why| DataError::Undecodable { path: path.to_owned(), why };
    if bytes.is_empty() {
        return Err(undecodable("it is empty"));
    }
    if jpeg_is_cut_short(&bytes) {
        return Err(undecodable(TRUNCATED));
    }
    let format = match image::guess_format(&bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        Ok(other) => {
            let format = Some(format_name(other));
            return Err(DataError::Unsupported { path: path.to_owned(), format });
        }
        Err(_) => return Err(undecodable("its content is no image")),
    };
    let decoded = || -> Result<Result<DynamicImage, DataError>, ImageError> {
        let reader = ImageReader::with_format(Cursor::new(&bytes), format);
        let mut decoder = reader.into_decoder()?;
        if decoder.total_bytes() > MAX_DECODED {
            let (width, height) = decoder.dimensions();
            let (path, bytes, limit) = (path.to_owned(), decoder.total_bytes(), MAX_DECODED);
            return Ok(Err(DataError::TooManyPixels { path, width, height, bytes, limit }));
        }
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        Ok(Ok(image))
    };
    let decoded = decoded().map_err(|error| undecodable(in_words(&error, &bytes)))?;
    Ok((decoded?, hash))
}

const TRUNCATED: &str = "it is truncated";

/// Why an image cannot be decoded. The decoders' own texts are for programmers: they name chunks,
/// segments and types of Rust.
fn in_words(error: &ImageError, bytes: &[u8]) -> &'static str {
    let png = bytes.starts_with(b"\x89PNG");
    match error {
        // Every PNG file ends with this chunk.
        _ if png && !bytes.windows(4).any(|name| name == b"IEND") => TRUNCATED,
        ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => TRUNCATED,
        ImageError::Unsupported(_) if png => "it is an unusual kind of PNG that cannot be read",
        ImageError::Unsupported(_) => {
            "it is an unusual kind of JPEG that cannot be read, such as a lossless one"
        }
        ImageError::Limits(_) => "it is larger than its decoder allows",
        ImageError::IoError(_)
        | ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_) => "its content is damaged",
    }
}

/// Whether bytes are a JPEG file that ends in the middle of its image. The decoder does not report
/// this and invents the rest. A JPEG file is a sequence of segments with announced lengths,
/// followed by the compressed data, in which no two bytes look like the end marker.
fn jpeg_is_cut_short(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    if !bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return false;
    }
    let mut at = 2;
    loop {
        match bytes.get(at..at + 4) {
            Some(&[0xff, START_OF_SCAN, ..]) => {
                return !bytes[at..].windows(2).any(|pair| pair == END_OF_IMAGE);
            }
            // Markers may be padded with 0xff.
            Some(&[0xff, 0xff, ..]) => at += 1,
            Some(&[0xff, _, high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
            // Not a segment: the decoder reports the error.
            Some(_) => return false,
            None => return true,
        }
    }
}

/// Writes an image to place `i` of the set, converted to the set's channels and size. `full` is the
/// value of full brightness in 16-bit images.
pub(super) fn put(mut image: DynamicImage, full: u16, i: usize, set: &mut ImageSet) {
    if full < u16::MAX
        && let Some(samples) = samples_of_16_bits(&mut image)
    {
        let (full, most) = (u32::from(full), u32::from(u16::MAX));
        for value in samples {
            *value = (u32::from(*value).min(full) * most / full) as u16;
        }
    }
    let size = (image.height() as usize, image.width() as usize);
    let interleaved = match set.channels {
        1 => image.into_luma8().into_raw(),
        _ => image.into_rgb8().into_raw(),
    };
    let mut resize = Resize::new(size, (set.height, set.width));
    let (bytes, channels, plane_size) = (set.image_bytes(), set.channels, set.height * set.width);
    let place = &mut set.pixels[i * bytes..(i + 1) * bytes];
    for (channel, out) in place.chunks_exact_mut(plane_size).enumerate() {
        let plane: Vec<u8> = interleaved.iter().copied().skip(channel).step_by(channels).collect();
        resize.plane(&plane, out);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{GrayImage, ImageEncoder, RgbImage};

    use super::*;

    /// A JPEG file's bytes: 16 × 8, the left half black and the right half white.
    pub fn jpeg(orientation: Option<u8>) -> Vec<u8> {
        let image = GrayImage::from_fn(16, 8, |x, _| image::Luma([if x < 8 { 0 } else { 255 }]));
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
        if let Some(orientation) = orientation {
            // A big-endian TIFF directory with one entry, the orientation.
            let mut exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
            exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
            encoder.set_exif_metadata(exif).unwrap();
        }
        encoder.write_image(&image, 16, 8, image::ExtendedColorType::L8).unwrap();
        bytes
    }

    #[test]
    fn the_end_of_a_jpeg_file_may_be_followed_by_anything() {
        let photo = jpeg(Some(1));
        assert!(!jpeg_is_cut_short(&photo));
        assert!(!jpeg_is_cut_short(&[&photo[..], &[0xff, 0xda, 1, 2]].concat()));
        for length in 3..photo.len() {
            assert!(jpeg_is_cut_short(&photo[..length]), "{length} of {}", photo.len());
        }
        assert!(!jpeg_is_cut_short(b"\x89PNG"));
    }

    #[test]
    fn one_image_is_read_in_grey_and_in_colour() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.png");
        RgbImage::from_fn(4, 2, |x, _| image::Rgb([x as u8 * 10, 100, 200])).save(&path).unwrap();
        let colour = read_image(&path, 3, (2, 4)).unwrap();
        assert_eq!(colour[..8], [0, 10, 20, 30, 0, 10, 20, 30]);
        assert_eq!(colour[8..], [&[100; 8][..], &[200; 8]].concat());
        // Means of two columns.
        assert_eq!(read_image(&path, 3, (1, 2)).unwrap(), [5, 25, 100, 100, 200, 200]);
        assert_eq!(read_image(&path, 1, (2, 4)).unwrap().len(), 8);
        let missing = read_image(&directory.path().join("b.png"), 1, (2, 2)).unwrap_err();
        assert!(missing.to_string().contains("b.png"), "{missing}");
    }
}

//! Numbers of a tensor in fewer bytes than one after the other: without those that are zero, by
//! their places in a codebook, or both (Han et al. 2016, "Deep compression"). Reading gives back
//! the same numbers bit for bit. It chooses by size alone and knows nothing of layers.
//!
//! A code of variable length ([`huffman`]) is used only if the tensor is smaller without it
//! already. It saves about a tenth of ordinary weights in integers, which is not worth a file that
//! older engines cannot read.

use std::fmt;

use super::read::{Reader, malformed};
use super::write::Writer;
use super::{Number, huffman};
use crate::error::{FormatProblem, ModelError};

/// Added to the code of a tensor whose numbers are packed.
pub(super) const PACKED: u8 = 16;
/// Most bytes of numbers for each byte that they are packed into. It bounds the memory that a file
/// takes. What is shorter is filled up with zeros, so that fewer weights never need more bytes.
const MOST_PER_BYTE: u64 = 64;
/// Most bytes of all numbers of a file that are packed, once they are unpacked.
pub(super) const MOST_UNPACKED: u64 = 1 << 31;
/// Most numbers of a codebook.
const MOST_CODES: usize = 256;
/// A gap that is followed by another gap, and not by a number.
const LONG_GAP: u8 = u8::MAX;

/// How numbers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    places: Places,
    values: Values,
}

/// Which numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    /// All.
    All,
    /// Those that are not zero, with a bit for each number.
    Bitmap,
    /// Those that are not zero, each with the count of zeros before it.
    Gaps {
        /// Whether the counts have codes of variable length.
        huffman: bool,
    },
}

/// How the numbers that are stored are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    /// As they are.
    Plain,
    /// By their places in a codebook.
    Codes {
        /// Whether the places have codes of variable length.
        huffman: bool,
    },
}

impl Packing {
    /// Its code in the file.
    fn code(self) -> u8 {
        let places = match self.places {
            Places::All => 0,
            Places::Bitmap => 1,
            Places::Gaps { huffman: false } => 2,
            Places::Gaps { huffman: true } => 3,
        };
        let values = match self.values {
            Values::Plain => 0,
            Values::Codes { huffman: false } => 1,
            Values::Codes { huffman: true } => 2,
        };
        places | values << 2
    }

    /// That of a code. There is none for all numbers as they are.
    fn of_code(code: u8) -> Option<Self> {
        let places = match code & 3 {
            0 => Places::All,
            1 => Places::Bitmap,
            2 => Places::Gaps { huffman: false },
            _ => Places::Gaps { huffman: true },
        };
        let values = match code >> 2 {
            0 => Values::Plain,
            1 => Values::Codes { huffman: false },
            2 => Values::Codes { huffman: true },
            _ => return None,
        };
        (code != 0).then_some(Self { places, values })
    }

    /// Whether it has codes of variable length.
    fn has_huffman(self) -> bool {
        self.places == Places::Gaps { huffman: true }
            || self.values == Values::Codes { huffman: true }
    }
}

/// `sparse (bitmap)`, `clustered`, `sparse (gaps), clustered, Huffman`.
impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = match self.places {
            Places::All => None,
            Places::Bitmap => Some("sparse (bitmap)"),
            Places::Gaps { .. } => Some("sparse (gaps)"),
        };
        let values = match self.values {
            Values::Plain => None,
            Values::Codes { .. } => Some("clustered"),
        };
        let huffman = self.has_huffman().then_some("Huffman");
        let words: Vec<&str> = [places, values, huffman].into_iter().flatten().collect();
        f.write_str(&words.join(", "))
    }
}

/// The shortest way to pack numbers, and the bytes; `None` if they are not fewer.
pub(super) fn pack<T: Number>(numbers: &[T]) -> Option<(Packing, Vec<u8>)> {
    let plain = numbers.len() * T::BYTES;
    // Mostly there is nothing to gain, and counting is enough to know it.
    if least_bytes(numbers) >= plain {
        return None;
    }
    let patterns: Vec<u32> = numbers.iter().map(|number| number.pattern()).collect();
    let stored: Vec<u32> = patterns.iter().copied().filter(|pattern| *pattern != 0).collect();
    let shortest = |huffman: bool| {
        let (all, (of_stored, more)) =
            (values::<T>(&patterns, huffman), values::<T>(&stored, huffman));
        let sparse = [(Places::Bitmap, bitmap(&patterns)), gaps(&patterns, huffman)];
        let sparse = sparse.map(|(places, mut bytes)| {
            bytes.extend_from_slice(&more);
            (Packing { places, values: of_stored }, bytes)
        });
        let all = (Packing { places: Places::All, values: all.0 }, all.1);
        let ways = [all].into_iter().chain(sparse);
        let ways = ways.filter(|(packing, _)| packing.code() != 0).map(|(packing, mut bytes)| {
            bytes.resize(bytes.len().max(fewest(plain as u64) as usize), 0);
            (packing, bytes)
        });
        ways.min_by_key(|(_, bytes)| packed_bytes(bytes))
    };
    let without = shortest(false)?;
    if packed_bytes(&without.1) >= plain {
        return None;
    }
    [Some(without), shortest(true)].into_iter().flatten().min_by_key(|(_, b)| packed_bytes(b))
}

/// Fewer bytes than these do not hold the numbers without codes of variable length.
fn least_bytes<T: Number>(numbers: &[T]) -> usize {
    let zeros = numbers.iter().filter(|number| number.pattern() == 0).count();
    let stored = numbers.len() - zeros;
    let codes = codebook(numbers.iter().map(|number| number.pattern()), MOST_CODES + 1);
    let codes = codes.map(|codes| codes.len());
    let of = |count: usize, codes: Option<usize>| {
        let plain = count * T::BYTES;
        match codes.filter(|codes| (1..=MOST_CODES).contains(codes)) {
            Some(codes) => {
                plain.min(codes * T::BYTES + (count * width(codes) as usize).div_ceil(8))
            }
            None => plain,
        }
    };
    // Each stored number has a gap, of a byte.
    let places = numbers.len().div_ceil(8).min(stored);
    let of_stored = of(stored, codes.map(|codes| codes - usize::from(zeros > 0)));
    of(numbers.len(), codes).min(places + of_stored)
}

/// Appends what [`pack`] made.
pub(super) fn write(packing: Packing, bytes: &[u8], file: &mut Writer) {
    file.byte(packing.code());
    file.bytes(bytes);
}

/// Reads `count` numbers that were packed.
pub(super) fn read<T: Number>(file: &mut Reader, count: u64) -> Result<Vec<T>, ModelError> {
    let packing = file.code("packing", Packing::of_code)?;
    let at = file.at();
    let mut packed = file.part()?;
    let unpacked = count.saturating_mul(T::BYTES as u64);
    let length = packed.left() as u64;
    if length < fewest(unpacked) {
        return Err(wrong(at, "too many numbers for so few bytes"));
    }
    let count = usize::try_from(count).ok().filter(|_| file.may_unpack(unpacked));
    let count = count.ok_or_else(|| wrong(at, "all packed numbers together take over 2 GiB"))?;
    let places = match packing.places {
        Places::All => None,
        Places::Bitmap => Some(read_bitmap(&mut packed, count)?),
        Places::Gaps { huffman } => Some(read_gaps(&mut packed, count, huffman)?),
    };
    let stored = places.as_ref().map_or(count, Vec::len);
    let values = read_values(&mut packed, stored, packing.values)?;
    let is_filled_up = length == fewest(unpacked) && packed.rest_bytes().iter().all(|b| *b == 0);
    if !is_filled_up {
        packed.end()?;
    }
    let Some(places) = places else { return Ok(values) };
    let mut numbers = vec![T::of_pattern(0); count];
    for (place, value) in places.into_iter().zip(values) {
        numbers[place as usize] = value;
    }
    Ok(numbers)
}

/// The fewest bytes that so many bytes of numbers are packed into.
fn fewest(unpacked: u64) -> u64 {
    unpacked.div_ceil(MOST_PER_BYTE)
}

/// The bytes of packed numbers with how they are packed and with their count.
fn packed_bytes(bytes: &[u8]) -> usize {
    let mut file = Writer::new();
    file.size(bytes.len() as u32);
    1 + file.into_bytes().len() + bytes.len()
}

fn wrong(at: usize, what: &'static str) -> ModelError {
    malformed(at, FormatProblem::Packed(what))
}

/// A bit for each number, the lowest bit of a byte first; it is 1 if the number is not zero.
fn bitmap(patterns: &[u32]) -> Vec<u8> {
    let byte = |eight: &[u32]| {
        let bits = eight.iter().enumerate().map(|(bit, pattern)| u8::from(*pattern != 0) << bit);
        bits.sum()
    };
    patterns.chunks(8).map(byte).collect()
}

/// Places have 32 bits, because packed numbers are fewer than 2^31 and their places only help to
/// read them.
fn read_bitmap(packed: &mut Reader, count: usize) -> Result<Vec<u32>, ModelError> {
    let at = packed.at();
    let bytes = packed.raw(count.div_ceil(8))?;
    let is_set = |place: &usize| bytes[place / 8] >> (place % 8) & 1 == 1;
    if (count..bytes.len() * 8).any(|place| is_set(&place)) {
        return Err(wrong(at, "a bit of the bitmap is behind the last number"));
    }
    Ok((0..count).filter(is_set).map(|place| place as u32).collect())
}

/// The shortest way to write the counts of zeros before each number that is not zero, as bytes: 255
/// zeros without a number behind them are [`LONG_GAP`].
fn gaps(patterns: &[u32], with_huffman: bool) -> (Places, Vec<u8>) {
    let (mut gaps, mut zeros) = (Vec::new(), 0);
    for &pattern in patterns {
        if pattern != 0 {
            gaps.push(zeros);
            zeros = 0;
        } else {
            zeros += 1;
            if zeros == LONG_GAP {
                gaps.push(LONG_GAP);
                zeros = 0;
            }
        }
    }
    // What follows the last number is zero anyway.
    while gaps.last() == Some(&LONG_GAP) {
        gaps.pop();
    }
    let mut plain = Writer::new();
    plain.bytes(&gaps);
    let plain = (Places::Gaps { huffman: false }, plain.into_bytes());
    let Some(most) = gaps.iter().max().filter(|_| with_huffman) else { return plain };
    let symbols = usize::from(*most) + 1;
    let mut coded = Writer::new();
    coded.size(gaps.len() as u32);
    coded.size(symbols as u32);
    huffman::write(&gaps, symbols, &mut coded);
    let coded = (Places::Gaps { huffman: true }, coded.into_bytes());
    if coded.1.len() < plain.1.len() { coded } else { plain }
}

fn read_gaps(
    packed: &mut Reader,
    count: usize,
    with_huffman: bool,
) -> Result<Vec<u32>, ModelError> {
    let at = packed.at();
    let stored = packed.size()? as usize;
    let gaps = if with_huffman {
        let symbols = packed.size()? as usize;
        huffman::read(packed, stored, symbols, |gap| gap)?
    } else {
        packed.raw(stored)?.to_vec()
    };
    let (mut places, mut place) = (Vec::with_capacity(gaps.len()), 0usize);
    for gap in gaps {
        place += usize::from(gap);
        if gap != LONG_GAP {
            places.push(place as u32);
            place += 1;
        }
        if place > count {
            return Err(wrong(at, "a gap ends behind the last number"));
        }
    }
    Ok(places)
}

/// The shortest way to write numbers one after the other.
fn values<T: Number>(patterns: &[u32], with_huffman: bool) -> (Values, Vec<u8>) {
    let mut plain = Vec::with_capacity(patterns.len() * T::BYTES);
    patterns.iter().for_each(|&pattern| T::of_pattern(pattern).write(&mut plain));
    let plain = (Values::Plain, plain);
    let codes = codebook(patterns.iter().copied(), MOST_CODES);
    let Some(codes) = codes.filter(|codes| !codes.is_empty()) else { return plain };
    let width = width(codes.len());
    let book_bytes = codes.len() * T::BYTES;
    let bits = patterns.len() * width as usize;
    if !with_huffman && book_bytes + bits / 8 >= plain.1.len() {
        return plain;
    }
    let place = |pattern| codes.binary_search(pattern).expect("it is in the codebook") as u8;
    let indices: Vec<u8> = patterns.iter().map(place).collect();
    let book = || {
        let mut book = Writer::new();
        book.size(codes.len() as u32);
        let mut numbers = Vec::with_capacity(book_bytes);
        codes.iter().for_each(|&pattern| T::of_pattern(pattern).write(&mut numbers));
        book.raw(&numbers);
        book
    };
    let mut fixed = book();
    let mut bits = huffman::BitWriter::default();
    indices.iter().for_each(|&index| bits.push(u32::from(index), width));
    fixed.raw(&bits.finish());
    let fixed = (Values::Codes { huffman: false }, fixed.into_bytes());
    let coded = with_huffman.then(|| {
        let mut coded = book();
        huffman::write(&indices, codes.len(), &mut coded);
        (Values::Codes { huffman: true }, coded.into_bytes())
    });
    let others = [Some(fixed), coded].into_iter().flatten();
    others.fold(plain, |best, other| if other.1.len() < best.1.len() { other } else { best })
}

/// All numbers that occur, ascending; `None` if they are more than `most`.
fn codebook(patterns: impl Iterator<Item = u32>, most: usize) -> Option<Vec<u32>> {
    let mut known: Vec<u32> = Vec::new();
    for pattern in patterns {
        if let Err(place) = known.binary_search(&pattern) {
            if known.len() == most {
                return None;
            }
            known.insert(place, pattern);
        }
    }
    Some(known)
}

fn read_values<T: Number>(
    packed: &mut Reader,
    count: usize,
    values: Values,
) -> Result<Vec<T>, ModelError> {
    let huffman = match values {
        Values::Plain => {
            let bytes = packed.take((count as u64).saturating_mul(T::BYTES as u64))?;
            return Ok(bytes.chunks_exact(T::BYTES).map(T::read).collect());
        }
        Values::Codes { huffman } => huffman,
    };
    let at = packed.at();
    let codes = packed.size()? as usize;
    if !(1..=MOST_CODES).contains(&codes) {
        return Err(wrong(at, "a codebook has 1 to 256 numbers"));
    }
    let book = packed.raw(codes * T::BYTES)?;
    let book: Vec<T> = book.chunks_exact(T::BYTES).map(T::read).collect();
    if !book.is_sorted_by(|a, b| a.pattern() < b.pattern()) {
        return Err(wrong(at, "the numbers of a codebook are not in order"));
    }
    let at = packed.at();
    if huffman {
        return huffman::read(packed, count, codes, |index| book[usize::from(index)]);
    }
    let width = width(codes);
    let bytes = packed.take((count as u64).saturating_mul(width.into()).div_ceil(8))?;
    let mut bits = huffman::BitReader::new(bytes);
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        let index = bits.take(width).ok_or_else(|| wrong(at, "a number is cut off"))?;
        let number = book.get(index as usize).copied();
        numbers.push(number.ok_or_else(|| wrong(at, "a number is not in the codebook"))?);
    }
    if !bits.rest_is_zero() {
        return Err(wrong(at, "a bit is set behind the last number"));
    }
    Ok(numbers)
}

/// Bits that tell so many codes apart.
fn width(codes: usize) -> u32 {
    usize::BITS - (codes - 1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers of which a share is zero and the others have so many values.
    fn numbers(count: usize, zeros: f64, values: u32, seed: u64) -> Vec<f32> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as u32
        };
        let number = |_| {
            let is_zero = f64::from(next()) < zeros * f64::from(1 << 24);
            if is_zero { 0.0 } else { (next() % values) as f32 - 0.5 }
        };
        (0..count).map(number).collect()
    }

    fn packed<T: Number>(numbers: &[T]) -> Option<(Packing, Vec<u8>)> {
        let (packing, bytes) = pack(numbers)?;
        let mut file = Writer::new();
        write(packing, &bytes, &mut file);
        Some((packing, file.into_bytes()))
    }

    fn unpacked<T: Number>(bytes: &[u8], count: u64) -> Result<Vec<T>, ModelError> {
        let mut file = Reader::of(bytes);
        let numbers = read(&mut file, count)?;
        file.end()?;
        Ok(numbers)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn numbers_come_back_bit_for_bit_and_in_fewer_bytes(
            count in 0usize..3000,
            zeros in 0.0..1.0f64,
            values in prop_oneof![1u32..20, 200u32..300, Just(1 << 20)],
            seed: u64,
        ) {
            let floats = numbers(count, zeros, values, seed);
            if let Some((_, bytes)) = packed(&floats) {
                prop_assert!(bytes.len() < 4 * count);
                let read: Vec<f32> = unpacked(&bytes, count as u64).unwrap();
                let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&read), bits(&floats));
            }
            let bytes: Vec<i8> = floats.iter().map(|x| x.ceil() as i32 as i8).collect();
            if let Some((_, packed)) = packed(&bytes) {
                prop_assert!(packed.len() < count);
                prop_assert_eq!(unpacked::<i8>(&packed, count as u64).unwrap(), bytes);
            }
        }

        /// What is not packed has no shorter form, and what is packed is not below the bound.
        #[test]
        fn the_bound_is_below_all_forms_of_fixed_length(
            count in 0usize..2000,
            zeros in 0.0..1.0f64,
            values in prop_oneof![1u32..20, 200u32..300, Just(1 << 20)],
            seed: u64,
        ) {
            let floats = numbers(count, zeros, values, seed);
            let patterns: Vec<u32> = floats.iter().map(|x| x.to_bits()).collect();
            let stored: Vec<u32> = patterns.iter().copied().filter(|x| *x != 0).collect();
            let of = |patterns: &[u32]| self::values::<f32>(patterns, false).1.len();
            let places = bitmap(&patterns).len().min(gaps(&patterns, false).1.len());
            let least = of(&patterns).min(places + of(&stored));
            prop_assert!(least_bytes(&floats) <= least);
        }

        /// Changed bytes and lengths give an error or other numbers, of which there are as many.
        #[test]
        fn damage_does_not_panic(
            count in 1usize..600,
            zeros in 0.5..1.0f64,
            values in 1u32..300,
            seed: u64,
            changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..5),
            cut in prop::option::of(0usize..400),
            more in 0u64..3,
        ) {
            let Some((_, mut bytes)) = packed(&numbers(count, zeros, values, seed)) else {
                return Ok(());
            };
            for (at, byte) in changes {
                // Mostly what is at the beginning: the way, lengths and codebooks.
                let span = if at % 2 == 0 { bytes.len().min(12) } else { bytes.len() };
                bytes[at / 2 % span] = byte;
            }
            bytes.truncate(cut.unwrap_or(usize::MAX));
            let count = [count as u64, u64::MAX, 1 << 40][more as usize];
            if let Ok(numbers) = unpacked::<f32>(&bytes, count) {
                prop_assert_eq!(numbers.len() as u64, count);
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            code in 0u8..12,
            count in 0u64..10_000,
        ) {
            let mut file = vec![code, bytes.len() as u8];
            file.extend(bytes);
            if let Ok(numbers) = unpacked::<i8>(&file, count) {
                prop_assert_eq!(numbers.len() as u64, count);
            }
        }
    }

    #[test]
    fn each_way_is_chosen_where_it_is_the_shortest() {
        let said = |numbers: &[f32]| packed(numbers).map(|(packing, _)| packing.to_string());
        let many = 1 << 22;
        assert_eq!(said(&numbers(4000, 0.0, many, 1)), None);
        assert_eq!(said(&numbers(4000, 0.5, many, 1)).unwrap(), "sparse (bitmap)");
        assert_eq!(said(&numbers(4000, 0.95, many, 1)).unwrap(), "sparse (gaps)");
        assert_eq!(said(&numbers(40_000, 0.95, many, 1)).unwrap(), "sparse (gaps), Huffman");
        assert_eq!(said(&numbers(4000, 0.0, 16, 1)).unwrap(), "clustered");
        assert_eq!(said(&numbers(4000, 0.9, 16, 1)).unwrap(), "sparse (gaps), clustered, Huffman");
        // A codebook of one number, filled up to half a bit each.
        let zeros = packed(&[0f32; 800]).unwrap();
        assert_eq!((zeros.0.to_string().as_str(), zeros.1.len()), ("clustered", 1 + 1 + 50));
        // A codebook of a few numbers is no gain.
        assert_eq!(said(&[0.5, 0.25, 0.5]), None);
        // Negative zeros are numbers.
        let negative: Vec<f32> = (0..100).map(|i| if i % 2 == 0 { -0.0 } else { 0.0 }).collect();
        let (_, bytes) = packed(&negative).unwrap();
        let read: Vec<f32> = unpacked(&bytes, 100).unwrap();
        assert!(read.iter().zip(&negative).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    /// What would be too short for a reader is filled up with zeros, so that fewer weights are
    /// never more bytes. A reader takes no other filling.
    #[test]
    fn numbers_are_not_packed_tighter_than_a_reader_takes() {
        let few = numbers(4000, 0.97, 1, 1);
        let (packing, bytes) = packed(&few).unwrap();
        assert_eq!(packing.to_string(), "sparse (gaps), clustered");
        // The way, two bytes of the length, and what is filled up.
        assert_eq!((bytes.len(), bytes.last()), (1 + 2 + 4000 * 4 / 64, Some(&0)));
        assert_eq!(unpacked::<f32>(&bytes, 4000).unwrap(), few);
        let mut other = bytes.clone();
        *other.last_mut().unwrap() = 1;
        assert!(unpacked::<f32>(&other, 4000).is_err());
        let longer = [&[bytes[0], bytes[1] + 1], &bytes[2..], &[0]].concat();
        assert!(unpacked::<f32>(&longer, 4000).is_err());
        let signs = |zeros: f64| -> Vec<i8> {
            numbers(40_000, zeros, 1 << 20, 1)
                .iter()
                .map(|x| if *x == 0.0 { 0 } else { 1 - 2 * (x.to_bits() & 1) as i8 })
                .collect()
        };
        let sizes = [0.8, 0.9, 0.95, 0.99, 0.999].map(|zeros| {
            let numbers = signs(zeros);
            let (packing, bytes) = packed(&numbers).unwrap();
            assert!(packing.to_string().starts_with("sparse (gaps)"), "{zeros}: {packing}");
            assert_eq!(unpacked::<i8>(&bytes, 40_000).unwrap(), numbers);
            bytes.len()
        });
        assert!(sizes.is_sorted_by(|more, fewer| more >= fewer), "{sizes:?}");
    }

    #[test]
    fn the_packed_numbers_of_a_file_have_a_limit_together() {
        let over = "all packed numbers together take over 2 GiB";
        let (most, length) = (MOST_UNPACKED / 4, MOST_UNPACKED / 64 + 1);
        let mut file = vec![4, length as u8 & 0x7f | 0x80, (length >> 7) as u8 | 0x80];
        file.extend([(length >> 14) as u8 | 0x80, (length >> 21) as u8]);
        let at = file.len() - 4;
        file.resize(file.len() + length as usize, 0);
        let error = unpacked::<f32>(&file, most + 1).unwrap_err();
        assert_eq!(error, wrong(at, over));
        // Two tensors that are small enough alone.
        let zeros = packed(&[0f32; 800]).unwrap().1;
        let two = [&zeros[..], &zeros[..]].concat();
        let mut file = Reader::of(&two);
        assert!(file.may_unpack(MOST_UNPACKED - 6399));
        assert_eq!(read::<f32>(&mut file, 800).unwrap().len(), 800);
        assert_eq!(read::<f32>(&mut file, 800).unwrap_err(), wrong(zeros.len() + 1, over));
    }

    /// Ordinary weights in integers would be a tenth smaller with codes of variable length.
    #[test]
    fn codes_of_variable_length_alone_are_no_reason_to_pack() {
        let dice: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let sums = numbers(1 << 14, 0.0, 1 << 20, 9);
        let bell = |x: &f32| {
            let faces = [1, 6, 36, 216, 1296, 7776].map(|by| (*x as u64 / by % 6) as usize);
            (faces.iter().map(|face| dice[*face]).sum::<f32>() * 8.0) as i32 as u8
        };
        let mut weights: Vec<u8> = sums.iter().map(bell).collect();
        weights.iter_mut().zip(0..).for_each(|(w, i)| *w = w.wrapping_add((i % 8) as u8));
        let (huffman, plain) = (
            values::<u8>(&weights.iter().map(|w| w.pattern()).collect::<Vec<_>>(), true),
            weights.len(),
        );
        assert!(huffman.1.len() < plain * 95 / 100, "{}", huffman.1.len());
        assert_eq!(packed(&weights).map(|(packing, _)| packing), None);
    }

    /// The layout of docs/model-format.md, byte by byte.
    #[test]
    fn the_layout_is_as_documented() {
        let read = |bytes: &[u8], count| unpacked::<i8>(bytes, count);
        // A bitmap and numbers.
        let mut expected = vec![0i8; 16];
        (expected[0], expected[9]) = (5, -1);
        assert_eq!(read(&[1, 4, 0b1, 0b10, 5, 0xff], 16), Ok(expected.clone()));
        // Gaps and numbers.
        assert_eq!(read(&[2, 5, 2, 0, 8, 5, 0xff], 16), Ok(expected.clone()));
        // Gaps with codes of variable length: 9 symbols, of which 0 and 8 have one bit.
        let coded = [3, 10, 2, 9, 1, 0, 0, 0, 1, 0b10, 5, 0xff];
        assert_eq!(read(&coded, 16), Ok(expected.clone()));
        // A gap of 255 zeros, and one that goes behind the end.
        let mut long = vec![0i8; 255];
        long.extend(1..=15);
        let gaps = [2, 4, 2, 255, 5, 7];
        assert_eq!(read(&gaps, 64), Err(wrong(2, "a gap ends behind the last number")));
        let (packing, bytes) = packed(&long).unwrap();
        assert_eq!(packing.to_string(), "sparse (gaps)");
        let expected = [&[2, 32, 16, 255][..], &[0; 15], &(1..=15).collect::<Vec<u8>>()];
        assert_eq!(bytes, expected.concat());
        assert_eq!(read(&bytes, 270), Ok(long));
        // A codebook of three numbers, two bits each.
        assert_eq!(read(&[4, 5, 3, 1, 2, 9, 0b10_01_00], 3), Ok(vec![1, 2, 9]));
        // The same with codes of variable length: 0, 10 and 11, the highest bit first.
        let coded = [8, 7, 3, 1, 2, 9, 0x21, 2, 0b11010];
        assert_eq!(read(&coded, 3), Ok(vec![1, 2, 9]));
    }

    #[test]
    fn what_no_writer_makes_is_refused() {
        let refused = |bytes: &[u8], count, what| match unpacked::<i8>(bytes, count) {
            Err(ModelError::Malformed { problem: FormatProblem::Packed(said), .. }) => {
                assert_eq!(said, what);
            }
            other => panic!("{what}: {other:?}"),
        };
        refused(&[1, 1, 0], 65, "too many numbers for so few bytes");
        refused(&[1, 1, 0], u64::MAX, "too many numbers for so few bytes");
        refused(&[1, 2, 0b100, 1], 2, "a bit of the bitmap is behind the last number");
        refused(&[2, 3, 1, 9, 1], 9, "a gap ends behind the last number");
        refused(&[4, 2, 0, 0], 2, "a codebook has 1 to 256 numbers");
        refused(&[4, 4, 2, 5, 5, 0], 2, "the numbers of a codebook are not in order");
        refused(&[4, 5, 3, 1, 2, 9, 0b11], 1, "a number is not in the codebook");
        refused(&[4, 4, 2, 1, 2, 0b100], 2, "a bit is set behind the last number");
        refused(&[8, 5, 2, 1, 2, 0x22, 0], 1, "code lengths do not fit together");
        refused(&[8, 5, 2, 1, 2, 0x11, 0b10], 1, "a bit is set behind the last code");
        refused(&[8, 6, 3, 1, 2, 9, 0x21, 0x22], 1, "a code length is behind the last symbol");
        refused(&[8, 4, 2, 1, 2, 0x11], 9, "more codes than bits");
        refused(&[3, 4, 2, 0, 1, 1], 9, "codes stand for 1 to 256 symbols");
        for code in [0, 12, 16, 255] {
            let problem = FormatProblem::UnknownCode { what: "packing", code };
            assert_eq!(unpacked::<i8>(&[code, 0], 0), Err(malformed(0, problem)));
        }
    }
}

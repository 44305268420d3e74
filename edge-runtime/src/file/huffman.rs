//! Codes of variable length for symbols (Huffman 1952), in their canonical form: the lengths alone
//! say the codes. It knows nothing of what the symbols stand for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::read::{Reader, malformed};
use super::write::Writer;
use crate::error::{FormatProblem, ModelError};

/// Longest code, bits. Lengths are written as halves of a byte.
const LONGEST: u32 = 15;

/// Appends the lengths of the codes of the symbols below `alphabet`, two in a byte, and the codes
/// of `symbols`. A length of 0 stands for a symbol that does not occur.
///
/// # Panics
/// If there is no symbol, or one is not below `alphabet`.
pub(super) fn write(symbols: &[u8], alphabet: usize, file: &mut Writer) {
    let mut counts = vec![0u64; alphabet];
    symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    let lengths = lengths(&counts);
    for pair in lengths.chunks(2) {
        file.byte(pair[0] as u8 | (pair.get(1).copied().unwrap_or(0) as u8) << 4);
    }
    let codes = codes(&lengths);
    let mut bits = BitWriter::default();
    for &symbol in symbols {
        let (code, length) = (codes[usize::from(symbol)], lengths[usize::from(symbol)]);
        // The highest bit comes first, so that a reader can stop at the end of a code.
        (0..length).rev().for_each(|bit| bits.push(code >> bit & 1, 1));
    }
    file.raw(&bits.finish());
}

/// Reads `count` symbols below `alphabet`, with the lengths of their codes, up to the end of the
/// byte in which the last one ends. They are given as what they stand for.
pub(super) fn read<T>(
    file: &mut Reader,
    count: usize,
    alphabet: usize,
    meaning: impl Fn(u8) -> T,
) -> Result<Vec<T>, ModelError> {
    let at = file.at();
    let wrong = |what| malformed(at, FormatProblem::Packed(what));
    if !(1..=256).contains(&alphabet) {
        return Err(wrong("codes stand for 1 to 256 symbols"));
    }
    let halves = file.raw(alphabet.div_ceil(2))?.iter().flat_map(|byte| [byte & 15, byte >> 4]);
    let mut lengths: Vec<u32> = halves.map(u32::from).collect();
    if lengths.drain(alphabet..).any(|length| length != 0) {
        return Err(wrong("a code length is behind the last symbol"));
    }
    let decoder = Decoder::of(&lengths).ok_or_else(|| wrong("code lengths do not fit together"))?;
    // Every code has a bit at least.
    if count > file.left().saturating_mul(8) {
        return Err(wrong("more codes than bits"));
    }
    let mut bits = BitReader::new(file.rest_bytes());
    let mut symbols = Vec::with_capacity(count);
    for _ in 0..count {
        let symbol = decoder.symbol(&mut bits).ok_or_else(|| wrong("a code is cut off"))?;
        symbols.push(meaning(symbol));
    }
    let taken = bits.bytes_begun();
    let unused_is_zero = bits.rest_of_byte_is_zero();
    file.raw(taken)?;
    if unused_is_zero { Ok(symbols) } else { Err(wrong("a bit is set behind the last code")) }
}

/// The length of the code of each symbol, such that all codes take the fewest bits; 0 for those
/// that do not occur. A single symbol has a code of one bit. If a code were longer than
/// [`LONGEST`], rare symbols count as less rare.
fn lengths(counts: &[u64]) -> Vec<u32> {
    let mut counts = counts.to_vec();
    loop {
        let lengths = unlimited(&counts);
        if lengths.iter().all(|length| *length <= LONGEST) {
            return lengths;
        }
        for count in counts.iter_mut().filter(|count| **count > 0) {
            *count = count.div_ceil(2);
        }
    }
}

fn unlimited(counts: &[u64]) -> Vec<u32> {
    let mut lengths = vec![0; counts.len()];
    // Each with the symbols below it. On ties the one that was made first goes first, so that the
    // result does not depend on the heap.
    let present = (0..counts.len()).filter(|&symbol| counts[symbol] > 0);
    let leaf = |symbol: usize| Reverse((counts[symbol], symbol, vec![symbol]));
    let mut heap: BinaryHeap<_> = present.map(leaf).collect();
    if let (1, Some(Reverse((_, only, _)))) = (heap.len(), heap.peek()) {
        lengths[*only] = 1;
        return lengths;
    }
    let mut made = counts.len();
    while let (Some(Reverse(one)), Some(Reverse(two))) = (heap.pop(), heap.pop()) {
        let mut below = one.2;
        below.extend(two.2);
        below.iter().for_each(|&symbol| lengths[symbol] += 1);
        if heap.is_empty() {
            break;
        }
        heap.push(Reverse((one.0 + two.0, made, below)));
        made += 1;
    }
    lengths
}

/// The canonical codes: shorter ones first, those of one length by symbol.
fn codes(lengths: &[u32]) -> Vec<u32> {
    let mut codes = vec![0; lengths.len()];
    let mut next = 0;
    for length in 1..=LONGEST {
        next <<= 1;
        for symbol in (0..lengths.len()).filter(|&symbol| lengths[symbol] == length) {
            codes[symbol] = next;
            next += 1;
        }
    }
    codes
}

/// Reads canonical codes.
struct Decoder {
    /// By length: how many codes have it.
    counts: [u32; LONGEST as usize + 1],
    /// In the order of their codes.
    symbols: Vec<u8>,
}

impl Decoder {
    /// `None` if not every sequence of bits begins with exactly one code. One code alone is one
    /// bit.
    fn of(lengths: &[u32]) -> Option<Self> {
        let mut counts = [0; LONGEST as usize + 1];
        lengths.iter().for_each(|&length| counts[length as usize] += 1);
        counts[0] = 0;
        let all: u32 = (1..=LONGEST).map(|l| counts[l as usize] << (LONGEST - l)).sum();
        let alone = counts[1] == 1 && counts[2..].iter().all(|count| *count == 0);
        if all != 1 << LONGEST && !alone {
            return None;
        }
        let mut symbols = Vec::with_capacity(lengths.len());
        for length in 1..=LONGEST {
            let of_length = (0..lengths.len()).filter(|&symbol| lengths[symbol] == length);
            symbols.extend(of_length.map(|symbol| symbol as u8));
        }
        Some(Self { counts, symbols })
    }

    /// The next symbol; `None` if the bits end, or no code is like this.
    fn symbol(&self, bits: &mut BitReader) -> Option<u8> {
        let (mut code, mut first, mut before) = (0u32, 0u32, 0usize);
        for length in 1..=LONGEST as usize {
            code |= bits.take(1)?;
            let count = self.counts[length];
            if code - first < count {
                return self.symbols.get(before + (code - first) as usize).copied();
            }
            before += count as usize;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

/// Appends bits, the lowest bit of a byte first.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    bits: usize,
}

impl BitWriter {
    /// Appends the lowest `width` bits, lowest first.
    pub fn push(&mut self, value: u32, width: u32) {
        for bit in 0..width {
            if self.bits.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << (self.bits % 8);
            self.bits += 1;
        }
    }

    /// The bytes; unused bits of the last one are 0.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads bits as [`BitWriter`] appends them.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// In bits, which may be more than an address has on small machines.
    at: u64,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `width` bits; `None` if there are fewer.
    pub fn take(&mut self, width: u32) -> Option<u32> {
        let mut value = 0;
        for bit in 0..width {
            let byte = self.bytes.get((self.at / 8) as usize)?;
            value |= u32::from(byte >> (self.at % 8) & 1) << bit;
            self.at += 1;
        }
        Some(value)
    }

    /// Bytes of which a bit was taken.
    fn bytes_begun(&self) -> usize {
        self.at.div_ceil(8) as usize
    }

    /// Whether the bits that are left of the byte that was begun are 0.
    fn rest_of_byte_is_zero(&self) -> bool {
        self.at.is_multiple_of(8) || self.bytes[(self.at / 8) as usize] >> (self.at % 8) == 0
    }

    /// Whether all bits that are left are 0.
    pub fn rest_is_zero(&self) -> bool {
        let next = self.bytes_begun().min(self.bytes.len());
        self.rest_of_byte_is_zero() && self.bytes[next..].iter().all(|byte| *byte == 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The fewest bits: the sum of all pairs of the least counts that are merged.
    fn fewest(counts: &[u64]) -> u64 {
        let mut left: Vec<u64> = counts.iter().copied().filter(|count| *count > 0).collect();
        if left.len() == 1 {
            return left[0];
        }
        let mut bits = 0;
        while left.len() > 1 {
            left.sort_unstable();
            let merged = left.remove(0) + left.remove(0);
            bits += merged;
            left.push(merged);
        }
        bits
    }

    proptest! {
        #[test]
        fn codes_take_the_fewest_bits(counts in prop::collection::vec(0u64..1000, 1..60)) {
            prop_assume!(counts.iter().any(|count| *count > 0));
            let lengths = lengths(&counts);
            let bits: u64 = counts.iter().zip(&lengths).map(|(n, l)| n * u64::from(*l)).sum();
            prop_assert_eq!(bits, fewest(&counts));
            prop_assert!(Decoder::of(&lengths).is_some());
            let present = counts.iter().zip(&lengths).all(|(n, l)| (*n > 0) == (*l > 0));
            prop_assert!(present);
        }

        #[test]
        fn no_code_is_the_beginning_of_another(counts in prop::collection::vec(0u64..50, 2..40)) {
            prop_assume!(counts.iter().any(|count| *count > 0));
            let lengths = lengths(&counts);
            let codes = codes(&lengths);
            let all: Vec<(u32, u32)> = codes.into_iter().zip(lengths).filter(|c| c.1 > 0).collect();
            for (i, &(one, short)) in all.iter().enumerate() {
                let others = all.iter().enumerate().filter(|(j, other)| *j != i && other.1 >= short);
                for (_, &(two, long)) in others {
                    prop_assert_ne!(two >> (long - short), one);
                }
            }
        }
    }

    #[test]
    fn codes_are_not_too_long() {
        // Fibonacci numbers make the longest codes.
        let mut counts = vec![1u64, 1];
        while counts.len() < 40 {
            counts.push(counts[counts.len() - 1] + counts[counts.len() - 2]);
        }
        assert_eq!(unlimited(&counts).iter().max(), Some(&39));
        let lengths = lengths(&counts);
        assert!(lengths.iter().all(|length| (1..=LONGEST).contains(length)), "{lengths:?}");
        assert!(Decoder::of(&lengths).is_some());
    }

    #[test]
    fn lengths_that_do_not_fit_together_are_refused() {
        for lengths in [&[][..], &[0, 0], &[1, 1, 1], &[1, 2], &[2], &[2, 2, 2], &[1, 2, 3]] {
            assert!(Decoder::of(lengths).is_none(), "{lengths:?}");
        }
        for lengths in [&[1][..], &[0, 1], &[1, 1], &[1, 2, 2], &[3, 3, 2, 1]] {
            assert!(Decoder::of(lengths).is_some(), "{lengths:?}");
        }
    }
}

//! What a layer reads and writes while it runs: pieces of one arena of bytes, seen as numbers.

use std::ops::Range;

use crate::kernels::Isa;

/// What a layer reads and writes. Values lie in memory as [`Shape`](crate::Shape) says.
pub(crate) struct Operands<'a> {
    /// The instructions to use, the same as in [`Site`](super::Site).
    pub isa: Isa,
    /// The values that it reads.
    pub inputs: Inputs<'a>,
    /// Its output, with any content.
    pub output: &'a mut [u8],
    /// As many bytes as [`Memory::scratch`](super::Memory::scratch) says, with any content.
    pub scratch: &'a mut [u8],
}

/// The values that a layer reads.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// What is left of the arena around output and scratch, with where it begins.
    parts: [(usize, &'a [u8]); 3],
    places: &'a [Range<usize>],
}

impl<'a> Operands<'a> {
    /// Takes the places of the inputs, the output and the scratch memory out of the arena. No input
    /// overlaps the output or the scratch memory, nor do these two.
    pub fn new(
        isa: Isa,
        arena: &'a mut [u8],
        places: &'a [Range<usize>],
        output: &Range<usize>,
        scratch: &Range<usize>,
    ) -> Self {
        let nothing = output.end..output.end;
        let scratch = if scratch.is_empty() { &nothing } else { scratch };
        let output_first = output.start <= scratch.start;
        let (first, second) = if output_first { (output, scratch) } else { (scratch, output) };
        let (before, rest) = arena.split_at_mut(first.start);
        let (first_piece, rest) = rest.split_at_mut(first.len());
        let (between, rest) = rest.split_at_mut(second.start - first.end);
        let (second_piece, after) = rest.split_at_mut(second.len());
        let parts = [(0, &*before), (first.end, &*between), (second.end, &*after)];
        let (output, scratch) =
            if output_first { (first_piece, second_piece) } else { (second_piece, first_piece) };
        Self { isa, inputs: Inputs { parts, places }, output, scratch }
    }
}

impl<'a> Inputs<'a> {
    /// The numbers of an input.
    pub fn of<T: Plain>(&self, input: usize) -> &'a [T] {
        let place = &self.places[input];
        let part = self.parts.iter().rev().find(|(start, _)| *start <= place.start);
        let &(start, part) = part.expect("the first part begins at 0");
        view(&part[place.start - start..place.end - start])
    }
}

/// A type of which every content of memory is a number.
///
/// # Safety
/// The type has no invalid content and no padding.
pub(crate) unsafe trait Plain: Copy + Default + PartialOrd + 'static {}

// SAFETY: all contents of these types are numbers.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i16 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for i64 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}

/// Bytes as numbers. They lie at a multiple of 64.
pub(crate) fn view<T: Plain>(bytes: &[u8]) -> &[T] {
    // SAFETY: every content is a number.
    let (before, numbers, after) = unsafe { bytes.align_to() };
    assert!(before.is_empty() && after.is_empty(), "whole numbers at their own alignment");
    numbers
}

/// See [`view`].
pub(crate) fn view_mut<T: Plain>(bytes: &mut [u8]) -> &mut [T] {
    // SAFETY: every content is a number.
    let (before, numbers, after) = unsafe { bytes.align_to_mut() };
    assert!(before.is_empty() && after.is_empty(), "whole numbers at their own alignment");
    numbers
}

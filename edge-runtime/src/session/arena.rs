//! The memory of all values.

/// Bytes that begin at a multiple of 64.
pub(super) struct Arena {
    lines: Vec<Line>,
    bytes: usize,
}

/// As long as its alignment, so that lines have no gaps.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Arena {
    /// Zeros.
    pub fn new(bytes: usize) -> Self {
        Self { lines: vec![Line([0; 64]); bytes.div_ceil(64)], bytes }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: a line is 64 bytes without padding, and every byte is valid.
        let (_, bytes, _) = unsafe { self.lines.align_to_mut::<u8>() };
        &mut bytes[..self.bytes]
    }
}

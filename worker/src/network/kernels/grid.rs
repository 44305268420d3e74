//! A layout in which a convolution needs no border checks: a channel's images lie one behind the
//! other, separated by margins of zeros, so that "one row up, two columns left" is the same distance
//! in memory at every position.
//!
//! The margin to the right of a row is the margin to the left of the next one, and the margin below
//! an image is that above the next. With a stride `s`, the input is first split into `s · s` phases
//! (rows and columns by their remainder); each kernel position then reads one phase without stride.

use super::product::BLOCK;
use super::threads::{Filling, Threads};

/// Where things lie in the planes of one convolution. All planes have the output's size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    batch: usize,
    /// Of the strided side's feature map.
    height: usize,
    width: usize,
    stride: usize,
    /// Of the output.
    rows: usize,
    columns: usize,
    pitch: usize,
    image: usize,
    /// Zeros before the first image and after the last one.
    lead: usize,
    /// Values from the first image's first pixel to the last one's margin, in whole blocks.
    pub length: usize,
    /// Values of a whole plane.
    pub plane: usize,
}

impl Grid {
    /// For kernels with `padding` on every side.
    pub(super) fn new(
        batch: usize,
        height: usize,
        width: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        let (rows, columns) = (height.div_ceil(stride), width.div_ceil(stride));
        let margin = padding.div_ceil(stride);
        let pitch = columns + margin;
        let image = (rows + margin) * pitch;
        let lead = margin * pitch + margin;
        let length = (batch * image).next_multiple_of(BLOCK);
        let plane = length + 2 * lead;
        Self { batch, height, width, stride, rows, columns, pitch, image, lead, length, plane }
    }

    /// Number of phases.
    pub(super) fn phases(&self) -> usize {
        self.stride * self.stride
    }

    /// The phase that kernel position `(down, right)`, counted from the kernel's centre, reads, and
    /// at which distance.
    pub(super) fn tap(&self, down: isize, right: isize) -> (usize, isize) {
        let stride = self.stride as isize;
        let phase = down.rem_euclid(stride) * stride + right.rem_euclid(stride);
        let distance = down.div_euclid(stride) * self.pitch as isize + right.div_euclid(stride);
        (phase as usize, distance)
    }

    /// Offset of plane `plane`'s first pixel, moved by `distance`.
    pub(super) fn offset(&self, plane: usize, distance: isize) -> usize {
        (plane * self.plane + self.lead).strict_add_signed(distance)
    }

    /// Values of a channel's `[batch][height][width]`.
    pub(super) fn map(&self) -> usize {
        self.batch * self.height * self.width
    }

    /// `[channels][batch][height][width]` as `[channels][phases][plane]`.
    pub(super) fn split(&self, maps: &[f32], threads: &Threads) -> Vec<f32> {
        let (size, own) = (self.map(), self.phases() * self.plane);
        threads.build(maps.len() / size, own, |channels, planes| {
            for map in maps[channels.start * size..channels.end * size].chunks_exact(size) {
                self.split_channel(map, planes.zeros(own));
            }
        })
    }

    /// Writes one channel's `[batch][height][width]` to its `[phases][plane]`, whose margins stay
    /// as they are.
    pub(super) fn split_channel(&self, map: &[f32], planes: &mut [f32]) {
        if self.stride == 1 {
            let plane = &mut planes[self.lead..];
            return match self.width {
                4 => self.for_rows(0, |inside, outside| copy::<4>(plane, inside, map, outside)),
                7 => self.for_rows(0, |inside, outside| copy::<7>(plane, inside, map, outside)),
                8 => self.for_rows(0, |inside, outside| copy::<8>(plane, inside, map, outside)),
                14 => self.for_rows(0, |inside, outside| copy::<14>(plane, inside, map, outside)),
                16 => self.for_rows(0, |inside, outside| copy::<16>(plane, inside, map, outside)),
                28 => self.for_rows(0, |inside, outside| copy::<28>(plane, inside, map, outside)),
                32 => self.for_rows(0, |inside, outside| copy::<32>(plane, inside, map, outside)),
                width => self.for_rows(0, |inside, outside| {
                    plane[inside..inside + width].copy_from_slice(&map[outside..outside + width]);
                }),
            };
        }
        for (phase, plane) in planes.chunks_exact_mut(self.plane).enumerate() {
            let count = self.count(phase);
            let plane = &mut plane[self.lead..];
            self.for_rows(phase, |inside, outside| {
                let from = map[outside..].iter().step_by(self.stride);
                for (to, from) in plane[inside..inside + count].iter_mut().zip(from) {
                    *to = *from;
                }
            });
        }
    }

    /// Appends one channel's `[batch][height][width]`, given its `[phases][length]`.
    pub(super) fn join_channel(&self, planes: &[f32], maps: &mut Filling<'_>) {
        if self.stride == 1 {
            return match self.width {
                4 => self.for_rows(0, |inside, _| append::<4>(maps, planes, inside)),
                7 => self.for_rows(0, |inside, _| append::<7>(maps, planes, inside)),
                8 => self.for_rows(0, |inside, _| append::<8>(maps, planes, inside)),
                14 => self.for_rows(0, |inside, _| append::<14>(maps, planes, inside)),
                16 => self.for_rows(0, |inside, _| append::<16>(maps, planes, inside)),
                28 => self.for_rows(0, |inside, _| append::<28>(maps, planes, inside)),
                32 => self.for_rows(0, |inside, _| append::<32>(maps, planes, inside)),
                width => self.for_rows(0, |inside, _| {
                    maps.extend_from_slice(&planes[inside..inside + width]);
                }),
            };
        }
        let map = maps.zeros(self.map());
        for (phase, plane) in planes.chunks_exact(self.length).enumerate() {
            let count = self.count(phase);
            self.for_rows(phase, |inside, outside| {
                let to = map[outside..].iter_mut().step_by(self.stride);
                for (to, from) in to.zip(&plane[inside..inside + count]) {
                    *to = *from;
                }
            });
        }
    }

    /// Values of a row that belong to a phase.
    fn count(&self, phase: usize) -> usize {
        self.width.saturating_sub(phase % self.stride).div_ceil(self.stride)
    }

    /// Calls `row(inside, outside)` for each row of a phase: its place in the plane, counted from
    /// the first pixel, and in the feature map.
    #[inline(always)]
    fn for_rows(&self, phase: usize, mut row: impl FnMut(usize, usize)) {
        let (down, right) = (phase / self.stride, phase % self.stride);
        if right >= self.width {
            return;
        }
        let rows = self.height.saturating_sub(down).div_ceil(self.stride);
        for image in 0..self.batch {
            let mut inside = image * self.image;
            let mut outside = (image * self.height + down) * self.width + right;
            for _ in 0..rows {
                row(inside, outside);
                inside += self.pitch;
                outside += self.stride * self.width;
            }
        }
    }

    /// The grid of the same output as a feature map of its own: one phase, the same planes.
    pub(super) fn output(&self) -> Self {
        Self { height: self.rows, width: self.columns, stride: 1, ..*self }
    }
}

/// Copies a row of a usual length without a call.
#[inline(always)]
fn copy<const N: usize>(to: &mut [f32], at: usize, from: &[f32], start: usize) {
    let to = to[at..].first_chunk_mut::<N>().expect("rows lie inside");
    *to = *from[start..].first_chunk::<N>().expect("rows lie inside");
}

/// Appends a row of a usual length without a call.
#[inline(always)]
fn append<const N: usize>(to: &mut Filling<'_>, from: &[f32], start: usize) {
    to.extend_from_slice(from[start..].first_chunk::<N>().expect("rows lie inside"));
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::noise;
    use super::*;

    #[test]
    fn every_tap_reads_its_neighbour_or_a_zero() {
        for (height, width, stride, kernel) in [
            (4, 4, 1, 3),
            (5, 3, 1, 5),
            (6, 5, 2, 3),
            (4, 7, 2, 5),
            (1, 1, 1, 5),
            (2, 3, 2, 1),
            (7, 2, 2, 7),
        ] {
            let (batch, padding) = (3, (kernel - 1) / 2);
            let grid = Grid::new(batch, height, width, stride, padding);
            let map = noise(2 * batch * height * width, 1);
            let planes = grid.split(&map, &Threads::one());
            let (rows, columns) = (height.div_ceil(stride), width.div_ceil(stride));
            for channel in 0..2 {
                for (ky, kx) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                    let (phase, distance) =
                        grid.tap(ky as isize - padding as isize, kx as isize - padding as isize);
                    let offset = grid.offset(channel * grid.phases() + phase, distance);
                    for (n, oy, ox) in (0..batch).flat_map(|n| {
                        (0..rows).flat_map(move |y| (0..columns).map(move |x| (n, y, x)))
                    }) {
                        let place = n * grid.image + oy * grid.pitch + ox;
                        let (y, x) = (oy * stride + ky, ox * stride + kx);
                        let inside = (padding..padding + height).contains(&y)
                            && (padding..padding + width).contains(&x);
                        let expected = if inside {
                            let row = (channel * batch + n) * height + y - padding;
                            map[row * width + x - padding]
                        } else {
                            0.0
                        };
                        assert_eq!(planes[offset + place], expected);
                    }
                }
            }
        }
    }

    #[test]
    fn joining_undoes_splitting() {
        for (height, width, stride) in [(4, 4, 1), (8, 8, 2), (5, 3, 2), (1, 1, 2), (16, 16, 1)] {
            let grid = Grid::new(2, height, width, stride, 1);
            let map = noise(3 * 2 * height * width, 2);
            let planes = grid.split(&map, &Threads::one());
            let inner: Vec<f32> = planes
                .chunks_exact(grid.plane)
                .flat_map(|plane| &plane[grid.lead..grid.lead + grid.length])
                .copied()
                .collect();
            let own = grid.phases() * grid.length;
            let joined = Threads::one().build(3, grid.map(), |channels, maps| {
                for channel in channels {
                    grid.join_channel(&inner[channel * own..(channel + 1) * own], maps);
                }
            });
            assert_eq!(joined, map);
        }
    }
}

//! Vectors of eight f32: AVX2 with FMA if the processor has it, else an array.

/// Number of f32 in a vector.
pub(crate) const WIDTH: usize = 8;

/// A vector of eight f32.
pub(crate) trait Lanes: Copy {
    /// All zero.
    fn zero() -> Self;

    /// All `value`.
    fn splat(value: f32) -> Self;

    /// Reads eight values.
    ///
    /// # Safety
    /// `from` must be readable for eight values.
    unsafe fn load(from: *const f32) -> Self;

    /// Writes eight values.
    ///
    /// # Safety
    /// `to` must be writable for eight values.
    unsafe fn store(self, to: *mut f32);

    /// `self * factor + addend`
    fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// Sum over the lanes.
    fn sum(self) -> f32;
}

/// Portable version; the compiler uses the instructions that the target has.
impl Lanes for [f32; 8] {
    #[inline(always)]
    fn zero() -> Self {
        [0.0; 8]
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; 8]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: an array of f32 has the alignment of f32, and the caller guarantees eight values.
        unsafe { *from.cast::<[f32; 8]>() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see `load`.
        unsafe { *to.cast::<[f32; 8]>() = self }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        std::array::from_fn(|i| self[i] * factor[i] + addend[i])
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::Lanes;

    /// Whether the processor has the features that [`Lanes`] for `__m256` needs.
    pub fn available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    /// Use it only if [`available`], and only in functions that enable both features.
    impl Lanes for __m256 {
        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: the type is used only if the processor has AVX2 and FMA; this holds for all
            // functions below.
            unsafe { _mm256_setzero_ps() }
        }

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see `zero`.
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see `zero`; the caller guarantees eight values.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see `zero`; the caller guarantees eight values.
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: see `zero`.
            unsafe { _mm256_fmadd_ps(self, factor, addend) }
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: see `zero`.
            unsafe {
                let halves =
                    _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
                let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
                let odd = _mm_shuffle_ps::<0b01>(pairs, pairs);
                _mm_cvtss_f32(_mm_add_ss(pairs, odd))
            }
        }
    }
}

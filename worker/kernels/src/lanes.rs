//! Vectors of eight f32: AVX2 with FMA if the processor has it, else an array.
//!
//! The operations on vectors are methods of a token, and having the token proves that the processor
//! can run them. So no safe code can run instructions that the processor lacks: it cannot get the
//! token.

use std::mem::MaybeUninit;

/// Number of f32 in a vector.
pub(crate) const WIDTH: usize = 8;

/// A token for the vectors of eight f32 that some processors have.
pub(crate) trait Lanes: Copy {
    /// Eight f32.
    type Vector: Copy;

    /// All `value`.
    fn splat(self, value: f32) -> Self::Vector;

    /// Reads a vector.
    fn load(self, from: &[f32; WIDTH]) -> Self::Vector;

    /// Writes all values of a vector.
    fn store(self, vector: Self::Vector, to: &mut [MaybeUninit<f32>; WIDTH]);

    /// `vector * factor + addend`
    fn mul_add(
        self,
        vector: Self::Vector,
        factor: Self::Vector,
        addend: Self::Vector,
    ) -> Self::Vector;

    /// Sum over the lanes.
    fn sum(self, vector: Self::Vector) -> f32;

    /// `value * factor + addend` for single values, with a single rounding where that costs nothing
    /// extra.
    fn mul_add_single(self, value: f32, factor: f32, addend: f32) -> f32;
}

/// Calls a function with the token of the fastest vectors that the processor has, and arguments
/// that are variables: `dispatch!(function(argument: Type, …) -> Output)`.
///
/// The function takes any token. It and all functions that it passes the token to must be
/// `#[inline(always)]`, because only what is inlined is compiled for the token's instructions.
/// Other functions are correct but slow.
macro_rules! dispatch {
    ($function:ident($($argument:ident: $type:ty),* $(,)?) $(-> $out:ty)?) => {{
        fn dispatched($($argument: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            if let Some(token) = $crate::lanes::avx2::Avx2::detect() {
                #[target_feature(enable = "avx2,fma")]
                fn compiled(token: $crate::lanes::avx2::Avx2, $($argument: $type),*) $(-> $out)? {
                    $function(token, $($argument),*)
                }
                // SAFETY: the token proves that the processor has both features.
                return unsafe { compiled(token, $($argument),*) };
            }
            $function($crate::lanes::Portable, $($argument),*)
        }
        dispatched($($argument),*)
    }};
}
pub(crate) use dispatch;

/// The token for arrays, which any processor can add and multiply. The compiler uses the
/// instructions that the target has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Lanes for Portable {
    type Vector = [f32; WIDTH];

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; WIDTH] {
        [value; WIDTH]
    }

    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> [f32; WIDTH] {
        *from
    }

    #[inline(always)]
    fn store(self, vector: [f32; WIDTH], to: &mut [MaybeUninit<f32>; WIDTH]) {
        *to = vector.map(MaybeUninit::new);
    }

    #[inline(always)]
    fn mul_add(
        self,
        vector: [f32; WIDTH],
        factor: [f32; WIDTH],
        addend: [f32; WIDTH],
    ) -> [f32; WIDTH] {
        std::array::from_fn(|i| vector[i] * factor[i] + addend[i])
    }

    #[inline(always)]
    fn sum(self, vector: [f32; WIDTH]) -> f32 {
        let [a, b, c, d, e, f, g, h] = vector;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    fn mul_add_single(self, value: f32, factor: f32, addend: f32) -> f32 {
        if cfg!(target_arch = "aarch64") {
            value.mul_add(factor, addend)
        } else {
            value * factor + addend
        }
    }
}

/// A module of its own, so that no other code can make the token.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_set1_ps, _mm256_storeu_ps,
    };
    use std::mem::MaybeUninit;

    use super::{Lanes, WIDTH};

    /// The token for AVX2 and FMA.
    ///
    /// Only this module can make one, because the field is private, and [`Avx2::detect`] gives it
    /// out only if it has found both features. A processor does not lose them while the program
    /// runs, and all threads have the same ones. So whoever has a token, or a copy of it, may use
    /// the instructions, and the methods below are sound although callers check nothing.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx2(());

    impl Avx2 {
        /// The token if the processor has AVX2 and FMA.
        #[inline]
        pub(crate) fn detect() -> Option<Self> {
            let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            found.then_some(Self(()))
        }
    }

    impl Lanes for Avx2 {
        type Vector = __m256;

        #[inline(always)]
        fn splat(self, value: f32) -> __m256 {
            // SAFETY: `self` proves that the processor has AVX2.
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        fn load(self, from: &[f32; WIDTH]) -> __m256 {
            // SAFETY: `self` proves that the processor has AVX2; `from` has eight values.
            unsafe { _mm256_loadu_ps(from.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, vector: __m256, to: &mut [MaybeUninit<f32>; WIDTH]) {
            // SAFETY: `self` proves that the processor has AVX2; `to` has room for eight values.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr().cast(), vector) }
        }

        #[inline(always)]
        fn mul_add(self, vector: __m256, factor: __m256, addend: __m256) -> __m256 {
            // SAFETY: `self` proves that the processor has FMA.
            unsafe { _mm256_fmadd_ps(vector, factor, addend) }
        }

        #[inline(always)]
        fn sum(self, vector: __m256) -> f32 {
            // SAFETY: `self` proves that the processor has AVX2.
            unsafe {
                let halves =
                    _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
                let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
                let odd = _mm_shuffle_ps::<0b01>(pairs, pairs);
                _mm_cvtss_f32(_mm_add_ss(pairs, odd))
            }
        }

        #[inline(always)]
        fn mul_add_single(self, value: f32, factor: f32, addend: f32) -> f32 {
            value.mul_add(factor, addend)
        }
    }
}

//! Which instructions the kernels may use.

/// An instruction set that this processor has. A value with AVX2 exists only if AVX2 was detected;
/// the unsafe calls into AVX2 code rely on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isa {
    avx2: bool,
}

impl Isa {
    /// Only the instructions that the compiler was told to use.
    pub const PORTABLE: Self = Self { avx2: false };

    /// The best that this processor has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        #[cfg(not(target_arch = "x86_64"))]
        let avx2 = false;
        Self { avx2 }
    }

    /// Whether AVX2 and FMA are present and should be used.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "nothing else has AVX2"))]
    #[inline]
    pub fn has_avx2(self) -> bool {
        self.avx2
    }
}

/// Defines `$name(isa, …)`, which runs the generic function `$body` compiled either for any
/// processor (`FMA` false) or, if `isa` allows it, for AVX2 and FMA (`FMA` true).
macro_rules! for_each_isa {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$doc])*
        pub(crate) fn $name(isa: $crate::kernels::Isa, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            if isa.has_avx2() {
                #[target_feature(enable = "avx2,fma")]
                fn with_avx2($($argument: $type),*) {
                    $body::<true>($($argument),*);
                }
                // SAFETY: an `Isa` with AVX2 exists only if AVX2 and FMA were detected.
                return unsafe { with_avx2($($argument),*) };
            }
            let _ = isa;
            // Every aarch64 has fused multiply-add; on old x86 it is a slow library call.
            $body::<{ cfg!(target_arch = "aarch64") }>($($argument),*);
        }
    };
}

pub(crate) use for_each_isa;

//! Which instructions the kernels may use.

/// An instruction set that this processor has. A value with AVX2 exists only if AVX2 and FMA were
/// detected, and one with dot products only if these were; the unsafe calls into such code rely on
/// this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isa {
    avx2: bool,
    dot: Option<Dot>,
}

/// An instruction that multiplies pairs of int16 and adds both products to a sum, exactly. There
/// are two that do the same.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "nothing else has them"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dot {
    /// Of AVX-VNNI.
    Avx,
    /// Of AVX-512 VNNI and VL.
    Avx512,
}

impl Isa {
    /// Only the instructions that the compiler was told to use.
    pub const PORTABLE: Self = Self { avx2: false, dot: None };

    /// The best that this processor has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let avx512 =
                is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl");
            let avx = is_x86_feature_detected!("avxvnni").then_some(Dot::Avx);
            return Self { avx2: true, dot: if avx512 { Some(Dot::Avx512) } else { avx } };
        }
        Self::PORTABLE
    }

    /// All that this processor has, the best one first.
    pub fn all() -> Vec<Self> {
        let best = Self::detect();
        let mut all = vec![best];
        #[cfg(target_arch = "x86_64")]
        if best.dot == Some(Dot::Avx512) && is_x86_feature_detected!("avxvnni") {
            all.push(Self { dot: Some(Dot::Avx), ..best });
        }
        for less in [Self { dot: None, ..best }, Self::PORTABLE] {
            if !all.contains(&less) {
                all.push(less);
            }
        }
        all
    }

    /// Whether AVX2 and FMA are present and should be used.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "nothing else has AVX2"))]
    #[inline]
    pub fn has_avx2(self) -> bool {
        self.avx2
    }

    /// The dot product that should be used; none without AVX2.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "nothing else has AVX2"))]
    #[inline]
    pub fn dot(self) -> Option<Dot> {
        self.dot
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

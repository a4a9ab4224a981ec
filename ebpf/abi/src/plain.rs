//! What makes a type fit for a map: its bytes are its meaning.

use core::fmt;

/// Receives what a value says, for tools that show what maps hold. A value calls one kind of method: `field` and
/// `element` once for each part, in order, the others once.
pub trait Scribe {
    /// The value is a number.
    fn number(&mut self, number: u64);
    /// The value reads best as text.
    fn text(&mut self, text: &dyn fmt::Display);
    /// The value is a set: the names of its members, and the bits that have none.
    fn set(&mut self, names: &mut dyn Iterator<Item = &'static str>, rest: u64);
    /// The value has a part of that name, which `describe` describes.
    fn field(&mut self, name: &'static str, describe: &dyn Fn(&mut dyn Scribe));
    /// The value has a part without a name.
    fn element(&mut self, describe: &dyn Fn(&mut dyn Scribe));
}

/// A type whose values may be copied to and from a map byte by byte.
///
/// # Safety
/// The type is `repr(C)` or `repr(transparent)`, has no padding, no pointers, and every bit pattern is valid.
pub unsafe trait Plain: Copy + PartialEq + Send + Sync + 'static {
    /// A hash of what lies where: names, offsets and layouts of fields, names and values of bits.
    const LAYOUT: u64 = size_of::<Self>() as u64;

    /// The value as the kernel sees it.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: the trait's contract says there is no padding, so all size_of bytes are initialised, and
        // the slice borrows self.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast::<u8>(), size_of::<Self>()) }
    }

    /// The value in `bytes`; `None` when the length differs.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        // SAFETY: the length was just compared, every bit pattern is valid by the trait's contract, and
        // read_unaligned needs no alignment.
        Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast::<Self>()) })
    }

    /// Tells `scribe` what the value says. Unless a type knows better it is a number.
    fn describe(&self, scribe: &mut dyn Scribe) {
        let mut number = [0; size_of::<u64>()];
        let bytes = self.as_bytes();
        let from = if cfg!(target_endian = "big") {
            number.len().saturating_sub(bytes.len())
        } else {
            0
        };
        for (to, byte) in number.iter_mut().skip(from).zip(bytes) {
            *to = *byte;
        }
        scribe.number(u64::from_ne_bytes(number));
    }

    /// The all-zero value, which means "absent" in array maps.
    fn zeroed() -> Self {
        // SAFETY: every bit pattern is valid by the trait's contract.
        unsafe { core::mem::zeroed() }
    }
}

// SAFETY: integers have no padding and no invalid bit patterns.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: an array has no padding of its own.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {
    const LAYOUT: u64 = mix(mix(HASH_START, T::LAYOUT), N as u64);

    fn describe(&self, scribe: &mut dyn Scribe) {
        for element in self {
            scribe.element(&|scribe| element.describe(scribe));
        }
    }
}

/// Start of [`mix`] (FNV-1a, 64 bit).
pub(crate) const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Adds a value to a hash.
pub(crate) const fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x0100_0000_01b3)
}

/// Adds a text to a hash.
pub(crate) const fn mix_text(hash: u64, text: &str) -> u64 {
    let text = text.as_bytes();
    let mut hash = mix(hash, text.len() as u64);
    let mut at = 0;
    while at < text.len() {
        hash = mix(hash, text[at] as u64);
        at += 1;
    }
    hash
}

/// Implements [`Plain`] for a `repr(C)` struct and proves, at compile time, its size and that its fields
/// fill it without padding.
macro_rules! plain_struct {
    ($type:ty, size = $size:expr, { $($field:ident : $field_type:ty = $offset:expr),+ $(,)? }) => {
        const _: () = {
            assert!(size_of::<$type>() == $size, "size changed");
            assert!(0 $(+ size_of::<$field_type>())+ == $size, "padding or a missing field");
            $(assert!(core::mem::offset_of!($type, $field) == $offset, "offset changed");)+
        };
        // SAFETY: repr(C); the assertion above shows that the fields fill the struct, and each field is an
        // integer, an array of them, or a Plain type.
        unsafe impl $crate::plain::Plain for $type {
            const LAYOUT: u64 = {
                let hash = $crate::plain::HASH_START;
                $(
                    let hash = $crate::plain::mix_text(hash, stringify!($field));
                    let hash = $crate::plain::mix(hash, core::mem::offset_of!($type, $field) as u64);
                    let hash = $crate::plain::mix(hash, <$field_type as $crate::plain::Plain>::LAYOUT);
                )+
                hash
            };

            fn describe(&self, scribe: &mut dyn $crate::plain::Scribe) {
                $(scribe.field(stringify!($field), &|scribe| $crate::plain::Plain::describe(&self.$field, scribe));)+
            }
        }
    };
}
pub(crate) use plain_struct;

/// Defines a `repr(transparent)` set of bits over an integer.
macro_rules! bit_set {
    ($(#[$meta:meta])* $name:ident : $integer:ty { $($(#[$bit_meta:meta])* $bit:ident = $value:expr;)+ }) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $integer);

        impl $name {
            /// No bit set.
            pub const NONE: Self = Self(0);
            $($(#[$bit_meta])* pub const $bit: Self = Self($value);)+

            /// Whether every bit of `other` is set.
            #[inline(always)]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any bit of `other` is set.
            #[inline(always)]
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// These bits and those of `other`.
            #[inline(always)]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// These bits without those of `other`.
            #[inline(always)]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        // SAFETY: transparent over an integer.
        unsafe impl $crate::plain::Plain for $name {
            const LAYOUT: u64 = {
                let hash = $crate::plain::mix($crate::plain::HASH_START, size_of::<$integer>() as u64);
                $(
                    let hash = $crate::plain::mix_text(hash, stringify!($bit));
                    let hash = $crate::plain::mix(hash, $value as u64);
                )+
                hash
            };

            fn describe(&self, scribe: &mut dyn $crate::plain::Scribe) {
                let bits = [$((stringify!($bit), Self::$bit)),+];
                let rest = bits.iter().fold(*self, |rest, (_, bit)| rest.without(*bit));
                let mut names = bits.into_iter().filter(|(_, bit)| self.contains(*bit)).map(|(name, _)| name);
                scribe.set(&mut names, rest.0.into());
            }
        }
    };
}
pub(crate) use bit_set;

#[cfg(test)]
#[expect(
    unreachable_pub,
    dead_code,
    reason = "what the macros make is public and has more than is tested"
)]
mod tests {
    use super::Plain;

    #[repr(C)]
    #[derive(Clone, Copy, PartialEq)]
    struct FromTo {
        from: u32,
        to: u32,
    }
    plain_struct!(FromTo, size = 8, { from: u32 = 0, to: u32 = 4 });

    #[repr(C)]
    #[derive(Clone, Copy, PartialEq)]
    struct ToFrom {
        to: u32,
        from: u32,
    }
    plain_struct!(ToFrom, size = 8, { to: u32 = 0, from: u32 = 4 });

    #[repr(C)]
    #[derive(Clone, Copy, PartialEq)]
    struct Nested {
        from: [u8; 4],
        to: u32,
    }
    plain_struct!(Nested, size = 8, { from: [u8; 4] = 0, to: u32 = 4 });

    bit_set! { Bits: u32 { ONE = 1; } }
    bit_set! { MovedBits: u32 { ONE = 1 << 1; } }

    #[test]
    fn layouts_of_one_size_are_told_apart() {
        assert_ne!(FromTo::LAYOUT, ToFrom::LAYOUT);
        assert_ne!(FromTo::LAYOUT, Nested::LAYOUT);
        assert_ne!(Bits::LAYOUT, MovedBits::LAYOUT);
    }
}

//! A run of floats that stays in the wire's bytes: an embedding is never copied to be read.

/// A run of floats still in wire form (big-endian). Its bytes always fit its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floats<'a> {
    bytes: &'a [u8],
    layout: FloatLayout,
}

/// How the elements of a [`Floats`] stand in its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatLayout {
    /// Array elements: a 4-byte length (always 4) before each `float4`.
    LengthPrefixed,
    /// pgvector `vector`: bare `float4`s.
    Single,
    /// pgvector `halfvec`: bare IEEE half-precision floats.
    Half,
}

impl FloatLayout {
    /// Bytes that an element takes.
    #[must_use]
    pub const fn element_bytes(self) -> usize {
        match self {
            Self::LengthPrefixed => 8,
            Self::Single => 4,
            Self::Half => 2,
        }
    }
}

impl<'a> Floats<'a> {
    /// A run over `bytes`, or nothing when they are not whole elements of that layout (an array
    /// with a NULL among them is not).
    #[must_use]
    pub fn new(bytes: &'a [u8], layout: FloatLayout) -> Option<Self> {
        if !bytes.len().is_multiple_of(layout.element_bytes()) {
            return None;
        }
        let length = |&[a, b, c, d, ..]: &[u8; 8]| u32::from_be_bytes([a, b, c, d]);
        if layout == FloatLayout::LengthPrefixed
            && !bytes
                .as_chunks()
                .0
                .iter()
                .all(|element| length(element) == 4)
        {
            return None;
        }
        Some(Self { bytes, layout })
    }

    /// How many floats there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len() / self.layout.element_bytes()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How the elements stand in the bytes.
    #[must_use]
    pub const fn layout(&self) -> FloatLayout {
        self.layout
    }

    /// The floats in order, halves converted exactly.
    #[must_use]
    pub fn iter(&self) -> FloatsIter<'a> {
        FloatsIter(*self)
    }
}

impl<'a> IntoIterator for Floats<'a> {
    type Item = f32;
    type IntoIter = FloatsIter<'a>;

    fn into_iter(self) -> FloatsIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Floats<'a> {
    type Item = f32;
    type IntoIter = FloatsIter<'a>;

    fn into_iter(self) -> FloatsIter<'a> {
        self.iter()
    }
}

/// Iterator over the elements of a [`Floats`]. To go through all of them, [`Iterator::for_each`] is
/// twice as fast as `for`: the layout is looked at once.
#[derive(Debug, Clone)]
pub struct FloatsIter<'a>(Floats<'a>);

impl Iterator for FloatsIter<'_> {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        let size = self.0.layout.element_bytes();
        let (element, rest) = self.0.bytes.split_at_checked(size)?;
        self.0.bytes = rest;
        Some(match *element {
            [high, low] => single_from_half(u16::from_be_bytes([high, low])),
            [.., a, b, c, d] => f32::from_be_bytes([a, b, c, d]),
            // No layout has elements of one byte or of three.
            _ => return None,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }

    fn fold<B, F: FnMut(B, f32) -> B>(self, first: B, add: F) -> B {
        let Floats { bytes, layout } = self.0;
        match layout {
            FloatLayout::LengthPrefixed => {
                let elements = bytes.as_chunks().0.iter();
                let floats = elements.map(|&[_, _, _, _, a, b, c, d]| [a, b, c, d]);
                floats.map(f32::from_be_bytes).fold(first, add)
            }
            FloatLayout::Single => {
                let floats = bytes.as_chunks().0.iter().copied();
                floats.map(f32::from_be_bytes).fold(first, add)
            }
            FloatLayout::Half => {
                let halves = bytes.as_chunks().0.iter().copied();
                let floats = halves.map(|half| single_from_half(u16::from_be_bytes(half)));
                floats.fold(first, add)
            }
        }
    }
}

impl ExactSizeIterator for FloatsIter<'_> {}

/// IEEE 754 binary16 to binary32. Every half has a single of the same value.
fn single_from_half(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half) & 0x3ff;
    let magnitude = match (exponent, fraction) {
        (0, 0) => 0,
        // A subnormal half is a normal single: its highest bit becomes the implicit one.
        (0, _) => {
            let shift = fraction.leading_zeros() - 21;
            ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13)
        }
        (0x1f, _) => 0x7f80_0000 | (fraction << 13),
        (_, _) => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_half_becomes_the_single_of_the_same_value() {
        for half in 0..=u16::MAX {
            let sign = if half >> 15 == 0 { 1.0 } else { -1.0 };
            let exponent = i32::from((half >> 10) & 0x1f);
            let fraction = f64::from(half & 0x3ff);
            let single = f64::from(single_from_half(half));
            let expected = match exponent {
                0 => sign * fraction * 2f64.powi(-24),
                0x1f if fraction == 0.0 => sign * f64::INFINITY,
                0x1f => {
                    assert!(single.is_nan());
                    continue;
                }
                _ => sign * (1024.0 + fraction) * 2f64.powi(exponent - 25),
            };
            assert_eq!(single.to_bits(), expected.to_bits(), "{half:#06x}");
        }
    }

    #[test]
    fn bytes_that_do_not_fit_the_layout_are_no_floats() {
        assert_eq!(Floats::new(&[0; 6], FloatLayout::Single), None);
        assert_eq!(Floats::new(&[0; 3], FloatLayout::Half), None);
        let null_then_zero = [255, 255, 255, 255, 0, 0, 0, 4, 0, 0, 0, 0];
        let prefixed = FloatLayout::LengthPrefixed;
        assert_eq!(Floats::new(&null_then_zero, prefixed), None);
        assert_eq!(Floats::new(&[0, 0, 0, 5, 0, 0, 0, 0], prefixed), None);
    }

    proptest! {
        #[test]
        fn floats_come_out_bit_by_bit_as_they_were_sent(bits in prop::collection::vec(any::<u32>(), 0..64)) {
            let single: Vec<u8> = bits.iter().flat_map(|b| b.to_be_bytes()).collect();
            let prefixed: Vec<u8> = bits.iter().flat_map(|b| (4 << 32 | u64::from(*b)).to_be_bytes()).collect();
            for (bytes, layout) in [(&single, FloatLayout::Single), (&prefixed, FloatLayout::LengthPrefixed)] {
                let floats = Floats::new(bytes, layout).expect("the layout fits");
                prop_assert_eq!(floats.len(), bits.len());
                prop_assert_eq!(floats.iter().len(), bits.len());
                let read: Vec<u32> = floats.iter().map(f32::to_bits).collect();
                prop_assert_eq!(&read, &bits);
            }
        }
    }
}

//! Which vectors does Elasticsearch take? What it refuses, it refuses with the whole document, so
//! this is asked before. Pure.

use std::fmt;

use crate::value::Value;

/// Why Elasticsearch would refuse a vector (each tried on 8.19 with `similarity: cosine`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorFault {
    /// Its length is not the field's.
    Length {
        /// Elements that it has.
        found: usize,
        /// `dims` of the field.
        expected: u32,
    },
    /// An element is NULL.
    Null,
    /// An element is NaN, infinite, or beyond an `f32`.
    NotFinite,
    /// The sum of the squares is zero in `f32`, also by underflow: cosine has no direction then.
    Zero,
    /// The sum of the squares is infinite in `f32`.
    TooLarge,
    /// It has more than one dimension, or elements that are no floats.
    NotFlat,
}

impl fmt::Display for VectorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found, expected } => {
                write!(
                    f,
                    "a vector of {found} elements where {expected} are declared"
                )
            }
            Self::Null => f.write_str("a vector with a NULL element"),
            Self::NotFinite => f.write_str("a vector with an element that is not finite"),
            Self::Zero => f.write_str("a vector whose magnitude is zero"),
            Self::TooLarge => f.write_str("a vector whose magnitude is beyond a 32-bit float"),
            Self::NotFlat => f.write_str("a vector that is not one row of floats"),
        }
    }
}

/// Checks that a vector field of `dimensions` takes the value, which is not NULL.
pub(super) fn check(value: &Value<'_>, dimensions: u32) -> Result<(), VectorFault> {
    let mut sum = Sum::default();
    let found = match value {
        Value::Floats(floats) => {
            floats.iter().for_each(|float| sum.add(float));
            floats.len()
        }
        Value::Array(items) => {
            for item in items {
                sum.add(float(item)?);
            }
            items.len()
        }
        _ => return Err(VectorFault::NotFlat),
    };
    let expected = dimensions;
    if u32::try_from(found) != Ok(expected) {
        return Err(VectorFault::Length { found, expected });
    }
    sum.check()
}

/// An array's element as the `f32` that Elasticsearch makes of it.
#[expect(clippy::cast_possible_truncation, reason = "as Elasticsearch reads it")]
fn float(item: &Value<'_>) -> Result<f32, VectorFault> {
    match item {
        Value::Float4(float) => Ok(*float),
        Value::Float8(float) => Ok(*float as f32),
        Value::Null => Err(VectorFault::Null),
        _ => Err(VectorFault::NotFlat),
    }
}

/// What Elasticsearch looks at in a vector.
struct Sum {
    finite: bool,
    squares: f32,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            finite: true,
            squares: 0.0,
        }
    }
}

impl Sum {
    fn add(&mut self, float: f32) {
        self.finite &= float.is_finite();
        self.squares += float * float;
    }

    fn check(&self) -> Result<(), VectorFault> {
        match self.squares {
            _ if !self.finite => Err(VectorFault::NotFinite),
            0.0 => Err(VectorFault::Zero),
            squares if squares.is_infinite() => Err(VectorFault::TooLarge),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(items: &[f64]) -> Result<(), VectorFault> {
        let items = items.iter().map(|item| Value::Float8(*item)).collect();
        check(&Value::Array(items), 3)
    }

    #[test]
    fn a_vector_with_a_direction_is_taken() {
        assert_eq!(checked(&[0.0, 1e-22, 0.0]), Ok(()));
        assert_eq!(checked(&[1e19, 0.0, -1.0]), Ok(()));
    }

    #[test]
    fn what_elasticsearch_refuses_is_named() {
        let (found, expected) = (2, 3);
        let length = VectorFault::Length { found, expected };
        assert_eq!(checked(&[1.0, 2.0]), Err(length));
        assert_eq!(checked(&[1.0, f64::NAN, 2.0]), Err(VectorFault::NotFinite));
        assert_eq!(checked(&[1.0, 1e39, 2.0]), Err(VectorFault::NotFinite));
        assert_eq!(checked(&[0.0, -0.0, 0.0]), Err(VectorFault::Zero));
        assert_eq!(checked(&[1e-23, 0.0, 0.0]), Err(VectorFault::Zero));
        assert_eq!(checked(&[1e30, 1e30, 1.0]), Err(VectorFault::TooLarge));
        let null = vec![Value::Float4(1.0), Value::Null, Value::Float4(2.0)];
        assert_eq!(check(&Value::Array(null), 3), Err(VectorFault::Null));
        let nested = vec![Value::Array(vec![]); 3];
        assert_eq!(check(&Value::Array(nested), 3), Err(VectorFault::NotFlat));
    }
}

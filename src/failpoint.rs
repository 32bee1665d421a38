//! Points between two durable steps at which tests make the program crash, stall or fail.
//!
//! A point stands where state changes hands: between storing something and what rests on it. With
//! the feature `failpoints` the variable `FAILPOINTS` says what happens where, as the `fail` crate
//! reads it (`slot-created=panic`); without the feature nothing is left of a point, so no release
//! has one. tests/faults/program/points.rs has them all and how each is reached.

/// `failpoint!("name")`, or `failpoint!("name", Failure::Heals)` where the enclosing function can
/// fail here: what makes an error of the text, which then is returned.
#[cfg(feature = "failpoints")]
macro_rules! failpoint {
    ($name:literal) => {
        tracing::trace!(target: "failpoint", $name);
        fail::fail_point!($name);
    };
    ($name:literal, $error:expr) => {
        tracing::trace!(target: "failpoint", $name);
        fail::fail_point!($name, |_| Err(
            $error(concat!("failpoint ", $name).to_owned()).into()
        ));
    };
}

#[cfg(not(feature = "failpoints"))]
macro_rules! failpoint {
    ($name:literal $(, $error:expr)?) => {};
}

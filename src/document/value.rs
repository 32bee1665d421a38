//! A decoded value in its JSON form.
//!
//! Arrays and objects nest as the value does; `docs/document.md` has the form of each type. Pure.

use super::json;
use crate::value::{Floats, Value};

/// What most floats take at most, with their comma.
const FLOAT_CHARS: usize = 16;

/// Appends values to a document.
pub(super) struct ValueWriter<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// Floats that became `null` because JSON has no number for them.
    pub(super) floats_dropped: u32,
}

impl ValueWriter<'_> {
    /// Writes a value as its type's JSON form.
    pub(super) fn natural(&mut self, value: &Value<'_>, wrap: bool) {
        match value {
            Value::Null => self.out.extend_from_slice(b"null"),
            Value::Bool(flag) => self.out.extend_from_slice(bool_text(*flag)),
            Value::Int(number) => json::write_int(self.out, *number),
            Value::Float4(float) => self.float(*float),
            Value::Float8(float) => self.float(*float),
            Value::Decimal(text) => json::write_string(self.out, text),
            Value::Text(text) => json::write_string(self.out, text),
            Value::Json(text) => self.json(text, wrap, json::write_json),
            Value::Floats(floats) => self.floats(floats),
            Value::Array(items) => self.list(items, |writer, item| writer.natural(item, wrap)),
            Value::Object(members) => {
                for (index, (name, member)) in members.iter().enumerate() {
                    self.out.push(if index == 0 { b'{' } else { b',' });
                    json::write_string(self.out, name);
                    self.out.push(b':');
                    self.natural(member, wrap);
                }
                if members.is_empty() {
                    self.out.push(b'{');
                }
                self.out.push(b'}');
            }
        }
    }

    /// Writes a value as one string, an array as an array of strings.
    pub(super) fn string(&mut self, value: &Value<'_>) {
        match value {
            Value::Null => self.out.extend_from_slice(b"null"),
            Value::Json(text) => json::write_string(self.out, text),
            Value::Decimal(_) | Value::Text(_) => self.natural(value, false),
            Value::Float4(float) => self.float_string(*float),
            Value::Float8(float) => self.float_string(*float),
            Value::Floats(floats) => self.list(*floats, Self::float_string),
            Value::Array(items) => self.list(items, |writer, item| writer.string(item)),
            Value::Bool(_) | Value::Int(_) => {
                self.out.push(b'"');
                self.natural(value, false);
                self.out.push(b'"');
            }
            Value::Object(_) => {
                let start = self.out.len();
                self.natural(value, false);
                let object = String::from_utf8_lossy(&self.out[start..]).into_owned();
                self.out.truncate(start);
                json::write_string(self.out, &object);
            }
        }
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.out.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write(self, item);
        }
        self.out.push(b']');
    }

    /// Writes an array of floats in one go: an embedding takes most of a document's time, and this
    /// half of what [`Self::list`] takes for it.
    fn floats(&mut self, floats: &Floats<'_>) {
        self.out.reserve(floats.len() * FLOAT_CHARS + 2);
        let mut buffer = zmij::Buffer::new();
        let mut separator = b'[';
        floats.iter().for_each(|float| {
            self.out.push(separator);
            separator = b',';
            if float.is_finite() {
                let text = buffer.format_finite(float);
                self.out.extend_from_slice(text.as_bytes());
            } else {
                self.float(float);
            }
        });
        if floats.is_empty() {
            self.out.push(b'[');
        }
        self.out.push(b']');
    }

    /// Writes a float; `null`, counted, when JSON has no number for it.
    fn float<F: zmij::Float + Into<f64>>(&mut self, float: F) {
        if !json::write_float(self.out, float) {
            self.out.extend_from_slice(b"null");
            self.floats_dropped += 1;
        }
    }

    /// Writes a float as a string, which has a form for each, as PostgreSQL prints it.
    fn float_string<F: zmij::Float + Into<f64> + Copy>(&mut self, float: F) {
        self.out.push(b'"');
        if !json::write_float(self.out, float) {
            let float: f64 = float.into();
            self.out.extend_from_slice(match float {
                f64::INFINITY => b"Infinity",
                f64::NEG_INFINITY => b"-Infinity",
                _ => b"NaN",
            });
        }
        self.out.push(b'"');
    }

    /// Writes JSON text; what is no object stands in one when the field takes objects alone.
    pub(super) fn json(&mut self, text: &str, wrap: bool, write: fn(&mut Vec<u8>, &str)) {
        if wrap && !json::is_object(text) {
            self.out.extend_from_slice(b"{\"value\":");
            write(self.out, text);
            self.out.push(b'}');
        } else {
            write(self.out, text);
        }
    }
}

fn bool_text(flag: bool) -> &'static [u8] {
    if flag { b"true" } else { b"false" }
}

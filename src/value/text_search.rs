//! `tsvector` and `tsquery` in the text that PostgreSQL prints (`tsvector.c`, `tsquery.c`).

use super::{DecodeError, Value, reader::Reader};

/// Lexemes in their order, each with its positions and weights: `'cat':3 'fat':2,11A`.
pub(super) fn vector(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    const POSITION: u16 = 0x3fff;
    let count = reader.count(3)?;
    let mut out = String::new();
    for index in 0..count {
        if index > 0 {
            out.push(' ');
        }
        push_quoted(&mut out, reader.terminated_text()?);
        for nth in 0..reader.u16()? {
            let position = reader.u16()?;
            out.push(if nth == 0 { ':' } else { ',' });
            out.push_str(itoa::Buffer::new().format(position & POSITION));
            out.push_str(["", "C", "B", "A"][usize::from(position >> 14)]);
        }
    }
    Ok(Value::Text(out.into()))
}

/// The query with the parentheses that PostgreSQL prints (`infix` in `tsquery.c`).
pub(super) fn query(reader: &mut Reader<'_>) -> Result<Value<'static>, DecodeError> {
    let count = reader.count(2)?;
    let mut tokens = Vec::with_capacity(count);
    for _ in 0..count {
        tokens.push(token(reader)?);
    }
    // An operator stands before its right operand, and that before the left one: from the end,
    // each operator finds its operands finished. No recursion, however deep the query.
    let mut parts: Vec<Part> = Vec::new();
    for token in tokens.into_iter().rev() {
        let part = match token {
            Token::Operand(text) => Part {
                text,
                binding: u8::MAX,
                is_phrase: false,
            },
            Token::Operator(operator) => operator.apply(&mut parts)?,
        };
        parts.push(part);
    }
    match (parts.pop(), parts.is_empty()) {
        (Some(part), true) => Ok(Value::Text(part.text.into())),
        (None, _) => Ok(Value::Text("".into())),
        _ => Err(MISPLACED),
    }
}

const MISPLACED: DecodeError = DecodeError::Invalid("a tsquery whose operands do not add up");

enum Token {
    Operand(String),
    Operator(Operator),
}

#[derive(Clone, Copy)]
enum Operator {
    Not,
    And,
    Or,
    Phrase(u16),
}

/// A printed part of a query, and how strongly its operator binds.
struct Part {
    text: String,
    binding: u8,
    is_phrase: bool,
}

fn token(reader: &mut Reader<'_>) -> Result<Token, DecodeError> {
    match reader.u8()? {
        1 => {
            let (weights, prefix) = (reader.u8()?, reader.u8()? != 0);
            let mut text = String::new();
            push_quoted(&mut text, reader.terminated_text()?);
            if weights != 0 || prefix {
                text.push(':');
            }
            if prefix {
                text.push('*');
            }
            for (bit, letter) in [(8, 'A'), (4, 'B'), (2, 'C'), (1, 'D')] {
                if weights & bit != 0 {
                    text.push(letter);
                }
            }
            Ok(Token::Operand(text))
        }
        2 => Ok(Token::Operator(match reader.u8()? {
            1 => Operator::Not,
            2 => Operator::And,
            3 => Operator::Or,
            4 => Operator::Phrase(reader.u16()?),
            _ => return Err(DecodeError::Invalid("the operator of a tsquery")),
        })),
        _ => Err(DecodeError::Invalid("the kind of a tsquery's item")),
    }
}

impl Operator {
    fn binding(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Phrase(_) => 3,
            Self::Not => 4,
        }
    }

    /// Takes the operands from the end of `parts` and joins them.
    fn apply(self, parts: &mut Vec<Part>) -> Result<Part, DecodeError> {
        let binding = self.binding();
        let is_phrase = matches!(self, Self::Phrase(_));
        let right = parts.pop().ok_or(MISPLACED)?;
        let text = if matches!(self, Self::Not) {
            format!("!{}", right.within(binding, false))
        } else {
            let right = right.within(binding, is_phrase);
            let mut text = parts.pop().ok_or(MISPLACED)?.within(binding, false);
            match self {
                Self::And => text.push_str(" & "),
                Self::Or => text.push_str(" | "),
                Self::Phrase(1) | Self::Not => text.push_str(" <-> "),
                Self::Phrase(distance) => {
                    text.push_str(" <");
                    text.push_str(itoa::Buffer::new().format(distance));
                    text.push_str("> ");
                }
            }
            text.push_str(&right);
            text
        };
        Ok(Part {
            text,
            binding,
            is_phrase,
        })
    }
}

impl Part {
    /// The text inside an operator that binds with `binding`. A phrase to the right of a phrase
    /// keeps its parentheses, since there the order counts.
    fn within(self, binding: u8, right_of_phrase: bool) -> String {
        if self.binding < binding || (self.is_phrase && right_of_phrase) {
            format!("( {} )", self.text)
        } else {
            self.text
        }
    }
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('\'');
    for letter in text.chars() {
        if letter == '\'' || letter == '\\' {
            out.push(letter);
        }
        out.push(letter);
    }
    out.push('\'');
}

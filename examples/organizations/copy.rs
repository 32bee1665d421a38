//! One line of COPY's text format, field by field (PostgreSQL manual, COPY, "Text Format"): fields
//! are separated by tabs, NULL is `\N`, and a backslash, tab or line break in a value is escaped.

use std::fmt::Display;

/// The line being written; its memory is used again for the next one.
#[derive(Default)]
pub(crate) struct Line {
    text: String,
    started: bool,
}

impl Line {
    /// Appends a value, or NULL for none.
    pub(crate) fn field(&mut self, value: Option<impl Display>) {
        self.separate();
        match value {
            Some(value) => self.push_escaped(&value.to_string()),
            None => self.text.push_str("\\N"),
        }
    }

    /// Appends a `text[]`: each element in quotes, so that none can be taken for NULL or for two.
    pub(crate) fn array(&mut self, elements: Option<&[String]>) {
        self.field(elements.map(|elements| {
            let quoted: Vec<String> = elements
                .iter()
                .map(|element| {
                    let escaped = element.replace('\\', "\\\\").replace('"', "\\\"");
                    format!("\"{escaped}\"")
                })
                .collect();
            format!("{{{}}}", quoted.join(","))
        }));
    }

    /// Ends the line; the next field begins a new one.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.text.push('\n');
        self.started = false;
        self.text.as_bytes()
    }

    fn separate(&mut self) {
        if self.started {
            self.text.push('\t');
        } else {
            self.text.clear();
            self.started = true;
        }
    }

    fn push_escaped(&mut self, value: &str) {
        if !value.contains(['\\', '\t', '\n', '\r']) {
            self.text.push_str(value);
            return;
        }
        for letter in value.chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '\t' => self.text.push_str("\\t"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                other => self.text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn what_copy_would_misread_is_escaped() {
        let mut line = Line::default();
        line.field(Some("a\tb\\c\nd"));
        line.field(None::<&str>);
        line.array(Some(&["NULL".to_owned(), "say \"hi\", \\".to_owned()]));
        line.array(Some(&[]));
        assert_eq!(
            line.finish(),
            b"a\\tb\\\\c\\nd\t\\N\t{\"NULL\",\"say \\\\\"hi\\\\\", \\\\\\\\\"}\t{}\n"
        );
        line.field(Some("next line"));
        assert_eq!(line.finish(), b"next line\n");
    }
}

//! Bulk operations as bytes: counted as they pass, and cut anew to any batch size.

use bytes::{Bytes, BytesMut};

/// Counts the operations of one bulk body that comes in chunks. A delete is one line, an index
/// operation two; the third byte of an action line (`{"index…`, `{"delete…`) tells which.
#[derive(Debug, Default)]
pub struct Counter {
    operations: u64,
    in_document: bool,
    /// Bytes of this line that are behind us, up to three.
    column: usize,
    deletes: bool,
}

impl Counter {
    /// Goes on with the next chunk.
    pub fn add(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            let end = memchr::memchr(b'\n', chunk);
            let line = &chunk[..end.unwrap_or(chunk.len())];
            if self.column <= 2
                && let Some(letter) = line.get(2 - self.column)
            {
                self.deletes = *letter == b'd';
            }
            self.column = (self.column + line.len()).min(3);
            let Some(end) = end else { return };
            if self.in_document {
                self.in_document = false;
            } else {
                self.operations += 1;
                self.in_document = !self.deletes;
            }
            self.column = 0;
            chunk = &chunk[end + 1..];
        }
    }

    /// How many have begun.
    pub fn operations(&self) -> u64 {
        self.operations
    }
}

/// Operations, already encoded.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    bytes: Bytes,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Operations {
    /// Takes the bodies of bulk requests.
    pub fn new(bodies: Vec<Bytes>) -> Self {
        let mut bytes = BytesMut::with_capacity(bodies.iter().map(Bytes::len).sum());
        for body in bodies {
            bytes.extend_from_slice(&body);
        }
        let mut ends = Vec::new();
        let mut lines = memchr::memchr_iter(b'\n', &bytes).map(|end| end + 1);
        let mut start = 0;
        while let Some(action) = lines.next() {
            let end = if bytes[start..].starts_with(br#"{"delete"#) {
                action
            } else {
                lines.next().unwrap_or(action)
            };
            ends.push(end);
            start = end;
        }
        drop(lines);
        Self {
            bytes: bytes.freeze(),
            ends,
        }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The first `count` of them.
    pub fn first(&self, count: usize) -> Self {
        Self {
            bytes: self.bytes.clone(),
            ends: self.ends[..count.min(self.len())].to_vec(),
        }
    }

    /// Bodies of `size` operations each, the last with the rest; nothing is copied.
    pub fn batches(&self, size: usize) -> Vec<Bytes> {
        let mut start = 0;
        self.ends
            .chunks(size.max(1))
            .filter_map(|chunk| chunk.last())
            .map(|end| {
                let batch = self.bytes.slice(start..*end);
                start = *end;
                batch
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"index\":{\"_id\":\"a\"}}\n{\"delete\":1}\n{\"delete\":{\"_id\":\"b\"}}\n{\"index\":{\"_id\":\"c\"}}\n{}\n";

    #[test]
    fn operations_are_counted_however_the_body_is_cut() {
        for cut in 0..=BODY.len() {
            let mut counter = Counter::default();
            counter.add(&BODY[..cut]);
            counter.add(&BODY[cut..]);
            assert_eq!(counter.operations(), 3, "cut at {cut}");
        }
        let mut counter = Counter::default();
        for byte in BODY {
            counter.add(&[*byte]);
        }
        assert_eq!(counter.operations(), 3);
    }

    #[test]
    fn bodies_are_cut_anew_between_operations() {
        let operations = Operations::new(vec![Bytes::from_static(BODY), Bytes::from_static(BODY)]);
        assert_eq!(operations.len(), 6);
        let batches = operations.batches(4);
        assert_eq!(batches.len(), 2);
        assert!(batches[0].ends_with(b"{\"delete\":1}\n"), "{batches:?}");
        assert_eq!(batches.concat(), BODY.repeat(2));
        assert_eq!(
            operations.first(1).batches(9),
            [Bytes::from_static(&BODY[..35])]
        );
    }
}

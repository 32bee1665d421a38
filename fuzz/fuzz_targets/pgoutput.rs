//! One message of the stream: read or refused, and no cell points outside of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sync_es::{
    change::Cell,
    postgres::{Message, OldTuple},
};

fuzz_target!(|input: &[u8]| {
    let Ok(message) = Message::parse(input) else {
        return;
    };
    let mut tuples = Vec::new();
    match message {
        Message::Insert { new, .. } => tuples.push(new),
        Message::Update { old, new, .. } => {
            tuples.push(new);
            if let Some(OldTuple::Key(cells) | OldTuple::Full(cells)) = old {
                tuples.push(cells);
            }
        }
        Message::Delete { old, .. } => {
            let (OldTuple::Key(cells) | OldTuple::Full(cells)) = old;
            tuples.push(cells);
        }
        Message::Relation(_) | Message::Truncate { .. } | Message::Other => {}
    }
    for cell in tuples.iter().flatten() {
        if let Cell::Binary(range) | Cell::Text(range) = cell {
            assert!(input.get(range.clone()).is_some());
        }
    }
});

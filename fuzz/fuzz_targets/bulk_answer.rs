//! The answer to a bulk request: whatever comes, there is one verdict an operation or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sync_es::{
    change::Version,
    elasticsearch::{Sent, judge},
};

fuzz_target!(|input: &[u8]| {
    let Some((&sent, answer)) = input.split_first() else {
        return;
    };
    let sent = Sent {
        operations: sent.into(),
        source_bytes: answer.len(),
    };
    if let Ok(verdicts) = judge(answer, sent, Version(1 << 40)) {
        assert_eq!(verdicts.len(), sent.operations);
    }
});

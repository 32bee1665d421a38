//! `POSTGRES_URL`: any text is read or refused, and no error repeats what may be the password.

#![no_main]

use libfuzzer_sys::fuzz_target;
use secrecy::SecretString;
use sync_es::postgres::{Options, OptionsError};

/// Stands in the text where its first zero byte is.
const SECRET: &str = "hunter2-canary";

fuzz_target!(|input: &str| {
    // These name files, which could be any device of this machine.
    let lower = input.to_ascii_lowercase();
    if ["file", "service", "ssl", "%"]
        .iter()
        .any(|part| lower.contains(part))
    {
        return;
    }
    let text = input.replacen('\0', SECRET, 1);
    match Options::read(
        Some(&SecretString::from(text)),
        &[("USER".into(), "u".into())].into(),
    ) {
        Ok(options) => {
            let _ = (options.describe(), options.url_without_secrets());
        }
        // A path may be shown.
        Err(OptionsError::Service { .. } | OptionsError::Unreadable { .. }) => {}
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
});

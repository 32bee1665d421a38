//! Arguments and environment in, exit code out.

use std::process::ExitCode;

use sync_es::{commands, settings::Environment};

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    let environment: Environment = std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect();
    commands::start(&argv, &environment)
}

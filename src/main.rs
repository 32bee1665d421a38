//! Arguments and environment in, exit code out.

use std::process::ExitCode;

use sync_es::{commands, settings::Environment};

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _armed = arm_failpoints();
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

/// What `FAILPOINTS` says, until it is dropped. A panic ends the process there and then, so that the
/// action `panic` is a crash: no other task gets any further.
#[cfg(feature = "failpoints")]
fn arm_failpoints() -> fail::FailScenario<'static> {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
    fail::FailScenario::setup()
}

//! SIGTERM and SIGINT: asked to end, and asked again.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{pipeline::Shutdown, stop::Stop};

/// The first SIGTERM or SIGINT asks to end in order; the second ends at once, which loses nothing
/// either: what was not acknowledged comes again.
///
/// # Errors
/// Signals cannot be caught.
pub(super) fn shutdown_on_signals() -> Result<Shutdown, Stop> {
    let (ask, asked) = watch::channel(false);
    let caught = |kind| {
        signal(kind).map_err(|error| Stop::Unexpected(format!("signals cannot be caught: {error}")))
    };
    let mut terminate = caught(SignalKind::terminate())?;
    let mut interrupt = caught(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut any = async || {
            tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            }
        };
        any().await;
        tracing::info!("asked to end: finishing what is in flight (ask again to end at once)");
        ask.send_replace(true);
        let code = any().await;
        #[expect(clippy::exit, reason = "the person has asked twice")]
        std::process::exit(code);
    });
    Ok(Shutdown::new(asked))
}

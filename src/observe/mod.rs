//! What a run tells of itself. A leaf: every room may use it, and it uses none.

pub mod logs;
pub mod progress;

use std::sync::LazyLock;

use indicatif::MultiProgress;

/// The bars on standard error, of which there is one in a process; log lines go around them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

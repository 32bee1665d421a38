//! Still to come.

use anyhow::Result;

use crate::{Bench, report::Report};

pub async fn measure(_bench: &Bench, _report: &mut Report) -> Result<()> {
    Ok(())
}

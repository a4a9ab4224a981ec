//! `skep down`.

use anyhow::Result;

use super::Named;
use crate::output::Steps;

pub(super) fn run(named: &Named) -> Result<()> {
    let mut steps = Steps::new();
    Ok(named.cluster().down(&mut steps)?)
}

use super::Shell;
use crate::error::Result;
/// x
#[derive(clap::Args)]
pub(super) struct Args {}
pub(super) fn run(_args: &Args, _shell: &Shell) -> Result<()> {
    Ok(())
}

//! The `selfrag` command.

fn main() -> anyhow::Result<()> {
    Ok(())
}

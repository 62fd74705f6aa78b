//! The `selfrag` command, one file per subcommand.

pub mod convert;

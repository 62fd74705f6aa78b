//! The paper's evaluation: six tasks and ELI5, both algorithms, and what the original's tools read.
//!
//! ```text
//! input file → rows (checked one by one) → question → engine, a batch at a time → answer → metrics → a record a question
//! records → the original's layout · report (HTML)
//! ```
//!
//! [`journal`] keeps the records: one JSON line each, appended as soon as they are known, taken up again after a kill. Nothing in a
//! record depends on time, so a run that was interrupted is in the end the same as one that was not.

pub mod evaluate;
pub mod has_answer;
pub mod journal;
pub mod labels;
pub mod metrics;
pub mod output;
pub mod prompts;
pub mod record;
pub mod recording;
pub mod report;
pub mod rouge;
pub mod rows;
pub mod task;

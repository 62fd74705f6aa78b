//! The critic's labels from a large language model on an OpenAI-compatible server (paper §3.2.1: GPT-4), and the critic's training file
//! made of them.
//!
//! ```text
//! rows → items (item: job, fields) → messages (wording, ours) → server → journal, a line an answer (ask) → label or not (answer)
//! journals → combine → the critic's training file, rows as data::critic has them
//! ```
//!
//! | job | is asked of | labels |
//! | --- | --- | --- |
//! | `retrieval` | `instruction` | `[Yes]`, `[No]`: `[Retrieval]`, `[No Retrieval]` |
//! | `multi_retrieval` | + `preceding_sentences`, `evidence`, `target_output` | `[Retrieval]`, `[No Retrieval]` |
//! | `multi_retrieval_three_way` | the same | + `[Continue to Use Evidence]` |
//! | `relevance` | `instruction`, `evidence` | `[Relevant]`, `[Irrelevant]` |
//! | `support` | + `preceding_sentences`, `target_output` | `[Fully supported]`, `[Partially supported]`, `[No support / Contradictory]` |
//! | `utility` | `instruction`, `output` | `[Utility:1]` to `[Utility:5]` |
//!
//! The fields are those of the released code's files (`gpt4_reward`); the wording of the questions is not.

pub mod answer;
pub mod ask;
pub mod combine;
pub mod estimate;
pub mod item;
pub mod wording;

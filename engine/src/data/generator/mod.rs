//! Instructions with answers → the generator's training file, by critic and retriever (paper §3.2.2, algorithm 3).
//!
//! ```text
//! sources            instruction, answer                                              steps::Steps runs these in their order,
//! need_retrieval     critic: does the instruction need passages?                      each with a file of its name
//! utility            critic: is the answer useful?
//! initial_passages   retriever: instruction and answer → a passage to judge sentences by
//! sentences          the answers' sentences
//! sentence_retrieval critic: does each later sentence need another passage?
//! passages           retriever: instruction and sentence → passages
//! pairs              sentences with each of their passages
//! relevance, support critic: does the passage help, does it support the sentence?
//! assemble           labels and a passage for each sentence → rows                    pure: labels in, rows out
//! ```
//!
//! Passes of critic and retriever go on where they stopped and are skipped when they are whole ([`work`]). What is pure is computed by
//! each run, so that a change of the settings for [`assemble`] costs no pass. [`settings::Settings`] has every number; its `paper` and
//! `compat` differ as the specification of the released code says.
//!
//! Departures from the released code in both: sentences by our own rules, not spaCy's; passes ask only what has an effect on the rows, so
//! that what `compat` loses at a pass's end are other items than there.

pub mod assemble;
pub mod critic;
pub mod datasets;
pub mod engine_critic;
pub mod settings;
pub mod sources;
pub mod steps;
pub mod work;

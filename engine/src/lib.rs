//! Self-RAG (arXiv 2310.11511) on WebGPU.
//!
//! A question flows one way through the modules:
//!
//! ```text
//! question → retriever → passages → generator → segments → critique → scores → self_rag (decide, rank) → answer
//! ```
//!
//! The GPU is one layer beneath: `generator`, `retriever` → [`ops`] → [`gpu`] → `shaders/`. Nothing lower names anything higher.

pub mod bench;
#[cfg(feature = "cli")]
pub mod cli;
pub mod critique;
#[cfg(feature = "cli")]
pub mod data;
pub mod engine;
pub mod error;
#[cfg(feature = "cli")]
pub mod eval;
pub mod event;
pub mod generator;
pub mod gpu;
#[cfg(feature = "cli")]
pub mod json_journal;
#[cfg(feature = "cli")]
pub mod json_rows;
pub mod ops;
pub mod order;
#[cfg(feature = "cli")]
mod pickle;
pub mod platform;
pub mod reference;
pub mod retriever;
pub mod self_rag;
pub mod sentences;
pub mod tokenizer;
#[cfg(feature = "training")]
pub mod train;
pub mod weights;

pub use error::{Error, Result};

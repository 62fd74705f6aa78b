//! Passages in clusters over static files, for stores too large to load: a question reads a few ranges of a few files.
//!
//! [`build`] makes such a store from a flat one; [`mod@format`] says what lies where; [`codes`] estimates inner products from a bit or a
//! few a value; `centroids` finds the nearest clusters; [`plan`] chooses ranges; [`kept`] keeps what was read; [`search`] asks; [`index`] is the
//! retriever over it.

#[cfg(feature = "cli")]
pub mod build;
mod cache;
mod centroids;
pub mod codes;
mod fetch;
pub mod format;
pub mod index;
pub mod kept;
#[cfg(feature = "cli")]
mod kmeans;
#[cfg(feature = "cli")]
pub mod measure;
pub mod plan;
pub mod search;

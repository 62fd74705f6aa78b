//! Collections on a Milvus server, for more passages than one machine holds: pushed once, searched by the server.
//!
//! The encoder still runs here; what is remote is the search for the largest inner products, and the passages. Behind the feature `milvus`:
//! without it an address is an error that names the feature. [`Address`] is the form of an address; `record` what a collection says about
//! itself; `check` trusts no answer.

mod address;
#[cfg(feature = "milvus")]
mod check;
#[cfg(feature = "milvus")]
mod collection;
#[cfg(feature = "milvus")]
mod connection;
#[cfg(feature = "milvus")]
mod index;
#[cfg(feature = "milvus")]
mod push;
#[cfg(feature = "milvus")]
mod record;
#[cfg(not(feature = "milvus"))]
mod without;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

pub use address::{Address, is_milvus};
#[cfg(not(feature = "milvus"))]
pub use without::{open, push, told};
#[cfg(feature = "milvus")]
pub use {
    index::{open, told},
    push::push,
};

use crate::{Error, Result};

/// Most clusters that Milvus makes.
const MOST_CLUSTERS: u32 = 65_536;

/// How a collection is reached and searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// For one request, with all its tries; loading a collection may take longer.
    pub timeout: Duration,
    /// Clusters of an IVF index that a question searches; none for an eighth of them, at least 8.
    pub nprobe: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), nprobe: None }
    }
}

/// The server's index. Both search raw inner products well, where a graph can lose most of its recall (Milvus issue 51821).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexKind {
    /// Every passage is scored.
    Flat,
    /// Passages in clusters, of which a question searches some.
    Ivf {
        /// Number of clusters.
        nlist: u32,
    },
}

impl IndexKind {
    /// Whether Milvus makes such an index.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Ivf { nlist } if !(1..=MOST_CLUSTERS).contains(&nlist) => {
                Err(Error::config("nlist", format!("{nlist}, 1 to {MOST_CLUSTERS} expected")))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for IndexKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat => f.write_str("FLAT"),
            Self::Ivf { nlist } => write!(f, "IVF of {nlist} clusters"),
        }
    }
}

/// How to push.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PushOptions {
    /// The index to make.
    pub index: IndexKind,
    /// Drop a collection that holds something else.
    pub replace: bool,
    /// For one request.
    pub timeout: Duration,
}

/// What a push tells while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many passages were looked at: they fit the collection's fields.
    Checked(u64),
    /// So many are there from an earlier push.
    Resumed(u64),
    /// So many more are there.
    Pushed(u64),
    /// All are there; the server makes its index.
    Indexing,
}

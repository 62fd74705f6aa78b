//! The browser: fetch, the origin-private file system, the clock.

use std::time::Duration;

/// Waits.
pub async fn sleep(_duration: Duration) {}

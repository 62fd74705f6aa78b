//! Promise: every kernel computes what its plain twin computes in a worker too, where the page runs the engine; `kernels.rs` has the paths
//! that a device can have.
#![cfg(target_family = "wasm")]

use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[path = "common/kernels.rs"]
mod kernels;

#[wasm_bindgen_test]
async fn kernels_with_all_the_device_offers() {
    kernels::run(selfrag::gpu::Options::default()).await;
}

//! Promise: every kernel computes what its plain twin computes; in a worker, where the page runs the engine.
#![cfg(target_family = "wasm")]

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[path = "common/kernels.rs"]
mod kernels;

//! Promise: every kernel computes what its plain twin computes; natively and in a page.

#[cfg(target_family = "wasm")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

#[path = "common/kernels.rs"]
mod kernels;

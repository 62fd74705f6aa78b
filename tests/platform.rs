//! Promise: network and picked files are read by range, checked, in a page.
#![cfg(target_family = "wasm")]

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

#[path = "common/platform_web.rs"]
mod platform_web;

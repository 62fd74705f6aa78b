//! Promise: every kernel computes what its plain twin computes, on random shapes, in every path the device has: with and without
//! subgroups, with and without shader-f16; natively and in a page.

#[cfg(target_family = "wasm")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

#[path = "common/kernels.rs"]
mod kernels;

use kernels::{run, wrong_results_are_noticed};
#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test;

use selfrag::gpu::Options;

macro_rules! both {
    ($name:ident, $body:expr) => {
        #[cfg(not(target_family = "wasm"))]
        #[test]
        fn $name() {
            selfrag::platform::block_on($body);
        }
        #[cfg(target_family = "wasm")]
        #[wasm_bindgen_test]
        async fn $name() {
            $body.await;
        }
    };
}

both!(kernels_with_all_the_device_offers, run(Options::default()));
both!(kernels_without_subgroups, run(Options { subgroups: false, f16: true, cooperative: false }));
both!(kernels_without_f16, run(Options { subgroups: true, f16: false, cooperative: false }));
both!(kernels_with_neither, run(Options { subgroups: false, f16: false, cooperative: false }));
both!(comparison_fails_on_nan, wrong_results_are_noticed());

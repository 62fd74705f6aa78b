//! Promise: every kernel computes what its plain twin computes, on random shapes, in every path the device has: with and
//! without subgroups, with and without shader-f16. `kernels.rs` runs it natively and in a page,
//! `kernels_worker.rs` in a worker.

use selfrag::{
    gpu::{Gpu, Options},
    ops::self_test,
};

#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test;

/// Fewer rounds in the browser: SwiftShader compiles slowly.
const ROUNDS: u64 = if cfg!(target_family = "wasm") { 1 } else { 12 };

async fn run(options: Options) {
    let gpu = Gpu::open(options).await.expect("the tests need a GPU; a software one (lavapipe, SwiftShader) will do");
    for seed in 0..ROUNDS {
        self_test::all_kernels(&gpu, seed).await.unwrap_or_else(|error| panic!("{:?}: {error}", gpu.facts()));
    }
    assert!(gpu.facts().subgroups <= options.subgroups && gpu.facts().f16 <= options.f16, "{:?}", gpu.facts());
}

async fn wrong_results_are_noticed() {
    let error = self_test::compare("some_kernel", "case", &[1.0, f32::NAN], &[1.0, 2.0], 1e-3).unwrap_err();
    assert!(error.to_string().contains("some_kernel") && error.to_string().contains("value 1"), "{error}");
}

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

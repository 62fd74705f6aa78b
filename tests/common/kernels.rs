//! What `kernels.rs` (natively and in a page) and `kernels_worker.rs` (in a worker) do.

use selfrag::{
    gpu::{Gpu, Options},
    ops::self_test,
};

/// Fewer rounds in the browser: SwiftShader compiles slowly.
const ROUNDS: u64 = if cfg!(target_family = "wasm") { 1 } else { 12 };

/// All kernels against their twins, with what the device has of `options`.
pub(crate) async fn run(options: Options) {
    let open = async |options| {
        let gpu = Gpu::open(options).await;
        gpu.expect("the tests need a GPU; a software one (lavapipe, SwiftShader) will do")
    };
    let offered = open(Options::default()).await.facts().clone();
    // SwiftShader has no f16: going without it is another test's run again.
    if (!options.f16 && !offered.f16) || (!options.subgroups && !offered.subgroups) {
        println!("the same as with all that {} offers", offered.name);
        return;
    }
    let gpu = open(options).await;
    for seed in 0..ROUNDS {
        self_test::all_kernels(&gpu, seed).await.unwrap_or_else(|error| panic!("{:?}: {error}", gpu.facts()));
    }
    assert!(gpu.facts().subgroups <= options.subgroups && gpu.facts().f16 <= options.f16, "{:?}", gpu.facts());
}

/// What all of them rely on.
#[allow(dead_code, reason = "a page's test is enough")]
pub(crate) async fn wrong_results_are_noticed() {
    let error = self_test::compare("some_kernel", "case", &[1.0, f32::NAN], &[1.0, 2.0], 1e-3).unwrap_err();
    assert!(error.to_string().contains("some_kernel") && error.to_string().contains("value 1"), "{error}");
}

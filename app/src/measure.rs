//! Runs benchmarks in the worker, each on a device of its own: memory that overflows there takes nothing of the loaded model with it.

use selfrag::{
    Result,
    bench::{self, Order},
    gpu::{Gpu, Options},
};

use crate::{
    adapter, post,
    protocol::{BenchReply, Reply},
};

/// A device that gives everything back when it goes, not when the browser finds the time: also where the run is stopped.
struct Device(Gpu);

impl Drop for Device {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

/// Posts a report a weight format.
pub(crate) async fn measure(order: &Order) -> Result<()> {
    for spec in order.specs()? {
        let device = Device(Gpu::open(Options::default()).await?);
        let mut tell = |progress| post(&Reply::Bench(BenchReply::Progress(progress)));
        let mut report = bench::run(&device.0, &spec, &mut tell).await?;
        if report.device.name.is_empty() {
            report.device.name = adapter::name().await.unwrap_or_default();
        }
        post(&Reply::Bench(BenchReply::Report(Box::new(report))));
    }
    Ok(())
}

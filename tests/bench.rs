//! Promise: a benchmark runs every workload it is asked for and tells sane numbers; how large they are is nobody's promise.

use selfrag::{
    bench::{self, Order, Progress, Report},
    gpu::{Gpu, Options},
    platform::block_on,
};

fn run(query: &str, told: &mut Vec<Progress>) -> Report {
    let gpu = block_on(Gpu::open(Options::default())).expect("the tests need a GPU; lavapipe will do");
    let specs = Order::default().with_query(query).and_then(|order| order.specs()).unwrap();
    block_on(bench::run(&gpu, &specs[0], &mut |progress| told.push(progress))).unwrap()
}

#[test]
fn every_workload_has_its_row_and_every_number_is_sane() {
    let mut told = Vec::new();
    let names = bench::WORKLOADS.map(|(name, _)| name);
    let query = format!("geometry=tiny&layers=1&steps=3&kernels=1&workloads={}", names.join(","));
    let report = run(&query, &mut told);
    assert_eq!(report.rows.iter().map(|row| row.workload.as_str()).collect::<Vec<_>>(), names);
    let sane = |value: f64| value.is_finite() && value > 0.0;
    assert!(sane(report.copy_gb_per_sec) && sane(report.load_secs), "{report:?}");
    assert!(report.model_bytes > report.tensor_bytes && report.tensor_bytes > 0, "{report:?}");
    for row in &report.rows {
        let always = [row.secs, row.launches, row.launches_per_token, row.tokens_per_sec];
        assert!(always.into_iter().all(sane), "{row:?}");
        let known = [row.gpu_secs, row.gpu_ms_per_token, row.gpu_of_wall, row.gb_per_sec, row.of_copy];
        assert!(known.into_iter().flatten().all(sane), "{row:?}");
        assert_eq!(row.gb_per_sec.is_none(), row.workload == "prefill", "{row:?}");
    }
    // A device that has timestamps has them for all, and its kernels then have names.
    let timed = report.rows.iter().filter(|row| row.gpu_secs.is_some()).count();
    assert!(timed == 0 || timed == names.len(), "{:?}", report.rows);
    assert_eq!(timed == 0, report.kernels.is_empty(), "{:?}", report.kernels);
    for name in names {
        assert!(told.iter().any(|progress| progress.what == name), "{name} was not announced: {told:?}");
    }
    assert!(told.iter().filter_map(|progress| progress.share).all(|share| (0.0..=1.0).contains(&share)), "{told:?}");
}

#[test]
fn a_measurement_leaves_nothing_behind() {
    let gpu = block_on(Gpu::open(Options::default())).expect("the tests need a GPU; lavapipe will do");
    let specs =
        Order::default().with_query("geometry=tiny&layers=1&steps=1&workloads=decode").unwrap().specs().unwrap();
    let before = gpu.allocated_bytes();
    block_on(bench::run(&gpu, &specs[0], &mut |_| {})).unwrap();
    assert_eq!(gpu.allocated_bytes(), before);
}

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
    let all = bench::WORKLOADS.map(|(name, _)| name);
    let query = format!("geometry=tiny&layers=1&steps=3&kernels=1&workloads={}", all.join(","));
    let report = run(&query, &mut told);
    let of_llama =
        |name: &&str| !(["tune", "load"].contains(name) || name.starts_with("search-") || name.starts_with("encode-"));
    let names: Vec<&str> = all.into_iter().filter(of_llama).collect();
    // A row for each plan that was tried, of which one is in use afterwards.
    let (tried, rows): (Vec<_>, Vec<_>) = report.rows.iter().partition(|row| row.workload.starts_with("tune: "));
    assert_eq!(rows.iter().map(|row| row.workload.as_str()).collect::<Vec<_>>(), names);
    let sane = |value: f64| value.is_finite() && value > 0.0;
    assert!(tried.len() == 3 && tried.iter().all(|row| sane(row.secs) && sane(row.tokens_per_sec)), "{tried:?}");
    assert_eq!(tried.iter().filter(|row| row.workload.ends_with(", chosen")).count(), 1, "{tried:?}");
    assert!(sane(report.copy_gb_per_sec) && sane(report.load_secs), "{report:?}");
    assert!(report.model_bytes > report.tensor_bytes && report.tensor_bytes > 0, "{report:?}");
    let memory = report.memory;
    assert_eq!(memory.weight_bytes + memory.cache_bytes + memory.other_bytes, report.model_bytes, "{report:?}");
    for row in &rows {
        let always = [row.secs, row.launches, row.launches_per_token, row.tokens_per_sec];
        assert!(always.into_iter().all(sane), "{row:?}");
        let known = [row.gpu_secs, row.gpu_ms_per_token, row.gpu_of_wall, row.gb_per_sec, row.of_copy];
        assert!(known.into_iter().flatten().all(sane), "{row:?}");
        assert_eq!(row.gb_per_sec.is_none(), row.workload == "prefill", "{row:?}");
    }
    // A device that has timestamps has them for all, and its kernels then have names.
    let timed = rows.iter().filter(|row| row.gpu_secs.is_some()).count();
    assert!(timed == 0 || timed == names.len(), "{:?}", report.rows);
    assert_eq!(timed == 0, report.kernels.is_empty(), "{:?}", report.kernels);
    for name in all {
        assert!(told.iter().any(|progress| progress.what == name), "{name} was not announced: {told:?}");
    }
    assert!(told.iter().filter_map(|progress| progress.share).all(|share| (0.0..=1.0).contains(&share)), "{told:?}");
}

#[test]
fn searches_and_encoders_have_tables_of_their_own() {
    let query = "geometry=tiny&rows=5000&workloads=search-int8,search-f16,search-f32,encode-128,encode-512";
    let report = run(query, &mut Vec::new());
    assert!(report.rows.is_empty() && report.load.is_none());
    let sane = |value: f64| value.is_finite() && value > 0.0;
    let searches: Vec<_> = report.searches.iter().map(|row| (row.workload.as_str(), row.questions)).collect();
    let workloads = ["search-int8", "search-f16", "search-f32"];
    assert_eq!(searches, workloads.map(|workload| [(workload, 1), (workload, 8)]).as_flattened());
    for row in &report.searches {
        let always = [row.secs, row.launches, row.rows_per_sec, row.gb_per_sec, row.of_copy];
        assert!(always.into_iter().chain(row.gpu_secs).all(sane), "{row:?}");
        let size = match row.workload.as_str() {
            "search-f32" => 768 * 4,
            "search-f16" => 768 * 2,
            _ => 768 + 4,
        };
        assert!(row.rows == 5000 && row.bytes >= 5000 * size && row.best == 100, "{row:?}");
    }
    let encodes: Vec<_> = report.encodes.iter().map(|row| (row.workload.as_str(), row.length)).collect();
    assert_eq!(encodes, [("encode-128", 128), ("encode-512", 512)]);
    for row in &report.encodes {
        let always = [row.secs, row.passages_per_sec, row.tokens_per_sec, row.tflops];
        assert!(always.into_iter().chain(row.gpu_secs).all(sane), "{row:?}");
        assert!(row.model.ends_with("f16") && row.passages > 0, "{row:?}");
    }
    let markdown = report.markdown();
    assert!(markdown.contains("| search-int8 | 5000 × 768 |") && markdown.contains("| encode-512 |"), "{markdown}");
}

#[test]
fn rows_over_the_limit_are_streamed_and_the_table_says_what_that_costs() {
    let gpu = block_on(Gpu::open(Options::default())).expect("the tests need a GPU; lavapipe will do");
    let order = Order::default().with_query("geometry=tiny&rows=5000&workloads=search-f32").unwrap();
    let mut spec = order.specs().unwrap().remove(0);
    spec.gpu_memory = Some(6_000_000);
    let before = gpu.allocated_bytes();
    let report = block_on(bench::run(&gpu, &spec, &mut |_| {})).unwrap();
    assert_eq!(gpu.allocated_bytes(), before, "nothing is left behind");
    assert_eq!(report.searches.iter().map(|row| row.questions).collect::<Vec<_>>(), [1, 8, 64]);
    for row in &report.searches {
        // 79 tiles, of which a little less than what is allowed stays.
        assert_eq!((row.rows, row.bytes), (5000, 79 * 64 * 3072 + 16), "{row:?}");
        assert!((9_500_000..11_000_000).contains(&row.streamed_bytes), "{row:?}");
        let rate = row.streamed_bytes as f64 / row.secs / 1e9;
        assert!((row.streamed_gb_per_sec / rate - 1.0).abs() < 1e-9 && rate < row.gb_per_sec, "{row:?}");
    }
    let markdown = report.markdown();
    assert!(markdown.contains("| 0.016, 6") && markdown.contains(" streamed at "), "{markdown}");
}

#[test]
fn a_load_is_measured_alone_and_its_file_is_gone() {
    let report = run("geometry=tiny&layers=1&type=q8_0&workloads=load", &mut Vec::new());
    let load = report.load.expect("a row for the load");
    assert!(report.rows.is_empty());
    let sane = |value: f64| value.is_finite() && value > 0.0;
    assert!([load.first_secs, load.secs, load.mb_per_sec].into_iter().all(sane), "{load:?}");
    assert!(load.file_bytes > 0 && load.gpu_bytes >= load.file_bytes, "{load:?}");
    assert!(!std::path::Path::new(&load.model).exists(), "{}", load.model);
}

#[test]
fn a_load_names_the_file_that_is_not_there() {
    let gpu = block_on(Gpu::open(Options::default())).expect("the tests need a GPU; lavapipe will do");
    let order = Order::default().with_query("geometry=tiny&workloads=load&model=/nowhere/x.gguf").unwrap();
    let error = block_on(bench::run(&gpu, &order.specs().unwrap()[0], &mut |_| {})).unwrap_err().to_string();
    assert!(error.contains("/nowhere/x.gguf"), "{error}");
}

#[test]
fn a_measurement_leaves_nothing_behind() {
    let gpu = block_on(Gpu::open(Options::default())).expect("the tests need a GPU; lavapipe will do");
    let specs = Order::default()
        .with_query("geometry=tiny&layers=1&steps=1&workloads=decode,search-int8,encode-128")
        .unwrap()
        .specs()
        .unwrap();
    let before = gpu.allocated_bytes();
    block_on(bench::run(&gpu, &specs[0], &mut |_| {})).unwrap();
    assert_eq!(gpu.allocated_bytes(), before);
}

//! Not a test but a measurement, which `tab.py` beside it runs: what questions to a clustered store on a web server take in a browser.
#![cfg(target_family = "wasm")]

use selfrag::{
    platform::{get_small, now_ms},
    retriever::{
        clusters::search::{Clusters, Limits},
        files::Remote,
    },
};
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// Where `tab.py` serves the store beneath store/, and beside it the questions with the rows of their ten best.
const SERVER: Option<&str> = option_env!("SELFRAG_TAB");
const MOST_BYTES: usize = 256 << 20;

async fn words(name: &str) -> Vec<[u8; 4]> {
    let url = format!("{}/{name}", SERVER.expect("tests/scale/tab.py sets SELFRAG_TAB"));
    let bytes = get_small(&url, MOST_BYTES).await.expect("the server has the file");
    bytes.chunks_exact(4).map(|word| word.try_into().expect("four bytes")).collect()
}

async fn measure(name: &str, limits: Limits) {
    let questions: Vec<f32> = words("questions.f32").await.into_iter().map(f32::from_le_bytes).collect();
    let best: Vec<u32> = words("best.u32").await.into_iter().map(u32::from_le_bytes).collect();
    let start = now_ms();
    let files = Box::new(Remote::new(&format!("{}/store", SERVER.unwrap_or_default())));
    let clusters = Clusters::open(files, limits).await.expect("the store opens");
    let (bytes, requests) = clusters.opened();
    console_log!("OPENED {name} {:.1} {bytes} {requests} {}", now_ms() - start, u8::from(clusters.preloaded()));
    for (question, best) in questions.chunks_exact(clusters.manifest().dim).zip(best.chunks_exact(10)) {
        let start = now_ms();
        let found = clusters.find(question, 10).await.expect("an answer");
        let (ms, cost) = (now_ms() - start, found.cost);
        let hits = found.records.iter().filter(|(record, _)| best.contains(&record.row)).count();
        console_log!("FOUND {name} {ms:.1} {} {} {} {hits}", cost.bytes, cost.requests, cost.rounds);
    }
}

/// Nothing in memory before a question but the table of clusters.
#[wasm_bindgen_test]
async fn cold() {
    measure("cold", Limits { preload: 0, block_cache: 0, record_cache: 0, ..Limits::default() }).await;
}

/// All codes in memory, where the store is as small as readers want for that.
#[wasm_bindgen_test]
async fn codes_in_memory() {
    measure("codes", Limits { record_cache: 0, ..Limits::default() }).await;
}

/// One session: what earlier questions read is kept, as the page does.
#[wasm_bindgen_test]
async fn session() {
    measure("session", Limits { preload: 0, ..Limits::default() }).await;
}

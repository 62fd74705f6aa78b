//! The browser platform's cases, for a page and a worker alike.

use js_sys::{Array, Uint8Array};
use selfrag::{
    Error,
    platform::{
        BlobSource, ByteSource, HttpSource, HttpTransport, Store, Transport, get_small, now_ms, opfs::Directory, sleep,
    },
};
use wasm_bindgen_test::wasm_bindgen_test;
use web_sys::{Blob, Url};

fn blob(bytes: &[u8]) -> Blob {
    Blob::new_with_u8_array_sequence(&Array::of1(&Uint8Array::from(bytes))).unwrap()
}

/// Browsers answer range requests for blob: addresses as a server would.
fn address(bytes: &[u8]) -> String {
    Url::create_object_url_with_blob(&blob(bytes)).unwrap()
}

/// An address of the test server, which knows no ranges.
fn server(path: &str) -> String {
    let location = js_sys::Reflect::get(&js_sys::global(), &"location".into()).unwrap();
    let origin = js_sys::Reflect::get(&location, &"origin".into()).unwrap().as_string().unwrap();
    format!("{origin}/{path}")
}

async fn folder(name: &str) -> Directory {
    let root = Directory::root().await.unwrap();
    root.delete(name).await.unwrap();
    root.folder(name).await.unwrap()
}

#[wasm_bindgen_test]
async fn the_clock_goes_on_while_sleeping() {
    let start = now_ms();
    sleep(std::time::Duration::from_millis(30)).await;
    // Timers may be a millisecond early by the clock's own coarseness.
    assert!((28.0..5000.0).contains(&(now_ms() - start)), "{}", now_ms() - start);
}

#[wasm_bindgen_test]
async fn a_picked_file_is_read_by_position() {
    let source = BlobSource::new("picked.gguf", blob(b"0123456789"));
    assert_eq!(source.size(), 10);
    assert_eq!(source.read(3, 4).await.unwrap(), b"3456");
    assert_eq!(source.read(10, 0).await.unwrap(), b"");
    let message = source.read(8, 3).await.unwrap_err().to_string();
    assert!(message.contains("picked.gguf") && message.contains("byte 8"), "{message}");
    assert!(source.read(u64::MAX, 2).await.is_err());
}

#[wasm_bindgen_test]
async fn a_range_is_read_over_http_and_the_size_is_found_out() {
    let source = HttpSource::open(address(b"0123456789")).await.unwrap();
    assert_eq!(source.size(), 10);
    assert_eq!(source.read(0, 10).await.unwrap(), b"0123456789");
    assert_eq!(source.read(7, 3).await.unwrap(), b"789");
    assert_eq!(source.read(4, 0).await.unwrap(), b"");
    assert!(matches!(source.read(7, 4).await, Err(Error::Input { .. })));
}

#[wasm_bindgen_test]
async fn a_wrong_size_is_noticed() {
    // A manifest that promises more than the server has.
    let source = HttpSource::with_size(address(b"0123456789"), 20);
    let message = source.read(5, 10).await.unwrap_err().to_string();
    assert!(message.contains("after 5 of 10 bytes"), "{message}");
}

#[wasm_bindgen_test]
async fn a_server_without_ranges_is_told_unless_the_whole_file_is_wanted() {
    let url = server("");
    let message = HttpSource::open(&url).await.unwrap_err().to_string();
    assert!(message.contains("ignored the range request"), "{message}");
    let whole = get_small(&url, 1 << 20).await.unwrap();
    assert!(!whole.is_empty());
    let source = HttpSource::with_size(&url, whole.len() as u64);
    assert_eq!(source.read(0, whole.len()).await.unwrap(), whole);
    assert!(source.read(1, 5).await.unwrap_err().to_string().contains("ignored the range request"));
}

#[wasm_bindgen_test]
async fn a_missing_file_and_a_broken_address_are_errors_of_the_network() {
    let url = server("no-such-file");
    match get_small(&url, 1000).await.unwrap_err() {
        Error::Network { url: asked, problem } => {
            assert!(asked == url && problem.contains("404"), "{asked}: {problem}")
        }
        other => panic!("{other}"),
    }
    assert!(matches!(get_small("http://[", 1000).await, Err(Error::Network { .. })));
}

#[wasm_bindgen_test]
async fn a_small_file_that_is_large_is_refused() {
    let message = get_small(&address(&[0; 101]), 100).await.unwrap_err().to_string();
    assert!(message.contains("more than 100 bytes"), "{message}");
}

#[wasm_bindgen_test]
async fn a_stream_begins_where_it_is_asked_to() {
    let url = address(b"0123456789");
    for (from, expected) in [(0, &b"0123456789"[..]), (6, b"6789")] {
        let mut body = HttpTransport.get(&url, from).await.map_err(Error::from).unwrap();
        assert_eq!((body.start(), body.total()), (from, Some(10)));
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await.map_err(Error::from).unwrap() {
            bytes.extend(piece);
        }
        assert_eq!(bytes, expected);
    }
}

#[wasm_bindgen_test]
async fn a_folder_lists_and_deletes() {
    let folder = folder("lists").await;
    assert_eq!(folder.size("nothing").await.unwrap(), None);
    assert!(folder.open("nothing").await.is_err());
    folder.remove("nothing").await.unwrap();
    folder.folder("inner").await.unwrap();
    assert_eq!(folder.list().await.unwrap(), ["inner"]);
    folder.delete("inner").await.unwrap();
    assert!(folder.list().await.unwrap().is_empty());
    assert!(folder.free_bytes().await.is_some_and(|free| free > 0));
}

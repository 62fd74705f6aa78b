//! Promise: network, picked files and browser storage are read and written in a worker, where the page runs the engine.
#![cfg(target_family = "wasm")]

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[path = "common/platform_web.rs"]
mod platform_web;

use selfrag::platform::{Store, opfs::Directory};
use wasm_bindgen_test::wasm_bindgen_test;

/// Writing needs a worker: synchronous access handles exist only there.
#[wasm_bindgen_test]
async fn what_is_appended_is_read_back() {
    let root = Directory::root().await.unwrap();
    root.delete("round-trip").await.unwrap();
    let folder = root.folder("round-trip").await.unwrap();
    let mut file = folder.append("a.bin").await.unwrap();
    file.append(b"01234").unwrap();
    file.append(b"56789").unwrap();
    assert_eq!(file.size(), 10);
    file.flush().unwrap();
    drop(file);

    let mut file = folder.append("a.bin").await.unwrap();
    assert_eq!(file.size(), 10, "appending continues at the end");
    file.append(b"ab").unwrap();
    drop(file);

    assert_eq!(folder.size("a.bin").await.unwrap(), Some(12));
    let first = folder.open("a.bin").await.unwrap();
    // A file may be open twice: a model is read while the page lists it.
    let second = folder.open("a.bin").await.unwrap();
    assert_eq!(first.read(8, 4).await.unwrap(), b"89ab");
    assert_eq!(second.read(0, 3).await.unwrap(), b"012");
    let message = first.read(10, 3).await.unwrap_err().to_string();
    assert!(message.contains("round-trip/a.bin") && message.contains("ends at byte 12"), "{message}");
    drop((first, second));

    let mut file = folder.append("a.bin").await.unwrap();
    file.clear().unwrap();
    assert_eq!(file.size(), 0);
    file.append(b"new").unwrap();
    drop(file);
    assert_eq!(folder.open("a.bin").await.unwrap().read(0, 3).await.unwrap(), b"new");
    root.delete("round-trip").await.unwrap();
}

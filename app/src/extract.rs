//! Text of picked files (`app/documents.js`): the script comes with the first file, its libraries with the first of their kind.

use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::File;

#[wasm_bindgen(inline_js = "
const script = () => import(new URL('documents.js', document.baseURI));
export const read_document = async (file) => (await script()).read(file);
export const stop_reading = async () => (await script()).stop();
")]
extern "C" {
    #[wasm_bindgen(catch)]
    async fn read_document(file: &File) -> Result<wasm_bindgen::JsValue, wasm_bindgen::JsValue>;
    /// Ends the reading of a file at its next page.
    pub(crate) fn stop_reading();
}

/// The text, or a sentence that says why there is none.
pub(crate) async fn text(file: &File) -> Result<String, String> {
    match read_document(file).await {
        Ok(text) => Ok(text.as_string().unwrap_or_default()),
        Err(e) => Err(e.as_string().unwrap_or_else(|| "this page's own scripts could not be loaded".into())),
    }
}

//! What stands for the client where the feature `milvus` is not built in: errors that say so.

use super::{Address, Progress, PushOptions, Settings};
use crate::{
    Error, Result,
    retriever::{Embedder, Retriever, store::Store},
};

fn lacking<T>(address: &Address) -> Result<T> {
    let problem = format!("{address} needs a selfrag with Milvus: cargo build --release --features milvus");
    Err(Error::config("index", problem))
}

/// An error.
pub async fn open(address: &Address, _embedder: Box<dyn Embedder>, _settings: Settings) -> Result<Box<dyn Retriever>> {
    lacking(address)
}

/// An error.
pub async fn told(address: &Address, _settings: Settings) -> Result<String> {
    lacking(address)
}

/// An error.
pub async fn push(
    address: &Address,
    _store: &Store,
    _options: PushOptions,
    _progress: &mut dyn FnMut(Progress),
) -> Result<u64> {
    lacking(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::block_on;

    #[test]
    fn the_feature_is_named_and_the_password_is_not() {
        let address = Address::parse("milvus://root:SECRET@h:1/c").unwrap();
        let error = block_on(told(&address, Settings::default())).unwrap_err().to_string();
        assert!(error.contains("milvus://h:1/c needs") && error.contains("--features milvus"), "{error}");
        assert!(!error.contains("SECRET"), "{error}");
    }
}

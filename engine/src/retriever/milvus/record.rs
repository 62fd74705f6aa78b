//! What a collection says about itself, and its fields.
//!
//! | field | type | what |
//! | --- | --- | --- |
//! | `row` | Int64, primary key | the store's row number: hits and resumed pushes need eight bytes a passage |
//! | `id`, `title`, `text` | VarChar | the passage |
//! | `vector` | FloatVector | its embedding, in 32 bits |
//!
//! The record is JSON in one of the collection's properties: a server keeps those, where milvus-lite forgets the description.

use std::collections::HashMap;

use milvus::v2::{
    prelude::{CreateCollectionRequest, DescribeCollectionResponse},
    types::{CollectionSchema, ConsistencyLevel, DataType, FieldSchema, IndexParam, IndexType, MetricType},
};
use serde::{Deserialize, Serialize};

use super::{Address, IndexKind};
use crate::{
    Error, Result,
    retriever::{
        Passage,
        manifest::{EncoderInfo, MAX_COUNT, MAX_DIM, Manifest, sha256_hex},
        vectors::Precision,
    },
};

pub(super) const ROW: &str = "row";
pub(super) const ID: &str = "id";
pub(super) const TITLE: &str = "title";
pub(super) const TEXT: &str = "text";
pub(super) const VECTOR: &str = "vector";

/// Longest VarChar, in bytes.
pub(super) const MOST_TEXT_BYTES: usize = 65_535;

const PROPERTY: &str = "selfrag.collection";
const FORMAT: &str = "selfrag-milvus";
const VERSION: u32 = 1;

/// A collection's description of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: String,
    version: u32,
    /// Passages when all are pushed.
    pub(super) count: u64,
    /// Values of a vector.
    pub(super) dim: usize,
    /// What made the vectors; questions must go through the same.
    pub(super) encoder: EncoderInfo,
    /// SHA-256 of the store's manifest, which holds those of all its files.
    pub(super) content: String,
    /// The store's vectors that were pushed.
    pub(super) vectors: Precision,
    /// Bytes of the longest passage, which say how many fit a message.
    pub(super) longest: usize,
    /// How the server searches.
    pub(super) index: IndexKind,
}

impl Record {
    /// Of a collection that `manifest`'s store is pushed to.
    pub(super) fn new(manifest: &Manifest, vectors: Precision, longest: usize, index: IndexKind) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            count: manifest.count,
            dim: manifest.dim,
            encoder: manifest.encoder.clone(),
            content: sha256_hex(&manifest.to_json()),
            vectors,
            longest,
            index,
        }
    }

    /// From a collection's description; an error where `selfrag index push` did not make it.
    pub(super) fn read(address: &Address, found: &DescribeCollectionResponse) -> Result<Self> {
        let Some(json) = found.description().get_properties().get(PROPERTY) else {
            let problem = format!("a collection that `selfrag index push` did not make: no property {PROPERTY}");
            return Err(Error::input(address.to_string(), "properties", problem));
        };
        Self::parse(address, json)
    }

    fn parse(address: &Address, json: &str) -> Result<Self> {
        let bad = |problem: String| Error::input(address.to_string(), format!("property {PROPERTY}"), problem);
        let record: Self = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
        if record.format != FORMAT || record.version != VERSION {
            let problem =
                format!("{:?} version {}, {FORMAT:?} version {VERSION} expected", record.format, record.version);
            return Err(bad(problem));
        }
        if record.count > MAX_COUNT || !(1..=MAX_DIM).contains(&record.dim) || record.longest > 3 * MOST_TEXT_BYTES {
            let (count, dim, longest) = (record.count, record.dim, record.longest);
            return Err(bad(format!(
                "{count} passages of up to {longest} bytes and {dim} values are beyond all limits"
            )));
        }
        record.index.check().map_err(|e| bad(e.to_string()))?;
        Ok(record)
    }

    /// What is different in another record; none where they are the same.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        Some(if self.content != other.content || self.vectors != other.vectors {
            format!("{} passages of another store, embedded by {:?}", self.count, self.encoder.name)
        } else if self.index != other.index {
            format!("the same passages with another index, {}", self.index)
        } else {
            "the same passages, described otherwise".into()
        })
    }

    /// Makes the collection.
    pub(super) fn creation(&self, address: &Address) -> Result<CreateCollectionRequest> {
        let text =
            |name: &str| FieldSchema::new().name(name).data_type(DataType::VarChar).max_length(MOST_TEXT_BYTES as u32);
        let vector = FieldSchema::new().name(VECTOR).data_type(DataType::FloatVector).dimension(self.dim as u32);
        let schema = CollectionSchema::new()
            .enable_dynamic_field(false)
            .add_field(FieldSchema::new().name(ROW).data_type(DataType::Int64).primary_key(true))
            .add_field(text(ID))
            .add_field(text(TITLE))
            .add_field(text(TEXT))
            .add_field(vector);
        let json = serde_json::to_string(self).expect("a record has no map keys but strings");
        CreateCollectionRequest::builder()
            .collection_name(&address.collection)
            .description(format!("passages for selfrag, embedded by {}", self.encoder.name))
            .schema(schema)
            .consistency_level(ConsistencyLevel::Bounded)
            .properties(HashMap::from([(PROPERTY.into(), json)]))
            .build()
            .map_err(|e| Error::input(address.to_string(), "creation", e.to_string()))
    }

    /// The index on the vectors.
    pub(super) fn index(&self) -> IndexParam {
        let index = IndexParam::new().field_name(VECTOR).index_name(VECTOR).metric_type(MetricType::Ip);
        match self.index {
            IndexKind::Flat => index.index_type(IndexType::Flat),
            // As Python's client writes it: milvus-lite reads parameters in no other place.
            IndexKind::Ivf { nlist } => {
                let params = HashMap::from([("params".into(), format!("{{\"nlist\": {nlist}}}"))]);
                index.index_type(IndexType::IvfFlat).extra_params(params)
            }
        }
    }
}

/// Bytes of a passage's fields.
pub(super) fn passage_bytes(passage: &Passage) -> usize {
    passage.id.len() + passage.title.len() + passage.text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let encoder = EncoderInfo {
            name: "fake".into(),
            sha256: "0".repeat(64),
            normalised: true,
            max_tokens: 512,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            text: Default::default(),
        };
        Record::new(&Manifest::new(4, encoder), Precision::F32, 100, IndexKind::Ivf { nlist: 16 })
    }

    #[test]
    fn a_record_is_read_as_it_was_written_or_refused() {
        let address = Address::parse("milvus://h:1/c").unwrap();
        let json = serde_json::to_string(&record()).unwrap();
        assert_eq!(Record::parse(&address, &json).unwrap(), record());
        for (from, to, problem) in [
            ("selfrag-milvus", "other", "expected"),
            ("\"version\":1", "\"version\":2", "expected"),
            ("\"dim\":4", "\"dim\":0", "limits"),
            ("\"dim\":4", "\"dim\":99999999", "limits"),
            ("\"count\":0", "\"count\":99999999999", "limits"),
            ("\"count\":0", "\"count\":-1", "invalid value"),
            ("\"longest\":100", "\"longest\":99999999", "limits"),
            ("\"nlist\":16", "\"nlist\":0", "nlist"),
            ("\"dim\":4", "\"dim\":4,\"more\":1", "unknown field"),
            ("{", "", "column"),
        ] {
            let error = Record::parse(&address, &json.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.starts_with("milvus://h:1/c: property") && error.contains(problem), "{from} {to}: {error}");
        }
    }

    #[test]
    fn what_differs_is_told() {
        assert_eq!(record().difference(&record()), None);
        let other = Record { content: "1".into(), ..record() };
        assert!(other.difference(&record()).unwrap().contains("another store"));
        let other = Record { index: IndexKind::Flat, ..record() };
        assert!(other.difference(&record()).unwrap().contains("another index, FLAT"));
    }
}

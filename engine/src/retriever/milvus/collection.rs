//! One collection on a server: what is asked of it, and its answers checked.

use std::{collections::HashMap, time::Duration};

use milvus::v2::{
    ClientV2,
    error::Error as ClientError,
    prelude::{
        CreateIndexRequest, DescribeCollectionRequest, DescribeIndexRequest, DropCollectionRequest, FlushRequest,
        GetLoadStateRequest, HasCollectionRequest, InsertRequest, LoadCollectionRequest, QueryRequest, SearchRequest,
        UpsertRequest,
    },
    types::{ConsistencyLevel, FieldData, IndexStateCode, LoadState, MetricType, SearchVectors},
};

use super::{
    Address, IndexKind, check,
    connection::{ClientResult, Connection, network},
    record::{ID, ROW, Record, TEXT, TITLE, VECTOR},
};
use crate::{
    Error, Result,
    retriever::{Passage, flat::Scored},
};

/// Most hits of a question that Milvus gives.
const MOST_HITS: usize = 16_384;
/// Bytes of a message, of the 4 MiB that the client takes; some are left for what is not counted here.
const MESSAGE_BYTES: usize = 3 << 20;
/// Passages asked for at once, and questions.
const MOST_AT_ONCE: usize = 1000;
/// For loading a collection into the server's memory, and for writing what was pushed to its disk.
const LOADING: Duration = Duration::from_secs(900);

/// Rows to write: columns of one length.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) rows: Vec<i64>,
    pub(super) passages: Vec<Passage>,
    pub(super) vectors: Vec<Vec<f32>>,
}

impl Rows {
    fn columns(self) -> Vec<FieldData> {
        let (mut ids, mut titles, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for passage in self.passages {
            ids.push(passage.id);
            titles.push(passage.title);
            texts.push(passage.text);
        }
        vec![
            FieldData::int64(ROW, self.rows),
            FieldData::varchar(ID, ids),
            FieldData::varchar(TITLE, titles),
            FieldData::varchar(TEXT, texts),
            FieldData::float_vector(VECTOR, self.vectors),
        ]
    }
}

/// A collection that may or may not be there.
#[derive(Debug)]
pub(super) struct Collection {
    connection: Connection,
    /// Its address as shown.
    place: String,
}

impl Collection {
    /// Connects to its server.
    pub(super) async fn connect(address: &Address, timeout: Duration) -> Result<Self> {
        Ok(Self { connection: Connection::open(address, timeout).await?, place: address.to_string() })
    }

    /// Its address as shown.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    fn name(&self) -> String {
        self.connection.address().collection.clone()
    }

    fn built<T>(&self, request: ClientResult<T>) -> Result<T> {
        request.map_err(|e| network(self.connection.address(), e.to_string()))
    }

    /// What the collection says about itself; none where there is no such collection.
    pub(super) async fn record(&self) -> Result<Option<Record>> {
        let has = self.built(HasCollectionRequest::builder().collection_name(self.name()).build())?;
        let describe = self.built(DescribeCollectionRequest::builder().collection_name(self.name()).build())?;
        let described = self.connection.ask("description", move |client, _| {
            let (has, describe) = (has.clone(), describe.clone());
            async move {
                match client.has_collection(has).await?.exists() {
                    true => client.describe_collection(describe).await.map(Some),
                    false => Ok(None),
                }
            }
        });
        match described.await? {
            Some(described) => Record::read(self.connection.address(), &described).map(Some),
            None => Ok(None),
        }
    }

    /// Makes it, empty and without an index.
    pub(super) async fn create(&self, record: &Record) -> Result<()> {
        let create = record.creation(self.connection.address())?;
        let has = self.built(HasCollectionRequest::builder().collection_name(self.name()).build())?;
        self.connection
            .ask("creation", move |client, attempt| {
                let (has, create) = (has.clone(), create.clone());
                async move {
                    // One whose answer was lost is there.
                    match attempt > 0 && client.has_collection(has).await?.exists() {
                        true => Ok(()),
                        false => client.create_collection(create).await,
                    }
                }
            })
            .await
    }

    /// Gives it its index if it has none, and loads it: then it can be written to and asked. A push may have been killed before.
    pub(super) async fn prepare(&self, record: &Record) -> Result<()> {
        let index = CreateIndexRequest::builder().collection_name(self.name()).index_param(record.index()).sync(false);
        let (index, describe) = (self.built(index.build())?, self.describe_index()?);
        self.connection
            .ask("making the index", move |client, _| {
                let (index, describe) = (index.clone(), describe.clone());
                async move {
                    match client.describe_index(describe).await {
                        Ok(described) if !described.indexes().is_empty() => Ok(()),
                        // That there is none is an error on most servers.
                        Ok(_) | Err(ClientError::Server(_)) => client.create_index(index).await,
                        Err(error) => Err(error),
                    }
                }
            })
            .await?;
        self.load().await
    }

    fn describe_index(&self) -> Result<DescribeIndexRequest> {
        self.built(DescribeIndexRequest::builder().collection_name(self.name()).field_name(VECTOR).build())
    }

    /// Drops it with all that is in it.
    pub(super) async fn drop(&self) -> Result<()> {
        let request = self.built(DropCollectionRequest::builder().collection_name(self.name()).build())?;
        self.connection
            .ask("dropping it", move |client, _| {
                let request = request.clone();
                async move { client.drop_collection(request).await }
            })
            .await
    }

    /// Makes the server hold it in memory, as it must to be searched or counted.
    pub(super) async fn load(&self) -> Result<()> {
        let name = self.name();
        self.connection
            .ask_within(LOADING, "loading", move |client, _| {
                let name = name.clone();
                async move { load(&client, &name).await }
            })
            .await
    }

    /// Rows that are there, all or those under a number, seen by everybody.
    pub(super) async fn count(&self, under: Option<u64>) -> Result<u64> {
        let request = QueryRequest::builder()
            .collection_name(self.name())
            .filter(under.map_or_else(String::new, |under| format!("{ROW} < {under}")))
            .output_fields(["count(*)"])
            .consistency_level(ConsistencyLevel::Strong);
        let found = self.query("count", self.built(request.build())?).await?;
        check::count(&self.place, found.results())
    }

    /// The best rows of each query, best first.
    pub(super) async fn search(
        &self,
        record: &Record,
        queries: &[Vec<f32>],
        n_docs: usize,
        nprobe: Option<u32>,
    ) -> Result<Vec<Vec<Scored>>> {
        if n_docs > MOST_HITS {
            let problem = format!("{n_docs}, but {} finds {MOST_HITS} passages of a question at most", self.place);
            return Err(Error::config("n-docs", problem));
        }
        // A hit is a row, its score and what frames them.
        let at_once = (MESSAGE_BYTES / 32 / n_docs.max(1)).min(MESSAGE_BYTES / 4 / record.dim).clamp(1, MOST_AT_ONCE);
        let mut hits = Vec::with_capacity(queries.len());
        for queries in queries.chunks(at_once) {
            hits.extend(self.search_at_once(record, queries, n_docs, nprobe).await?);
        }
        Ok(hits)
    }

    async fn search_at_once(
        &self,
        record: &Record,
        queries: &[Vec<f32>],
        n_docs: usize,
        nprobe: Option<u32>,
    ) -> Result<Vec<Vec<Scored>>> {
        let asked = check::Asked { questions: queries.len(), n_docs, count: record.count, index: record.index };
        let mut request = SearchRequest::builder()
            .collection_name(self.name())
            .vector_field(VECTOR)
            .vectors(SearchVectors::Float(queries.to_vec()))
            .metric_type(MetricType::Ip)
            .limit(n_docs as i64)
            .output_fields([ROW])
            .consistency_level(ConsistencyLevel::Bounded);
        if let IndexKind::Ivf { nlist } = record.index {
            let nprobe = nprobe.unwrap_or((nlist / 8).max(8)).clamp(1, nlist);
            request = request.extra_params(HashMap::from([("nprobe".into(), nprobe.to_string())]));
        }
        let (request, name) = (self.built(request.build())?, self.name());
        let found = self.connection.ask("search", move |client, _| {
            let (request, name) = (request.clone(), name.clone());
            async move {
                match client.search(request.clone()).await {
                    Err(error) if reloaded(&client, &name, &error).await? => client.search(request).await,
                    answer => answer,
                }
            }
        });
        check::hits(&self.place, asked, found.await?.results())
    }

    /// Passages by row.
    pub(super) async fn passages(&self, record: &Record, rows: &[u32]) -> Result<HashMap<u32, Passage>> {
        let at_once = (MESSAGE_BYTES / (record.longest + 64)).clamp(1, MOST_AT_ONCE);
        let mut passages = HashMap::with_capacity(rows.len());
        for rows in rows.chunks(at_once) {
            let found = self.rows(rows, &[ROW, ID, TITLE, TEXT]).await?;
            passages.extend(check::passages(&self.place, rows, found.results())?);
        }
        Ok(passages)
    }

    /// A row's passage and vector.
    pub(super) async fn row(&self, record: &Record, row: u32) -> Result<(Passage, Vec<f32>)> {
        let found = self.rows(&[row], &[ROW, ID, TITLE, TEXT, VECTOR]).await?;
        let passage = check::passages(&self.place, &[row], found.results())?.remove(&row);
        let passage = passage.expect("the check saw every row that was asked for");
        Ok((passage, check::vector(&self.place, record.dim, found.results())?))
    }

    async fn rows(&self, rows: &[u32], fields: &[&str]) -> Result<milvus::v2::prelude::QueryResponse> {
        let numbers: Vec<String> = rows.iter().map(u32::to_string).collect();
        let request = QueryRequest::builder()
            .collection_name(self.name())
            .filter(format!("{ROW} in [{}]", numbers.join(", ")))
            .output_fields(fields.iter().copied())
            .limit(rows.len() as i64)
            .consistency_level(ConsistencyLevel::Bounded);
        self.query("passages", self.built(request.build())?).await
    }

    async fn query(&self, doing: &str, request: QueryRequest) -> Result<milvus::v2::prelude::QueryResponse> {
        let name = self.name();
        self.connection
            .ask(doing, move |client, _| {
                let (request, name) = (request.clone(), name.clone());
                async move {
                    match client.query(request.clone()).await {
                        Err(error) if reloaded(&client, &name, &error).await? => client.query(request).await,
                        answer => answer,
                    }
                }
            })
            .await
    }

    /// Writes rows. `again`: some may be there, and are replaced; otherwise a row that is there would be there twice.
    pub(super) async fn write(&self, rows: Rows, again: bool) -> Result<()> {
        let n = rows.rows.len();
        let insert =
            self.built(InsertRequest::builder().collection_name(self.name()).columns(rows.columns()).build())?;
        let written = self.connection.ask("writing", move |client, attempt| {
            let insert = insert.clone();
            async move {
                // The answer alone may have been lost before.
                match again || attempt > 0 {
                    true => {
                        client.upsert(UpsertRequest::builder().insert(insert).build()?).await.map(|a| a.upsert_count())
                    }
                    false => client.insert(insert).await.map(|answer| answer.insert_count()),
                }
            }
        });
        match written.await? {
            written if written == n as i64 => Ok(()),
            written => Err(Error::input(&self.place, "writing", format!("{written} rows were taken, of {n}"))),
        }
    }

    /// Has the server write to its disk what was pushed: until then it is searched without the index.
    pub(super) async fn flush(&self) -> Result<()> {
        let request =
            FlushRequest::builder().collection_names([self.name()]).wait_flushed_ms(LOADING.as_millis() as i64);
        let request = self.built(request.build())?;
        self.connection
            .ask_within(LOADING, "flush", move |client, _| {
                let request = request.clone();
                async move { client.flush(request).await.map(drop) }
            })
            .await
    }

    /// Rows that the index still lacks; none when it is finished.
    pub(super) async fn unindexed(&self) -> Result<Option<u64>> {
        let request = self.describe_index()?;
        let described = self.connection.ask("index", move |client, _| {
            let request = request.clone();
            async move { client.describe_index(request).await }
        });
        let described = described.await?;
        let index = described.indexes().iter().find(|index| index.get_field_name() == VECTOR);
        let index = index.ok_or_else(|| Error::input(&self.place, "index", format!("none on field {VECTOR:?}")))?;
        match index.get_state() {
            IndexStateCode::Failed => Err(Error::input(&self.place, "index", "the server could not make it")),
            IndexStateCode::Finished if index.get_pending_rows() <= 0 => Ok(None),
            _ => Ok(Some(index.get_pending_rows().max(0) as u64)),
        }
    }
}

async fn load(client: &ClientV2, name: &str) -> ClientResult<()> {
    let request = LoadCollectionRequest::builder().collection_name(name).timeout_ms(LOADING.as_millis() as i64);
    client.load_collection(request.build()?).await
}

/// Whether a request was refused because the server, started again, holds the collection no more; it does then.
async fn reloaded(client: &ClientV2, name: &str, error: &ClientError) -> ClientResult<bool> {
    let error = if let ClientError::RetryExhausted { source, .. } = error { source } else { error };
    let ClientError::Server(_) = error else { return Ok(false) };
    let state = client.get_load_state(GetLoadStateRequest::builder().collection_name(name).build()?).await?.state();
    if state != LoadState::NotLoad {
        return Ok(false);
    }
    load(client, name).await?;
    Ok(true)
}

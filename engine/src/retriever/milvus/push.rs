//! A store to a collection: batch by batch in the order of rows, so that a push that was killed goes on where it was.

use super::{
    Address, Progress, PushOptions,
    collection::{Collection, Rows},
    record::{MOST_TEXT_BYTES, Record, passage_bytes},
};
use crate::{
    Error, Result,
    platform::sleep,
    retriever::{Passage, store::Store, vectors::Precision},
};

/// Bytes of a batch: every server takes messages of 4 MiB, and more at once is not quicker.
const BATCH_BYTES: usize = 2 << 20;
/// Between two looks at the index that the server makes.
const INDEX_LOOK: std::time::Duration = std::time::Duration::from_millis(500);
/// Looks in which nothing changes before the index is given up: 10 minutes.
const MOST_LOOKS: u32 = 1200;

/// Pushes a store with its vectors in its most exact precision, and gives the number of passages that the collection then has. What is there
/// of the same store stays; a collection that holds something else is an error, unless `options` say to replace it.
pub async fn push(
    address: &Address,
    store: &Store,
    options: PushOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64> {
    options.index.check()?;
    let manifest = store.manifest();
    let precision = manifest.precisions().first().copied().unwrap_or(Precision::F32);
    // The server is asked before all passages are read, and written to after.
    let collection = Collection::connect(address, options.timeout).await?;
    let longest = checked(store, progress).await?;
    let record = Record::new(manifest, precision, longest, options.index);
    let place = made(&collection, &record, options.replace).await?;
    progress(Progress::Resumed(place.from));
    let target = Target { collection: &collection, record: &record, place };
    for shard in 0..store.shards() {
        target.shard(store, shard, precision, progress).await?;
    }
    // Also where all rows were there: the push before may have ended while the server made the index.
    if record.count > 0 {
        progress(Progress::Indexing);
        collection.flush().await?;
        indexed(&collection).await?;
    }
    target.verify(store, precision).await?;
    Ok(record.count)
}

/// Bytes of the longest passage; a field that does not fit is an error that names its passage.
async fn checked(store: &Store, progress: &mut dyn FnMut(Progress)) -> Result<usize> {
    let mut longest = 0;
    for shard in 0..store.shards() {
        let passages = passages(store, shard).await?;
        for passage in &passages {
            for (field, text) in [("id", &passage.id), ("title", &passage.title), ("text", &passage.text)] {
                if text.len() > MOST_TEXT_BYTES {
                    let problem = format!("{} bytes, a collection's fields hold {MOST_TEXT_BYTES}", text.len());
                    let id: String = passage.id.chars().take(80).collect();
                    return Err(Error::input(store.name(), format!("passage {id:?}, {field}"), problem));
                }
            }
            longest = longest.max(passage_bytes(passage));
        }
        progress(Progress::Checked(passages.len() as u64));
    }
    Ok(longest)
}

async fn passages(store: &Store, shard: usize) -> Result<Vec<Passage>> {
    let (text, lines) = store.lines(shard).await?;
    let read = |line: std::ops::Range<usize>| {
        serde_json::from_slice(&text[line])
            .map_err(|e| Error::input(store.name(), format!("shard {shard}"), e.to_string()))
    };
    lines.into_iter().map(read).collect()
}

/// Where an earlier push got to: rows before `from` are there, those from `to` on are not, those between may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    from: u64,
    to: u64,
}

/// The collection, made if it is not there, and where to go on.
async fn made(collection: &Collection, record: &Record, replace: bool) -> Result<Place> {
    let other = match collection.record().await {
        Ok(None) => None,
        Ok(Some(found)) => match found.difference(record) {
            None => {
                collection.prepare(record).await?;
                return resumed(collection, record.count).await;
            }
            other => other,
        },
        // Somebody's else, or one that another version made.
        Err(Error::Input { place, problem, .. }) => Some(format!("{place}: {problem}")),
        Err(error) => return Err(error),
    };
    match other {
        Some(other) if !replace => {
            let problem = format!("it is there and holds something else; --replace drops it ({other})");
            return Err(Error::input(collection.place(), "collection", problem));
        }
        Some(_) => collection.drop().await?,
        None => {}
    }
    collection.create(record).await?;
    collection.prepare(record).await?;
    Ok(Place { from: 0, to: 0 })
}

/// Where to go on in a collection of this very store. Counts of the rows under a number tell: batches were sent in order, but a server may have
/// taken a part of the last one.
async fn resumed(collection: &Collection, count: u64) -> Result<Place> {
    let all = collection.count(None).await?;
    if all == 0 {
        return Ok(Place { from: 0, to: 0 });
    }
    if all > count || collection.count(Some(count)).await? != all {
        let problem = format!("{all} passages, some of which are not the store's {count}; --replace drops them");
        return Err(Error::input(collection.place(), "collection", problem));
    }
    if all == count {
        return Ok(Place { from: count, to: count });
    }
    place(all, count, async |under| collection.count(Some(under)).await).await
}

/// The same of `all` rows, 1 at least, whose numbers are under `count`, by questions how many are under a number.
async fn place(all: u64, count: u64, counted: impl AsyncFn(u64) -> Result<u64>) -> Result<Place> {
    // The most rows of which none is missing.
    let (mut from, mut beyond) = (0, all + 1);
    while beyond - from > 1 {
        let middle = from + (beyond - from) / 2;
        match counted(middle).await? == middle {
            true => from = middle,
            false => beyond = middle,
        }
    }
    // The fewest that have all.
    let (mut under, mut to) = (all - 1, count);
    while to - under > 1 {
        let middle = under + (to - under) / 2;
        match counted(middle).await? == all {
            true => to = middle,
            false => under = middle,
        }
    }
    Ok(Place { from, to })
}

/// Waits for the server's index, as long as it gets on.
async fn indexed(collection: &Collection) -> Result<()> {
    let (mut least, mut looks) = (u64::MAX, 0);
    while let Some(lacking) = collection.unindexed().await? {
        looks = if lacking < least { 0 } else { looks + 1 };
        if looks == MOST_LOOKS {
            let problem = format!("{lacking} rows wait for it, and nothing gets on");
            return Err(Error::input(collection.place(), "index", problem));
        }
        least = least.min(lacking);
        sleep(INDEX_LOOK).await;
    }
    Ok(())
}

/// What is pushed to, and from where on.
struct Target<'a> {
    collection: &'a Collection,
    record: &'a Record,
    place: Place,
}

impl Target<'_> {
    async fn shard(
        &self,
        store: &Store,
        shard: usize,
        precision: Precision,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let shards = &store.manifest().shards;
        let first: u64 = shards[..shard].iter().map(|shard| shard.rows).sum();
        if first + shards[shard].rows <= self.place.from {
            return Ok(());
        }
        let (vectors, mut batch, mut bytes) = (store.vectors(shard, precision).await?, Rows::default(), 0);
        for (at, passage) in passages(store, shard).await?.into_iter().enumerate() {
            let row = first + at as u64;
            if row < self.place.from {
                continue;
            }
            let more = passage_bytes(&passage) + 4 * self.record.dim + 16;
            if bytes + more > BATCH_BYTES && !batch.rows.is_empty() {
                self.write(std::mem::take(&mut batch), progress).await?;
                bytes = 0;
            }
            bytes += more;
            batch.rows.push(row as i64);
            batch.passages.push(passage);
            batch.vectors.push(vectors.row(at));
        }
        self.write(batch, progress).await
    }

    async fn write(&self, rows: Rows, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let Some(first) = rows.rows.first() else { return Ok(()) };
        let (n, again) = (rows.rows.len() as u64, (*first as u64) < self.place.to);
        self.collection.write(rows, again).await?;
        progress(Progress::Pushed(n));
        Ok(())
    }

    /// Counts, and compares the first, the middle and the last passage.
    async fn verify(&self, store: &Store, precision: Precision) -> Result<()> {
        let (count, bad) =
            (self.record.count, |place: String, problem: String| Error::input(self.collection.place(), place, problem));
        let found = (self.collection.count(None).await?, self.collection.count(Some(count)).await?);
        if found != (count, count) {
            let problem =
                format!("{} passages, {} of the store's {count}; --replace pushes them anew", found.0, found.1);
            return Err(bad("collection".into(), problem));
        }
        let Some(last) = count.checked_sub(1) else { return Ok(()) };
        let mut first = 0;
        for (shard, rows) in store.manifest().shards.iter().map(|shard| shard.rows).enumerate() {
            for row in [0, count / 2, last].into_iter().filter(|row| (first..first + rows).contains(row)) {
                let (passage, vector) = self.collection.row(self.record, row as u32).await?;
                let expected = store.vectors(shard, precision).await?.row((row - first) as usize);
                if passage != store.passages(&[row as u32]).await?.remove(0) || vector != expected {
                    return Err(bad(
                        format!("row {row}"),
                        "another passage than the store's; --replace pushes all anew".into(),
                    ));
                }
            }
            first += rows;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::block_on;

    proptest! {
        #[test]
        fn a_push_goes_on_where_rows_are_missing(rows in proptest::collection::btree_set(0u64..200, 1..100), prefix in 0u64..100) {
            let rows: std::collections::BTreeSet<u64> = rows.into_iter().chain(0..prefix).collect();
            let found = place(rows.len() as u64, 200, async |under| Ok(rows.range(..under).count() as u64));
            let Place { from, to } = block_on(found).unwrap();
            prop_assert_eq!(from, (0..).find(|row| !rows.contains(row)).unwrap());
            prop_assert_eq!(to, rows.last().unwrap() + 1);
        }
    }
}

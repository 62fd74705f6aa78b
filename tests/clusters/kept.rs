//! What was read of a clustered store and is kept: read by nobody again, an answer without the host, never a wrong one.

use selfrag::platform::{MemoryStore, Store as Storage};

use super::*;

/// A store's files, counted, with a folder that outlives the process; a host that is gone has nothing but the manifest, of which the
/// page keeps a copy.
#[derive(Clone)]
struct Keeping<F> {
    files: F,
    storage: MemoryStore,
    is_there: bool,
}

impl<F: Files> Files for Keeping<F> {
    fn name(&self) -> &str {
        self.files.name()
    }

    fn open<'a>(&'a self, file: &'a str, bytes: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        if self.is_there || file == "manifest.json" {
            return self.files.open(file, bytes);
        }
        let error = Error::Network { url: file.into(), problem: "no route".into() };
        Box::pin(std::future::ready(Err(error)))
    }

    fn storage(&self) -> Option<Rc<dyn Storage>> {
        Some(Rc::new(self.storage.clone()))
    }
}

fn keeping(files: &MemoryFiles) -> Keeping<Counted> {
    let files = Counted { files: files.clone(), reads: Rc::default() };
    Keeping { files, storage: MemoryStore::default(), is_there: true }
}

/// Asks a store that was opened for the question, as after a reload of the page.
fn afresh(files: &Keeping<impl Files + Clone + 'static>, limits: &Limits, i: usize) -> Result<Found> {
    clusters(files.clone(), limits.clone()).and_then(|clusters| block_on(clusters.find(&question(i), 5)))
}

fn scores(found: &Found) -> Vec<(u32, f32)> {
    found.records.iter().map(|(record, score)| (record.row, *score)).collect()
}

/// What a question may cost where it cannot have everything.
fn little(preload: u64) -> Limits {
    let bytes = 40_000;
    Limits { preload, requests: 8, block_requests: 4, bytes, block_bytes: bytes / 2, ..Limits::default() }
}

#[test]
fn what_is_kept_is_read_by_nobody_again_and_answers_without_the_host() {
    let (_scratch, store, files) = stores("clusters-kept");
    let all = block_on(store.all_vectors(Precision::Int8)).expect("vectors");
    for preload in [0, u64::MAX] {
        let (mut files, limits) = (keeping(&files), little(preload));
        let first: Vec<Found> = (0..4).map(|i| afresh(&files, &limits, i).expect("an answer")).collect();
        assert!(first[0].cost.bytes > 0 && !first[0].cost.partial);
        for is_there in [true, false] {
            files.is_there = is_there;
            for (i, first) in first.iter().enumerate() {
                files.files.reads.borrow_mut().clear();
                let again = afresh(&files, &limits, i).expect("an answer");
                let reads = files.files.reads.borrow().clone();
                assert!(reads.len() == 1 && reads[0].0 == "manifest.json", "{reads:?}");
                assert_eq!((again.cost.bytes, again.cost.requests, again.cost.partial), (0, 0, false));
                assert_eq!(again.cost.kept, first.cost.bytes + first.cost.kept);
                assert_eq!((scores(&again), again.expected_recall), (scores(first), first.expected_recall));
            }
        }
        // Of what was never asked, that which is there by luck, which is said; or that there is no host.
        let mut partial = 0;
        for i in 4..30 {
            match afresh(&files, &limits, i) {
                Ok(found) => {
                    assert!(!found.records.is_empty() && found.cost.requests == 0);
                    assert!(scores(&found).iter().all(|(row, score)| all.dot(*row as usize, &question(i)) == *score));
                    // All that it wants may be there.
                    assert!(found.expected_recall.is_none() || !found.cost.partial);
                    partial += usize::from(found.cost.partial);
                }
                Err(error) => assert!(matches!(error, Error::Network { .. }), "{error}"),
            }
        }
        assert!(partial > 0);
        // With the host it costs what is missing.
        files.is_there = true;
        files.files.reads.borrow_mut().clear();
        let found = afresh(&files, &limits, 9).expect("an answer");
        let reads = files.files.reads.borrow().clone();
        assert_eq!(found.cost.requests, reads.len() - 1);
        assert_eq!(found.cost.bytes, reads[1..].iter().map(|read| read.2 as u64).sum::<u64>());
        assert_eq!(scores(&found), scores(&afresh(&keeping(&files.files.files), &limits, 9).expect("an answer")));
    }
}

#[test]
fn damage_in_storage_is_read_anew_and_changes_no_answer() {
    let (_scratch, _store, files) = stores("clusters-kept-damage");
    let (files, limits) = (keeping(&files), little(0));
    let first = afresh(&files, &limits, 1).expect("an answer");
    let good = files.storage.files.borrow().clone();
    let mut random = Random::new(5);
    for name in good.keys() {
        let bytes = &good[name];
        let other = good.values().find(|other| *other != bytes && other.len() == bytes.len());
        let mut flipped = bytes.clone();
        flipped[random.pick(0..=bytes.len() - 1)] ^= 1 << random.pick(0..=7);
        let longer = [&bytes[..], &[0]].concat();
        let cases = [Some(flipped), Some(Vec::new()), Some(bytes[1..].to_vec()), Some(longer), other.cloned()];
        for damaged in cases.into_iter().flatten() {
            files.storage.files.borrow_mut().clone_from(&good);
            files.storage.files.borrow_mut().insert(name.clone(), damaged.clone());
            let found = afresh(&files, &limits, 1).expect("an answer");
            assert_eq!(scores(&found), scores(&first), "{name}");
            // Without the host, damage hides nothing but what it hit, and is not taken for passages.
            files.storage.files.borrow_mut().insert(name.clone(), damaged);
            match afresh(&Keeping { is_there: false, ..files.clone() }, &limits, 1) {
                Ok(found) => assert!(found.records.iter().all(|(record, score)| {
                    first.records.iter().all(|(other, best)| other.row != record.row || score == best)
                })),
                Err(error) => assert!(matches!(error, Error::Network { .. }), "{name}: {error}"),
            }
            // Whole again for good.
            afresh(&files, &limits, 1).expect("an answer");
            let found = afresh(&files, &limits, 1).expect("an answer");
            assert_eq!((found.cost.requests, scores(&found)), (0, scores(&first)), "{name}");
        }
    }
}

#[test]
fn another_build_shares_the_folder_and_nothing_else() {
    let (scratch, store, files) = stores("clusters-kept-builds");
    let folder = scratch.0.join("others");
    block_on(build(&store, &folder, &Options { clusters: Some(25), ..options() }, &mut |_| {})).expect("clusters");
    let (one, limits) = (keeping(&files), little(0));
    let other = Keeping { storage: one.storage.clone(), ..keeping(&in_memory(&folder)) };
    for i in [1, 1, 2, 1] {
        for files in [&one, &other] {
            let expected = afresh(&keeping(&files.files.files), &limits, i).expect("an answer");
            assert_eq!(scores(&afresh(files, &limits, i).expect("an answer")), scores(&expected));
        }
    }
}

#[test]
fn without_room_everything_is_read_and_a_host_without_ranges_is_asked_once_for_a_file() {
    let (_scratch, _store, files) = stores("clusters-kept-full");
    let limits = little(0);
    let mut full = keeping(&files);
    full.storage.full_at = Some(10);
    let first = afresh(&full, &limits, 1).expect("an answer");
    let again = afresh(&full, &limits, 1).expect("an answer");
    assert_eq!((again.cost, scores(&again)), (first.cost, scores(&first)));
    assert!(again.cost.requests > 0 && full.storage.files.borrow().is_empty());

    let host = Host::serve(files.files.clone(), Manner::NoRanges);
    let mut files = Keeping { files: Remote::new(&host.url), storage: MemoryStore::default(), is_there: true };
    assert_eq!(scores(&afresh(&files, &limits, 1).expect("an answer")), scores(&first));
    files.is_there = false;
    let kept = afresh(&files, &limits, 1).expect("an answer");
    assert_eq!((kept.cost.requests, kept.cost.partial, scores(&kept)), (0, false, scores(&first)));
}

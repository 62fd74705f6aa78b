//! Ranges of a store's files that were read before, in a folder that outlives the process (browser storage), least recently used
//! gone first.
//!
//! A range is a file of its own, named after what it holds: `<first 16 digits of the store file's SHA-256>-<first byte>-<end>`. No
//! index can disagree with it, and ranges of a rebuilt store have other names. `order` lists the names, those that were unused
//! longest first; a range that it does not list goes before them.
//!
//! Nothing in the folder is trusted: what comes out goes through the same checks as what comes from a network, and what fails them
//! is read anew. Nor is it needed: what cannot be kept, or was taken away, is read from where the store is.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
};

use crate::{
    Error, Result,
    platform::{Store, read_small, write_small},
    retriever::manifest::FileInfo,
};

/// Bytes of a store's ranges in its folder, by [`size_of`].
pub const LIMIT: u64 = 256 << 20;
/// The list of names by their use.
const ORDER: &str = "order";
/// A longer one is cut off: a range has a hundred bytes of it, and takes [`ROOM`] at least.
const MAX_ORDER: u64 = 16 << 20;
/// Digits of a file's SHA-256 in names.
const DIGITS: usize = 16;
/// What a file takes beside its bytes, about.
const ROOM: u64 = 4 << 10;

/// A folder's ranges.
pub(super) struct Kept {
    store: Rc<dyn Store>,
    limit: u64,
    /// Least recently used first.
    names: RefCell<Vec<String>>,
    /// Whether the list is another than in storage.
    changed: Cell<bool>,
}

/// Some bytes of a store's file, and the range that has them.
struct Piece {
    bytes: Range<u64>,
    holder: Option<String>,
}

impl Kept {
    /// Lists what is there. What cannot be listed is as good as not there.
    pub(super) async fn open(store: Rc<dyn Store>, limit: u64) -> Self {
        let mut found = store.list().await.unwrap_or_default();
        found.retain(|name| parse(name).is_some());
        let order = read_small(&*store, ORDER, MAX_ORDER).await.unwrap_or_default();
        let mut used = Vec::new();
        for name in String::from_utf8_lossy(&order).lines() {
            if let Some(place) = found.iter().position(|other| other == name) {
                used.push(found.remove(place));
            }
        }
        found.append(&mut used);
        let kept = Self { store, limit, names: RefCell::new(found), changed: Cell::new(false) };
        kept.make_room().await;
        kept
    }

    /// Bytes of a file of the store: what is kept of them, zeros for the rest; and where there are such, in order.
    pub(super) async fn read(&self, file: &FileInfo, bytes: &Range<u64>) -> (Vec<u8>, Vec<Range<u64>>) {
        let mut content = vec![0; (bytes.end - bytes.start) as usize];
        let mut missing = Vec::new();
        for Piece { bytes: piece, holder } in self.pieces(file, bytes) {
            let at = |position: u64| (position - bytes.start) as usize;
            let is_there = match &holder {
                Some(name) => self.load(name, piece.start, &mut content[at(piece.start)..at(piece.end)]).await,
                None => false,
            };
            if !is_there {
                missing.push(piece);
            }
        }
        (content, missing)
    }

    /// The parts of these bytes that are kept, as far as names tell.
    pub(super) fn parts(&self, file: &FileInfo, bytes: &Range<u64>) -> Vec<Range<u64>> {
        self.pieces(file, bytes).into_iter().filter(|piece| piece.holder.is_some()).map(|piece| piece.bytes).collect()
    }

    /// Keeps bytes of a file, of which some may be kept already; others may go for them.
    pub(super) async fn keep(&self, file: &FileInfo, bytes: &Range<u64>, content: &[u8]) -> Result<()> {
        for piece in self.pieces(file, bytes).into_iter().filter(|piece| piece.holder.is_none()) {
            let name = format!("{}-{}-{}", &file.sha256[..DIGITS], piece.bytes.start, piece.bytes.end);
            if size_of(&name).is_none_or(|size| size > self.limit) {
                continue;
            }
            let at = |position: u64| (position - bytes.start) as usize;
            let piece = &content[at(piece.bytes.start)..at(piece.bytes.end)];
            if let Err(error) = write_small(&*self.store, &name, piece).await {
                // Half of it would be noticed, but helps nobody.
                let _ = self.store.remove(&name).await;
                return Err(error);
            }
            self.names.borrow_mut().push(name);
            self.changed.set(true);
            self.make_room().await;
        }
        Ok(())
    }

    /// Deletes whatever has any of these bytes; false where nothing had.
    pub(super) async fn forget(&self, file: &FileInfo, bytes: &Range<u64>) -> bool {
        let holders: Vec<String> = self.pieces(file, bytes).into_iter().filter_map(|piece| piece.holder).collect();
        for name in &holders {
            self.delete(name).await;
        }
        !holders.is_empty()
    }

    /// Writes the list, if it changed. Without it only the order of uses is lost.
    pub(super) async fn save(&self) {
        if self.changed.take() {
            let order = self.names.borrow().join("\n");
            let _ = write_small(&*self.store, ORDER, order.as_bytes()).await;
        }
    }

    /// Cuts bytes of a file where what has them changes.
    fn pieces(&self, file: &FileInfo, bytes: &Range<u64>) -> Vec<Piece> {
        let names = self.names.borrow();
        let of_file = names.iter().filter(|name| name.starts_with(&file.sha256[..DIGITS]));
        let held: Vec<(Range<u64>, &String)> = of_file.filter_map(|name| Some((parse(name)?, name))).collect();
        let (mut pieces, mut position) = (Vec::new(), bytes.start);
        while position < bytes.end {
            let ahead = held.iter().filter(|(held, _)| held.end > position && held.start < bytes.end);
            let next = ahead.min_by_key(|(held, _)| held.start);
            let start = next.map_or(bytes.end, |(held, _)| held.start.max(position));
            if position < start {
                pieces.push(Piece { bytes: position..start, holder: None });
            }
            position = start;
            if let Some((held, name)) = next {
                position = held.end.min(bytes.end);
                pieces.push(Piece { bytes: start..position, holder: Some((*name).clone()) });
            }
        }
        pieces
    }

    /// Reads from a range, which now is the last used; one that cannot be read goes.
    async fn load(&self, name: &str, from: u64, content: &mut [u8]) -> bool {
        let loaded = self.try_load(name, from, content).await;
        if loaded.is_err() {
            self.delete(name).await;
            return false;
        }
        let mut names = self.names.borrow_mut();
        if let Some(place) = names.iter().position(|other| other == name) {
            names[place..].rotate_left(1);
            self.changed.set(true);
        }
        true
    }

    async fn try_load(&self, name: &str, from: u64, content: &mut [u8]) -> Result<()> {
        let held = parse(name).unwrap_or_default();
        let source = self.store.open(name).await?;
        if source.size() != held.end - held.start {
            return Err(Error::io(name, "cut off"));
        }
        source.read_into(from - held.start, content).await
    }

    /// Deletes those that were unused longest until the others fit.
    async fn make_room(&self) {
        let size = |name: &String| size_of(name).unwrap_or(0);
        let mut all = self.names.borrow().iter().map(size).fold(0, u64::saturating_add);
        while all > self.limit {
            let Some(oldest) = self.names.borrow().first().cloned() else { return };
            all = all.saturating_sub(size(&oldest));
            self.delete(&oldest).await;
        }
    }

    /// Deletes a range.
    async fn delete(&self, name: &str) {
        self.names.borrow_mut().retain(|other| other != name);
        self.changed.set(true);
        // Where that fails, another tab reads it: it is listed again by the next to open the folder.
        let _ = self.store.remove(name).await;
    }
}

/// Which bytes of its store's file a range of this name has; none where the name is not a range's.
fn parse(name: &str) -> Option<Range<u64>> {
    let mut parts = name.split('-');
    let (file, start, end) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    // Numbers can be written in several ways, of which one is ours.
    (file.len() == DIGITS && start < end && name == format!("{file}-{start}-{end}")).then_some(start..end)
}

/// What a file of this name takes in the folder, in bytes, where the name tells: that of a range does.
pub fn size_of(name: &str) -> Option<u64> {
    parse(name).map(|bytes| (bytes.end - bytes.start).saturating_add(ROOM))
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::{MemoryStore, block_on};

    const BYTES: u64 = 6_000;

    fn file() -> (FileInfo, Vec<u8>) {
        let content: Vec<u8> = (0..BYTES).map(|i| (i * i % 251) as u8).collect();
        (FileInfo::of("file", &content), content)
    }

    fn open(store: &MemoryStore, limit: u64) -> Kept {
        block_on(Kept::open(Rc::new(store.clone()), limit))
    }

    fn slice<'a>(content: &'a [u8], bytes: &Range<u64>) -> &'a [u8] {
        &content[bytes.start as usize..bytes.end as usize]
    }

    proptest! {
        /// Equals the set of the bytes that were kept, as long as there is room; always: no wrong byte, and no more than the limit.
        #[test]
        fn what_comes_out_went_in(
            steps in prop::collection::vec((0..BYTES - 1, 1u64..900, 0u8..8), 1..40),
            limit in prop_oneof![Just(u64::MAX), 5_000u64..40_000],
        ) {
            let (info, content) = file();
            let store = MemoryStore::default();
            let mut kept = open(&store, limit);
            let mut model = vec![false; BYTES as usize];
            for (start, length, what) in steps {
                let bytes = start..(start + length).min(BYTES);
                let all = bytes.start as usize..bytes.end as usize;
                match what {
                    0..4 => {
                        block_on(kept.keep(&info, &bytes, slice(&content, &bytes))).expect("there is room");
                        model[all].fill(true);
                    }
                    4 if limit == u64::MAX => {
                        let parts = kept.parts(&info, &bytes);
                        prop_assert_eq!(block_on(kept.forget(&info, &bytes)), !parts.is_empty());
                        prop_assert!(kept.parts(&info, &bytes).is_empty());
                        for (place, is_kept) in model.iter_mut().enumerate() {
                            *is_kept = !kept.parts(&info, &(place as u64..place as u64 + 1)).is_empty();
                        }
                    }
                    5 => {
                        block_on(kept.save());
                        kept = open(&store, limit);
                    }
                    _ => {
                        let (read, missing) = block_on(kept.read(&info, &bytes));
                        let is_missing = |place: u64| missing.iter().any(|gap| gap.contains(&place));
                        for (place, byte) in bytes.clone().zip(read) {
                            prop_assert!(is_missing(place) || byte == content[place as usize]);
                            prop_assert!(limit != u64::MAX || is_missing(place) != model[place as usize]);
                        }
                    }
                }
                let sizes = store.files.borrow().keys().filter_map(|name| size_of(name)).sum::<u64>();
                prop_assert!(sizes <= limit);
            }
        }
    }

    #[test]
    fn the_least_recently_used_goes_first_after_a_restart_too() {
        let (info, content) = file();
        let store = MemoryStore::default();
        let four = 4 * (700 + ROOM);
        let kept = open(&store, four);
        let range = |i: u64| i * 800..i * 800 + 700;
        for i in 0..4 {
            block_on(kept.keep(&info, &range(i), slice(&content, &range(i)))).expect("there is room");
        }
        block_on(kept.read(&info, &range(0)));
        block_on(kept.save());
        let kept = open(&store, four);
        let there = |kept: &Kept| (0..7).filter(|i| !kept.parts(&info, &range(*i)).is_empty()).collect::<Vec<_>>();
        for i in 4..6 {
            block_on(kept.keep(&info, &range(i), slice(&content, &range(i)))).expect("there is room");
        }
        assert_eq!(there(&kept), [0, 3, 4, 5]);
        block_on(kept.save());
        assert_eq!(there(&open(&store, four)), [0, 3, 4, 5]);
        // One that is larger than everything is not kept.
        let none = open(&MemoryStore::default(), 700);
        block_on(none.keep(&info, &range(0), slice(&content, &range(0)))).expect("nothing to do");
        assert!(there(&none).is_empty());
        // A smaller limit holds from the start.
        assert_eq!(there(&open(&store, four / 2)).len(), 2);
    }

    #[test]
    fn what_is_damaged_or_foreign_is_not_there() {
        let (info, content) = file();
        let (store, bytes) = (MemoryStore::default(), 100..300);
        let kept = open(&store, u64::MAX);
        block_on(kept.keep(&info, &bytes, slice(&content, &bytes))).expect("there is room");
        block_on(kept.save());
        let name = format!("{}-100-300", &info.sha256[..DIGITS]);
        assert_eq!(store.files.borrow().keys().collect::<Vec<_>>(), [&name, ORDER]);
        let other = FileInfo::of("file", b"another build's");
        assert!(kept.parts(&other, &bytes).is_empty());
        // Too short, too long, gone: it is forgotten.
        for length in [Some(0), Some(199), Some(201), None] {
            store.files.borrow_mut().insert(name.clone(), vec![7; length.unwrap_or(200)]);
            let kept = open(&store, u64::MAX);
            if length.is_none() {
                store.files.borrow_mut().remove(&name);
            }
            assert_eq!(block_on(kept.read(&info, &(150..200))).1, std::slice::from_ref(&(150..200)), "{length:?}");
            assert!(kept.parts(&info, &bytes).is_empty() && !store.files.borrow().contains_key(&name));
        }
        // Names that are not ours, and a list that lies.
        let digits = &info.sha256[..DIGITS];
        for name in [
            "",
            "-",
            "--",
            "order-1-2",
            "ä-1-2",
            &format!("{digits}-5-5"),
            &format!("{digits}-9-5"),
            &format!("{digits}-01-5"),
        ] {
            assert_eq!(size_of(name), None, "{name}");
            store.files.borrow_mut().insert(name.to_owned(), vec![1; 4]);
        }
        store.files.borrow_mut().insert(format!("{digits}-0-{}", u64::MAX), vec![1; 4]);
        store.files.borrow_mut().insert(ORDER.to_owned(), vec![0xff, b'\n', b'x', b'\n', b'\n']);
        let kept = open(&store, u64::MAX);
        assert_eq!(block_on(kept.read(&info, &(0..10))).1, std::slice::from_ref(&(0..10)));
        assert!(open(&store, 1 << 40).names.borrow().is_empty());
    }

    #[test]
    fn full_storage_is_told_and_leaves_nothing_behind() {
        let (info, content) = file();
        let store = MemoryStore { full_at: Some(500), ..MemoryStore::default() };
        let kept = open(&store, u64::MAX);
        assert!(block_on(kept.keep(&info, &(0..501), &content[..501])).is_err());
        assert!(store.files.borrow().is_empty() && kept.parts(&info, &(0..501)).is_empty());
        block_on(kept.keep(&info, &(0..500), &content[..500])).expect("there is room");
        assert_eq!(block_on(kept.read(&info, &(0..501))).1, std::slice::from_ref(&(500..501)));
    }
}

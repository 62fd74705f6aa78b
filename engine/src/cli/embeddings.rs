//! A store made of files of embeddings: for `selfrag index build --embeddings` and `selfrag retrieve --passages_embeddings`.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    Error,
    retriever::{
        Embedder,
        build::{Options, Progress, build_from},
        embeddings::{
            find,
            matched::{Match, Matched},
        },
        encoder::Encoder,
        index::same_encoder,
        manifest::{EncoderInfo, Manifest},
        passages::PassageFiles,
    },
};

/// Where passages and their embeddings are.
pub(super) struct Files<'a> {
    pub(super) passages: &'a [PathBuf],
    /// Patterns.
    pub(super) embeddings: &'a [String],
    /// Leave out what has no counterpart.
    pub(super) allow_missing: bool,
}

impl Files<'_> {
    /// Finds the files of embeddings; tells what is left out.
    pub(super) fn find(&self) -> crate::Result<Vec<PathBuf>> {
        let (paths, indices) = find(self.embeddings)?;
        for path in indices {
            eprintln!("{}: left out, an index is not embeddings", path.display());
        }
        Ok(paths)
    }

    /// Holds the ids of the embeddings against the passages', tells what it found, and makes sure that `encoder`, which cuts texts where theirs
    /// were cut, made them.
    pub(super) async fn open(
        &self,
        paths: &[PathBuf],
        encoder: &mut Encoder,
        options: &Options,
    ) -> anyhow::Result<Matched> {
        let info = EncoderInfo { text: options.text, ..encoder.info() };
        let matched = Matched::open(paths, info)?;
        let found = matched.check(PassageFiles::unchecked(self.passages.to_vec()))?;
        report(&found, matched.len(), paths.len());
        let is_whole = found.missing.count == 0 && found.unknown.count == 0;
        anyhow::ensure!(
            is_whole || self.allow_missing,
            "passages and embeddings are not of one corpus, or not all of its shards are there; --allow-missing takes what fits"
        );
        let mut with_vector = PassageFiles::unchecked(self.passages.to_vec())
            .filter(|passage| passage.as_ref().map_or(true, |passage| matched.has(&passage.id)));
        let first = with_vector.next().ok_or_else(|| Error::config("embeddings", "no passage has one"))??;
        let stored = matched.read(std::slice::from_ref(&first))?.remove(0);
        anyhow::ensure!(
            matched.dim() == encoder.dim(),
            "the embeddings have {} values, {:?} makes {}",
            matched.dim(),
            encoder.info().name,
            encoder.dim()
        );
        let text = encoder.info().passage_prefix + &options.text.passage(&first);
        let now = encoder.embed(&[text]).await?.remove(0);
        same_encoder(&stored, &now).map_err(|problem| {
            let name = encoder.info().name;
            anyhow::anyhow!(
                "the embeddings were not made with {name:?}, or of other texts (--no-title, --lowercase, --passage-maxlength, …): {problem}"
            )
        })?;
        Ok(matched)
    }

    /// Writes the store.
    pub(super) async fn build(&self, matched: &Matched, output: &Path, options: &Options) -> anyhow::Result<Manifest> {
        let bar = ProgressBar::new(matched.len() as u64)
            .with_style(ProgressStyle::with_template("{spinner} {msg} {bar:30} {pos}/{len} {per_sec} {eta}")?)
            .with_message("writing");
        let mut progress = |event: Progress| match event {
            Progress::Embedded(rows) | Progress::Resumed(rows) => bar.inc(rows as u64),
            Progress::Graph => bar.set_message("building the graph"),
        };
        // Ids that occur twice were found by the check.
        let passages = PassageFiles::unchecked(self.passages.to_vec());
        let passages = passages.filter(|passage| passage.as_ref().map_or(true, |passage| matched.has(&passage.id)));
        let manifest = build_from(passages, &mut &*matched, output, options, &mut progress).await?;
        bar.finish_and_clear();
        Ok(manifest)
    }
}

fn report(found: &Match, rows: usize, files: usize) {
    eprintln!("{rows} embeddings in {files} file(s), {} passages with one", found.matched);
    let lines = [
        (&found.missing, "passages without an embedding"),
        (&found.unknown, "embeddings without a passage"),
        (&found.repeated, "embeddings whose id an earlier one has, left out"),
    ];
    for (count, what) in lines.into_iter().filter(|(count, _)| count.count > 0) {
        eprintln!("{what}: {count}");
    }
    if found.numbers > 0 {
        eprintln!("ids that are numbers, taken as their digits: {}", found.numbers);
    }
}

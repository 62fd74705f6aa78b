//! Options of `selfrag retrieve`, with the names of `passage_retrieval.py` beside ours.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

use crate::{
    cli::{embed::TextArgs, files, search::SearchArgs},
    retriever::vectors::Precision,
};

/// Finds passages for a file of questions, for one, or for those that are typed.
///
/// Options have the names of `passage_retrieval.py` too.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of rows with `question` or `instruction` (JSON list or JSON lines); those with `answers` give recall as well.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub(super) data: Vec<PathBuf>,
    /// The file to write, JSON lines: the rows with `ctxs`, a list of passages with score and whether an answer is in them.
    #[arg(long, value_name = "FILE", conflicts_with = "output_dir")]
    output: Option<PathBuf>,
    /// The folder of the files to write, each of its data's name.
    #[arg(long, alias = "output_dir", value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// One question. Without this and --data, questions are read from standard input.
    #[arg(long, value_name = "TEXT", conflicts_with = "data")]
    pub(super) query: Option<String>,
    /// Passages for a question.
    #[arg(long, aliases = ["n_docs", "ndocs"], default_value_t = 100, value_name = "N")]
    pub(super) n_docs: usize,
    /// Instead of a store: files of passages, with --passages-embeddings.
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "embeddings", conflicts_with = "index")]
    pub(super) passages: Vec<PathBuf>,
    /// Instead of a store: files of embeddings, by name or pattern.
    #[arg(long = "passages-embeddings", aliases = ["passages_embeddings", "embeddings"], num_args = 1.., value_name = "GLOB",
        requires = "passages")]
    pub(super) embeddings: Vec<String>,
    /// Keep the store that is made of the embeddings beside them, in index.selfrag; if it is there and was made of the same files, take it.
    #[arg(long, alias = "save_or_load_index")]
    pub(super) save_or_load_index: bool,
    /// Leave out passages without an embedding and embeddings without a passage instead of refusing them.
    #[arg(long)]
    pub(super) allow_missing: bool,
    /// The encoder: a GGUF file or a Hugging Face folder [default: models/encoder.gguf].
    #[arg(long, aliases = ["model_name_or_path", "model-name-or-path", "encoder"], value_name = "MODEL")]
    pub(super) model: Option<PathBuf>,
    /// Where passages are searched [default: public/corpus].
    #[command(flatten)]
    pub(super) search: SearchArgs,
    /// Vectors to search in, of those that the store has: f32, f16 or int8 [default: the most exact].
    #[arg(long, value_parser = ["f32", "f16", "int8"])]
    precision: Option<String>,
    /// Search all vectors on the CPU.
    #[arg(long, conflicts_with_all = ["hnsw", "gpu_memory"])]
    pub(super) cpu: bool,
    /// Questions embedded at a time.
    #[arg(long, aliases = ["per_gpu_batch_size", "batch"], default_value_t = 64, value_name = "N")]
    pub(super) per_gpu_batch_size: usize,
    /// Tokens that a question is cut at, if the model does not cut it earlier.
    #[arg(long, alias = "question_maxlength", default_value_t = 512, value_name = "N")]
    pub(super) question_maxlength: usize,
    /// With embeddings: tokens that their passages were cut at, if the model did not cut them earlier.
    #[arg(long, alias = "passage_maxlength", default_value_t = 512, value_name = "N")]
    pub(super) passage_maxlength: usize,
    /// With embeddings: how their texts were prepared. Questions are prepared as a store's passages were.
    #[command(flatten)]
    pub(super) text: TextArgs,
    /// Print results as JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Begin anew where an interrupted run left an unfinished output of other settings.
    #[arg(long)]
    pub(super) overwrite: bool,
    #[command(flatten)]
    other: Other,
}

/// Options of the original that change nothing here: search is exact, the encoder's precision is its file's, dimensions are the store's.
#[derive(Debug, clap::Args)]
struct Other {
    #[arg(long = "validation_workers", hide = true)]
    _workers: Option<usize>,
    #[arg(long = "indexing_batch_size", hide = true)]
    _indexing: Option<usize>,
    #[arg(long = "projection_size", hide = true)]
    _projection: Option<usize>,
    #[arg(long = "n_bits", hide = true)]
    _bits: Option<usize>,
    #[arg(long = "lang", hide = true, num_args = 1..)]
    _lang: Vec<String>,
    #[arg(long = "dataset", hide = true)]
    _dataset: Option<String>,
    #[arg(long = "no_fp16", hide = true)]
    _no_fp16: bool,
    #[arg(long = "n_subquantizers", hide = true)]
    subquantizers: Option<usize>,
}

impl Args {
    /// What clap cannot see.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for (name, value) in [("n-docs", self.n_docs), ("per-gpu-batch-size", self.per_gpu_batch_size)] {
            ensure!(value > 0, "--{name}: a positive number expected");
        }
        let quantizers = self.other.subquantizers.unwrap_or(0);
        ensure!(quantizers == 0, "--n_subquantizers {quantizers}: search is exact here, or by --hnsw; 0 expected");
        if let Some(address) = self.search.collection()? {
            for (option, given) in [("cpu", self.cpu), ("precision", self.precision.is_some())] {
                ensure!(!given, "--{option}: {address} is searched by its server, in f32");
            }
        }
        Ok(())
    }

    /// The precision asked for.
    pub(super) fn precision(&self) -> Option<Precision> {
        let name = self.precision.as_deref()?;
        Precision::ALL.into_iter().find(|precision| precision.name() == name)
    }

    /// Data and where its passages go.
    pub(super) fn outputs(&self) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
        let outputs: Vec<PathBuf> = match (&self.data[..], &self.output, &self.output_dir) {
            // The original takes --output_dir beside --query too, and writes nothing.
            ([], None, _) => return Ok(Vec::new()),
            ([], Some(_), _) => bail!("--output: with --data only"),
            ([_], Some(output), _) => vec![output.clone()],
            (_, Some(_), _) => bail!("--output: one file for several; --output-dir expected"),
            (data, None, Some(folder)) => data.iter().map(|path| in_folder(folder, path)).collect(),
            (_, None, None) => bail!("--data: --output or --output-dir expected"),
        };
        files::check_outputs(&self.data.iter().collect::<Vec<_>>(), &outputs.iter().collect::<Vec<_>>())?;
        Ok(self.data.iter().cloned().zip(outputs).collect())
    }
}

/// The file of the data's name; what comes out is not compressed.
fn in_folder(folder: &Path, data: &Path) -> PathBuf {
    let name = data.file_name().unwrap_or_default().to_string_lossy().into_owned();
    folder.join(name.strip_suffix(".gz").unwrap_or(&name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Args {
        Line::try_parse_from(format!("retrieve {line}").split(' ')).unwrap_or_else(|e| panic!("{e}")).args
    }

    #[test]
    fn the_originals_options_are_understood() {
        let all = "--query q --passages p.tsv --passages_embeddings e/* --output_dir o --validation_workers 32 \
            --per_gpu_batch_size 64 --save_or_load_index --model_name_or_path m --no_fp16 --question_maxlength 200 \
            --indexing_batch_size 1000000 --projection_size 768 --n_subquantizers 0 --n_bits 8 --lang en fr --dataset none --lowercase \
            --normalize_text";
        let args = parse(&all.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(args.check().is_ok() && args.outputs().unwrap().is_empty() && args.save_or_load_index);
        assert_eq!((args.n_docs, args.question_maxlength, args.embeddings[0].as_str()), (100, 200, "e/*"));
        let refused = parse("--query q --n_subquantizers 64").check().unwrap_err().to_string();
        assert!(refused.contains("search is exact"), "{refused}");
    }

    #[test]
    fn every_file_has_an_output_of_its_own() {
        let outputs = |line| parse(line).outputs().map(|pairs| pairs.into_iter().map(|(_, to)| to).collect::<Vec<_>>());
        assert_eq!(
            outputs("--data a/x.jsonl b/y.json.gz --output-dir o").unwrap(),
            [Path::new("o/x.jsonl"), Path::new("o/y.json")]
        );
        assert_eq!(outputs("--data x.jsonl --output y").unwrap(), [Path::new("y")]);
        for wrong in [
            "--data x y --output z",
            "--data x",
            "--output z",
            "--data a/x b/x --output-dir o",
            "--data x --output ./x",
        ] {
            assert!(outputs(wrong).is_err(), "{wrong}");
        }
    }
}

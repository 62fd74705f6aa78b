//! `selfrag index push STORE milvus://host:port/collection [--index ivf --nlist N] [--replace]`

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressStyle};

use super::search::seconds;
use crate::{
    Error,
    retriever::{
        files,
        milvus::{self, Address, IndexKind, Progress, PushOptions},
        open::clustered,
        store::Store,
    },
};

/// The server's index, as an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum IndexArg {
    /// Every passage is scored: exact.
    Flat,
    /// Passages in clusters, of which a question searches some.
    Ivf,
}

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Push {
    /// The store: a folder made by `selfrag index build`, or the http:// address of one.
    store: PathBuf,
    /// The collection: milvus://[user:password@]host:port/[database/]collection.
    collection: String,
    /// The index that the server makes, by inner products.
    #[arg(long, value_enum, default_value = "flat")]
    index: IndexArg,
    /// Clusters of --index ivf [default: four times the root of the number of passages].
    #[arg(long, value_name = "N")]
    nlist: Option<u32>,
    /// Drop a collection of that name that holds something else.
    #[arg(long)]
    replace: bool,
    /// Seconds that a request to the server may take, new connections included.
    #[arg(long, value_name = "SECS", default_value_t = 30.0, value_parser = seconds)]
    milvus_timeout: f64,
}

impl Push {
    fn kind(&self, count: u64) -> anyhow::Result<IndexKind> {
        ensure!(self.nlist.is_none() || self.index == IndexArg::Ivf, "--nlist: with --index ivf only");
        Ok(match self.index {
            IndexArg::Flat => IndexKind::Flat,
            IndexArg::Ivf => IndexKind::Ivf {
                nlist: self.nlist.unwrap_or((4.0 * (count as f64).sqrt()).clamp(1.0, 65_536.0) as u32),
            },
        })
    }
}

/// Runs the command.
pub(super) async fn push(args: &Push) -> anyhow::Result<()> {
    let address = Address::parse(&args.collection)?;
    if clustered(files::at(&args.store).as_ref()).await? {
        let problem = format!("{} is clustered: push the flat store that it was made of", args.store.display());
        return Err(Error::config("store", problem).into());
    }
    let store = Store::open(files::at(&args.store)).await?;
    let count = store.manifest().count;
    let options = PushOptions {
        index: args.kind(count)?,
        replace: args.replace,
        timeout: Duration::from_secs_f64(args.milvus_timeout),
    };
    let template = "{spinner} {msg} {bar:30} {pos}/{len} {per_sec} {eta}";
    let bar = ProgressBar::new(count).with_style(ProgressStyle::with_template(template)?);
    bar.set_message("looking at the passages");
    let mut there = 0;
    let mut progress = |event| match event {
        Progress::Checked(n) => bar.inc(n),
        Progress::Resumed(n) => {
            there = n;
            bar.set_message("pushing");
            bar.reset();
            bar.set_position(n);
            // What was there before took no time now.
            bar.reset_eta();
        }
        Progress::Pushed(n) => bar.inc(n),
        Progress::Indexing => bar.set_message("the server makes its index"),
    };
    let pushed = milvus::push(&address, &store, options, &mut progress).await;
    bar.finish_and_clear();
    let pushed = pushed?;
    println!("{address}");
    eprintln!("{pushed} passages, {there} of them were there before; {}, inner product", options.index);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Push,
    }

    #[test]
    fn clusters_are_chosen_by_the_number_of_passages() {
        let kind = |options: &str, count| {
            let line = format!("push store milvus://h:1/c {options}");
            Line::try_parse_from(line.split_whitespace()).unwrap().args.kind(count).map_err(|e| e.to_string())
        };
        assert_eq!(kind("", 10_000), Ok(IndexKind::Flat));
        assert_eq!(kind("--index ivf", 10_000), Ok(IndexKind::Ivf { nlist: 400 }));
        assert_eq!(kind("--index ivf", 21_015_324), Ok(IndexKind::Ivf { nlist: 18_336 }));
        assert_eq!(kind("--index ivf", 0), Ok(IndexKind::Ivf { nlist: 1 }));
        assert_eq!(kind("--index ivf --nlist 7", 0), Ok(IndexKind::Ivf { nlist: 7 }));
        assert!(kind("--nlist 7", 0).unwrap_err().contains("--index ivf"));
    }
}

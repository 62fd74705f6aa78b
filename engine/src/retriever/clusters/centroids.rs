//! The clusters nearest to a question, by their centroids.
//!
//! Scanning them on the CPU costs clusters · dim multiply-adds: nothing for thousands, 50 million for 65,536 of 768. On the GPU that is one
//! launch over an int8 index of its own; natively, where the store has a graph of its centroids ([`crate::retriever::hnsw`]) and there is
//! no GPU, a few thousand products.

use std::cell::RefCell;
#[cfg(feature = "cli")]
use std::sync::Arc;

use super::format::Table;
#[cfg(feature = "cli")]
use crate::retriever::hnsw::Graph;
use crate::{
    Result,
    gpu::Gpu,
    retriever::{
        flat::{self, Scored},
        flat_gpu::FlatGpu,
    },
};

/// Clusters from which on the GPU is asked: fewer are scanned sooner than it answers.
pub(super) const GPU_FROM: usize = 8192;

/// How the nearest centroids are found.
#[derive(Debug, Default)]
pub(super) enum Centroids {
    /// All of them, one after the other.
    #[default]
    Scan,
    /// All of them, on the GPU.
    Gpu(RefCell<FlatGpu>),
    /// About the nearest, by a graph.
    #[cfg(feature = "cli")]
    Graph(Graph),
}

impl Centroids {
    /// A copy of them on the GPU.
    pub(super) async fn on_gpu(gpu: &Gpu, table: &Table) -> Result<Self> {
        let mut flat = FlatGpu::new(gpu, table.centroids.dim());
        flat.push(&table.centroids).await?;
        Ok(Self::Gpu(RefCell::new(flat)))
    }

    /// A graph over them, from its file.
    #[cfg(feature = "cli")]
    pub(super) fn graph(file: &str, bytes: Vec<u8>, table: &Table, ef: usize) -> Result<Self> {
        Ok(Self::Graph(Graph::load(file, bytes, Arc::new(table.centroids.clone()), ef)?))
    }

    /// The `n` clusters with the largest products, best first, as rows; all of them if there are no more.
    ///
    /// Two questions at a time are possible, as futures: while one is on the GPU, the other scans.
    #[allow(clippy::await_holding_refcell_ref, reason = "who does not get it scans")]
    pub(super) async fn nearest(&self, table: &Table, question: &[f32], n: usize) -> Result<Vec<Scored>> {
        match self {
            Self::Gpu(flat) => {
                if let Ok(mut flat) = flat.try_borrow_mut() {
                    return Ok(flat.search(&[question.to_vec()], n).await?.remove(0));
                }
            }
            #[cfg(feature = "cli")]
            Self::Graph(graph) if n <= graph.ef() => {
                let found = graph.search(question, n);
                // A search that got lost must not leave a question with fewer clusters than there are.
                if found.len() == n.min(table.centroids.rows()) {
                    return Ok(found);
                }
            }
            _ => {}
        }
        Ok(flat::search(&table.centroids, question, n))
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;
    use crate::{
        gpu::Options,
        platform::block_on,
        retriever::{
            hnsw,
            vectors::{
                Precision,
                tests::{pack, random_vectors},
            },
        },
    };

    #[test]
    fn gpu_and_graph_find_what_a_scan_finds() {
        let gpu = block_on(Gpu::open(Options::default())).expect("the tests need a GPU; lavapipe will do");
        let table = Table { clusters: Vec::new(), centroids: pack(Precision::Int8, &random_vectors(700, 37, 5)) };
        let (bytes, _) = hnsw::build(&Arc::new(table.centroids.clone()), hnsw::EF_SEARCH).unwrap();
        let graph = Centroids::graph("graph.bin", bytes, &table, hnsw::EF_SEARCH).unwrap();
        let on_gpu = block_on(Centroids::on_gpu(&gpu, &table)).unwrap();
        let rows = |found: &[Scored]| found.iter().map(|scored| scored.row).collect::<Vec<_>>();
        let (mut found, mut wanted) = (0, 0);
        for question in random_vectors(9, 37, 6) {
            for n in [1, 40, 700, 9000] {
                let find = |centroids: &Centroids| block_on(centroids.nearest(&table, &question, n)).unwrap();
                let (scan, gpu, graph) = (find(&Centroids::Scan), find(&on_gpu), find(&graph));
                assert_eq!(rows(&gpu), rows(&scan), "the {n} nearest");
                assert!(gpu.iter().zip(&scan).all(|(a, b)| (a.score - b.score).abs() < 1e-3));
                assert_eq!(graph.len(), n.min(700));
                let near: std::collections::HashSet<u32> = rows(&graph).into_iter().collect();
                found += rows(&scan).iter().filter(|row| near.contains(row)).count();
                wanted += scan.len();
            }
        }
        assert!(found as f32 > 0.95 * wanted as f32, "{found} of {wanted}");
    }

    #[test]
    fn who_does_not_get_the_gpu_scans() {
        let gpu = block_on(Gpu::open(Options::default())).expect("the tests need a GPU; lavapipe will do");
        let table = Table { clusters: Vec::new(), centroids: pack(Precision::Int8, &random_vectors(9, 4, 7)) };
        let centroids = block_on(Centroids::on_gpu(&gpu, &table)).unwrap();
        let Centroids::Gpu(flat) = &centroids else { panic!("on the GPU") };
        let _other = flat.borrow_mut();
        assert_eq!(block_on(centroids.nearest(&table, &[1.0, 0.0, 0.0, 0.0], 3)).unwrap().len(), 3);
    }
}

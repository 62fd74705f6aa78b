//! Promise: processes that train together are one run with as many micro-batches, and none outlives another in silence.

#[path = "common/training.rs"]
mod training;

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use selfrag::train::{RankPlan, Ranks, TrainConfig};
use serde_json::{Value, json};
use training::{Scratch, read_safetensors, tiny_run};

/// The command with a configuration, as process `rank` of `ranks`.
fn process(config: &TrainConfig, rank: usize, ranks: usize, port: u16, more: &[&str]) -> Child {
    let file = config.output.with_extension(format!("{rank}.json"));
    std::fs::write(&file, serde_json::to_string(config).unwrap()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_selfrag"))
        .args(["train", "generator", "--config"])
        .arg(file)
        .args(more)
        .envs(
            [("RANK", rank), ("WORLD_SIZE", ranks), ("LOCAL_RANK", rank)]
                .map(|(name, value)| (name, value.to_string())),
        )
        .envs([("MASTER_ADDR", "127.0.0.1".to_owned()), ("MASTER_PORT", port.to_string())])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn good(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn fails(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn two_processes_are_one_with_twice_the_micro_batches() {
    let scratch = Scratch::new("ranks");
    // Ten rows in micro-batches of two: the third step of an epoch leaves the second process without rows.
    let run = |name: &str, accumulation: usize, method: &str| {
        let over =
            json!({"accumulation": accumulation, "max_steps": 6, "method": method, "output": scratch.0.join(name)});
        tiny_run(&scratch, over)
    };
    for method in ["lora", "full"] {
        let (alone, together) = (run(&format!("{method}-1"), 2, method), run(&format!("{method}-2"), 1, method));
        good(process(&alone, 0, 1, 0, &[]));
        let port = free_port();
        let second = process(&together, 1, 2, port, &[]);
        let first = good(process(&together, 0, 2, port, &[]));
        let second = good(second);
        assert!(String::from_utf8_lossy(&first.stderr).contains("2 processes"));
        assert!(second.stdout.is_empty(), "only the first process says where the checkpoint is");
        let (expected, found) = (lines(&alone.output), lines(&together.output));
        assert_eq!((expected.len(), found.len()), (6, 6));
        for (expected, found) in expected.iter().zip(&found) {
            for name in ["step", "epoch", "lr", "tokens", "trained_tokens", "flops"] {
                assert_eq!(found[name], expected[name], "{name}");
            }
            for name in ["loss", "grad_norm"] {
                let (found, expected) = (found[name].as_f64().unwrap(), expected[name].as_f64().unwrap());
                assert!((found - expected).abs() < 1e-5 * expected, "{method} {name}: {found} {expected}");
            }
        }
        let weights = |config: &TrainConfig| {
            let file = if method == "full" { "model.safetensors" } else { "adapter_model.safetensors" };
            read_safetensors(&config.output.join("step-0000006").join(file))
        };
        let (expected, found) = (weights(&alone), weights(&together));
        for (name, expected) in &expected {
            // Adam divides small differences of small gradients by these.
            let most = found[name].iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(most < 1e-3, "{method} {name}: {most}");
        }
        // What both go on with after a kill gives the same bits, and is a run of two.
        let last = together.output.join("step-0000006");
        let files = |folder: &Path| {
            let mut names: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            names.into_iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>()
        };
        let before = files(&last);
        std::fs::remove_dir_all(&last).unwrap();
        let port = free_port();
        let second = process(&together, 1, 2, port, &["--resume"]);
        good(process(&together, 0, 2, port, &["--resume"]));
        good(second);
        assert!(files(&last) == before);
        let error = fails(process(&TrainConfig { max_steps: Some(8), ..together.clone() }, 0, 1, 0, &["--resume"]));
        assert!(error.contains("settings."), "{error}");
    }
}

/// Waits until a run has done a step.
fn started(output: &Path) {
    for _ in 0..600 {
        if !lines_so_far(output).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the run did no step in 30 s");
}

fn lines_so_far(output: &Path) -> String {
    std::fs::read_to_string(output.join("log.jsonl")).unwrap_or_default()
}

#[test]
fn who_loses_another_process_ends_with_its_name() {
    let scratch = Scratch::new("rank-dies");
    for dies in [0, 1] {
        let over =
            json!({"max_steps": 1_000_000, "save_every": 1_000_000, "output": scratch.0.join(format!("out-{dies}"))});
        let (config, port) = (tiny_run(&scratch, over), free_port());
        let mut children = [0, 1].map(|rank| Some(process(&config, rank, 2, port, &[])));
        started(&config.output);
        let mut victim = children[dies].take().unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();
        let error = fails(children[1 - dies].take().unwrap());
        assert!(error.contains(&format!("rank {dies}: it has ended")), "{error}");
        assert!(error.contains("--resume"), "{error}");
    }
}

#[test]
fn who_is_alone_or_trains_something_else_is_told() {
    let scratch = Scratch::new("rank-missing");
    let config = tiny_run(&scratch, json!({"rank_timeout": 1}));
    let error = fails(process(&config, 0, 3, free_port(), &[]));
    assert!(error.contains("rank 0 waited 1 s for rank 1, 2 of 3"), "{error}");
    let error = fails(process(&config, 1, 2, free_port(), &[]));
    assert!(error.contains("rank 1 waited 1 s for rank 0"), "{error}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = fails(process(&config, 0, 2, taken.local_addr().unwrap().port(), &[]));
    assert!(error.contains("rank 0 cannot listen there"), "{error}");

    let (port, other) = (free_port(), TrainConfig { seed: 7, rank_timeout: 60, ..config.clone() });
    let second = process(&other, 1, 2, port, &[]);
    let first = fails(process(&TrainConfig { rank_timeout: 60, ..config }, 0, 2, port, &[]));
    for error in [first, fails(second)] {
        assert!(
            error.contains("settings is {") && error.contains("on rank 0") && error.contains("on rank 1"),
            "{error}"
        );
    }
}

#[test]
fn launchers_say_who_is_who() {
    let plan = |variables: &[(&str, &str)]| {
        let get = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.to_owned());
        RankPlan::read(&get)
    };
    let expected = |rank, ranks, local, address: &str, port| {
        Some(RankPlan { rank, ranks, local, address: address.to_owned(), port })
    };
    let torchrun = [
        ("RANK", "5"),
        ("WORLD_SIZE", "8"),
        ("LOCAL_RANK", "1"),
        ("LOCAL_WORLD_SIZE", "4"),
        ("MASTER_ADDR", "node1"),
        ("MASTER_PORT", "29400"),
        ("TORCHELASTIC_USE_AGENT_STORE", "True"),
    ];
    // torchrun's agent has the port itself.
    assert_eq!(plan(&torchrun).unwrap(), expected(5, 8, 1, "node1", 29401));
    assert_eq!(plan(&torchrun[..6]).unwrap(), expected(5, 8, 1, "node1", 29400));
    let mpirun = [
        ("OMPI_COMM_WORLD_RANK", "1"),
        ("OMPI_COMM_WORLD_SIZE", "2"),
        ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
    ];
    assert_eq!(plan(&mpirun).unwrap(), expected(1, 2, 1, "127.0.0.1", 29500));
    let srun = [("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_LOCALID", "1"), ("SLURM_NNODES", "1")];
    assert_eq!(plan(&srun).unwrap(), expected(3, 4, 1, "127.0.0.1", 29500));
    let error = plan(&srun[..3]).unwrap_err().to_string();
    assert!(error.contains("setting MASTER_ADDR: not set: rank 3 of 4"), "{error}");
    // One process, and none at all.
    assert_eq!(
        plan(&[("RANK", "0"), ("WORLD_SIZE", "1"), ("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "2")]).unwrap(),
        None
    );
    // A batch script outside srun has the job's number of tasks, but is alone.
    assert_eq!(plan(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]).unwrap(), None);
    assert_eq!(plan(&[]).unwrap(), None);
    for (variables, problem) in [
        ([("RANK", "2"), ("WORLD_SIZE", "2")], "setting RANK: 2, expected less than WORLD_SIZE = 2"),
        ([("RANK", "x"), ("WORLD_SIZE", "2")], "setting RANK: \"x\", expected a whole number"),
        ([("RANK", "0"), ("WORLD_SIZE", "0")], "setting RANK: 0, expected less than WORLD_SIZE = 0"),
    ] {
        let error = plan(&variables).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn sums_are_added_in_the_order_of_ranks_and_strangers_are_let_go() {
    let port = free_port();
    let connect = move |rank: usize, ranks: usize| {
        let plan = RankPlan { rank, ranks, local: rank, address: "127.0.0.1".into(), port };
        Ranks::connect(&plan, Duration::from_secs(20)).unwrap()
    };
    let first = std::thread::spawn(move || connect(0, 3));
    let mut stranger = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    // Rank 1 of another run is a stranger too.
    let mut other = TcpStream::connect(("127.0.0.1", port)).unwrap();
    other.write_all(&[*b"selfrag1", 1u64.to_le_bytes(), 5u64.to_le_bytes()].concat()).unwrap();
    let others = [2, 1].map(|rank| std::thread::spawn(move || connect(rank, 3)));
    let ranks = std::iter::once(first).chain(others).map(|thread| thread.join().unwrap());
    // (1e8 + 1) − 1e8 is 0 in f32; in any other order it is not.
    let own = |rank: usize| [[1e8, 0.5], [1.0, 0.25], [-1e8, 0.125]][rank];
    let sum = |mut ranks: Ranks| {
        std::thread::spawn(move || {
            let mut values = own(ranks.rank());
            ranks.sum(&mut values).unwrap();
            ranks.agree(&[("values", format!("{values:?}"))]).unwrap();
            // One that brings something else is told, with the others.
            let mut odd = vec![0.0; 2 + ranks.rank() / 2];
            (values, ranks.sum(&mut odd).map_err(|e| e.to_string()))
        })
    };
    let threads: Vec<_> = ranks.map(sum).collect();
    for thread in threads {
        let (values, odd) = thread.join().unwrap();
        assert_eq!(values, [0.0, 0.875]);
        assert!(odd.is_err());
    }
}

//! Several processes that train one model: each computes its micro-batches of a step, and all apply the sum of their gradients.
//!
//! A launcher starts the processes and tells each its place: torchrun (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`), mpirun of Open MPI
//! (`OMPI_COMM_WORLD_*`) or srun (`SLURM_PROCID`, `SLURM_STEP_NUM_TASKS`, `SLURM_LOCALID`). Rank 0 listens at `MASTER_ADDR`:`MASTER_PORT`; the others
//! connect to it, send their gradients and get the sums back. It adds in the order of ranks, so a run's numbers do not depend on who was
//! quicker, and every rank has the same bits.
//!
//! Plain TCP between trusted machines, as torch's own store: LoRA's gradients are 80 MB a step for a 7B. Why not a library: NCCL (cudarc) is
//! CUDA's alone, rsmpi needs a system MPI at build time, and the Rust re-makings of Gloo come with a tensor library each.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use crate::{Error, Result};

/// What a connection begins with, before rank and number of ranks.
const MAGIC: [u8; 8] = *b"selfrag1";
/// Longest text that ranks compare.
const MAX_TEXT: usize = 1 << 20;
/// torch's own default.
const PORT: u16 = 29500;

fn network(url: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::Network { url: url.into(), problem: problem.into() }
}

/// A process's place among those of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankPlan {
    /// Of this process, from 0.
    pub rank: usize,
    /// How many there are.
    pub ranks: usize,
    /// Place among those on this machine: which GPU it takes.
    pub local: usize,
    /// Where rank 0 listens.
    pub address: String,
    /// And its port.
    pub port: u16,
}

impl RankPlan {
    /// What the launcher says by the environment's variables (`get`); none: this process is alone.
    pub fn read(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(text) = get(name) else { return Ok(None) };
            let number = text.trim().parse().ok();
            number.map(Some).ok_or_else(|| Error::config(name, format!("{text:?}, expected a whole number")))
        };
        // The user's own word first; a launcher's variables may be left over around another one's.
        let launchers = [
            ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"],
            [
                "OMPI_COMM_WORLD_RANK",
                "OMPI_COMM_WORLD_SIZE",
                "OMPI_COMM_WORLD_LOCAL_RANK",
                "OMPI_COMM_WORLD_LOCAL_SIZE",
            ],
            // The step's number of tasks: a batch script outside `srun` has the job's, but is alone.
            ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""],
        ];
        for [rank, ranks, local, on_host] in launchers {
            let (rank_name, ranks_name) = (rank, ranks);
            let (Some(rank), Some(ranks)) = (number(rank)?, number(ranks)?) else { continue };
            if ranks == 0 || rank >= ranks {
                return Err(Error::config(rank_name, format!("{rank}, expected less than {ranks_name} = {ranks}")));
            }
            if ranks == 1 {
                return Ok(None);
            }
            let one_host = number(on_host)? == Some(ranks) || on_host.is_empty() && number("SLURM_NNODES")? == Some(1);
            let address = match get("MASTER_ADDR").filter(|address| !address.is_empty()) {
                Some(address) => address,
                None if one_host => Ipv4Addr::LOCALHOST.to_string(),
                None => {
                    let problem = format!(
                        "not set: rank {rank} of {ranks} must know where rank 0 listens ({rank_name} and {ranks_name} say so; \
                         WORLD_SIZE=1 RANK=0 trains alone)"
                    );
                    return Err(Error::config("MASTER_ADDR", problem));
                }
            };
            let port = match get("MASTER_PORT") {
                None => PORT,
                Some(text) => text
                    .parse()
                    .ok()
                    .filter(|&port| port > 0)
                    .ok_or_else(|| Error::config("MASTER_PORT", format!("{text:?}, expected a port")))?,
            };
            // torchrun's agent itself listens at MASTER_PORT: the next one is ours.
            let taken = get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let port = if taken { port.checked_add(1).unwrap_or(PORT) } else { port };
            return Ok(Some(Self { rank, ranks, local: number(local)?.unwrap_or(rank), address, port }));
        }
        Ok(None)
    }

    /// The same by this process's environment.
    pub fn from_env() -> Result<Option<Self>> {
        Self::read(&|name| std::env::var(name).ok())
    }
}

/// Links to the other processes. Whatever goes wrong with one is an error that names its rank: nothing waits for ever.
#[derive(Debug)]
pub struct Ranks {
    rank: usize,
    ranks: usize,
    local: usize,
    /// On rank 0 those to ranks 1, 2, …; on others the one to rank 0.
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    peer: usize,
    stream: TcpStream,
    timeout: Duration,
}

impl Ranks {
    /// One process.
    pub fn alone() -> Self {
        Self { rank: 0, ranks: 1, local: 0, links: Vec::new() }
    }

    /// Connects all processes of a plan; each waits at most `timeout` for the others, now and in every step.
    pub fn connect(plan: &RankPlan, timeout: Duration) -> Result<Self> {
        let place = format!("{}:{}", plan.address, plan.port);
        let deadline = Instant::now() + timeout;
        let links = match plan.rank {
            0 => accept(plan, &place, timeout, deadline)?,
            _ => vec![reach(plan, &place, timeout, deadline)?],
        };
        Ok(Self { rank: plan.rank, ranks: plan.ranks, local: plan.local, links })
    }

    /// Of this process.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Place on this machine; none when the process is alone.
    pub(super) fn local(&self) -> Option<usize> {
        (self.ranks > 1).then_some(self.local)
    }

    /// An error unless all processes say the same: they must train one thing. `texts` are compared in pairs of name and text.
    pub fn agree(&mut self, texts: &[(&str, String)]) -> Result<()> {
        for (name, text) in texts {
            if self.rank == 0 {
                let mut other = None;
                for link in &mut self.links {
                    let theirs = String::from_utf8_lossy(&link.receive(MAX_TEXT)?).into_owned();
                    if theirs != *text && other.is_none() {
                        other = Some(format!("{name} is {text} on rank 0, {theirs} on rank {}", link.peer));
                    }
                }
                let answer = other.clone().unwrap_or_default();
                self.links.iter_mut().try_for_each(|link| link.send(answer.as_bytes()))?;
                if let Some(problem) = other {
                    return Err(Error::config("ranks", problem));
                }
            } else {
                let link = &mut self.links[0];
                link.send(text.as_bytes())?;
                let answer = link.receive(MAX_TEXT)?;
                if !answer.is_empty() {
                    return Err(Error::config("ranks", String::from_utf8_lossy(&answer)));
                }
            }
        }
        Ok(())
    }

    /// The first process's value, for all: what different devices compute of the same numbers may differ in the last bit. In f32 where there are several.
    pub fn from_first(&mut self, value: f64) -> Result<f64> {
        if self.ranks() == 1 {
            return Ok(value);
        }
        let mut sum = [if self.rank == 0 { value as f32 } else { 0.0 }];
        self.sum(&mut sum)?;
        Ok(sum[0].into())
    }

    /// Replaces values by their sums over all processes, added in the order of ranks.
    pub fn sum(&mut self, values: &mut [f32]) -> Result<()> {
        let n = 4 * values.len();
        let read = |bytes: &[u8]| -> Vec<f32> {
            bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().expect("four bytes"))).collect()
        };
        if self.rank == 0 {
            for link in &mut self.links {
                let theirs = link.receive_exactly(n)?;
                values.iter_mut().zip(read(&theirs)).for_each(|(sum, value)| *sum += value);
            }
            let sums: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.links.iter_mut().try_for_each(|link| link.send(&sums))
        } else if let Some(link) = self.links.first_mut() {
            link.send(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;
            values.copy_from_slice(&read(&link.receive_exactly(n)?));
            Ok(())
        } else {
            Ok(())
        }
    }
}

/// Rank 0: waits for all others. A connection that does not begin as ours is dropped.
fn accept(plan: &RankPlan, place: &str, timeout: Duration, deadline: Instant) -> Result<Vec<Link>> {
    let bad = |problem: String| network(place, problem);
    let loopback = plan.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) || plan.address == "localhost";
    // A host's own name often resolves to a loopback address, which others could not reach.
    let ip = if loopback { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let listener = TcpListener::bind(SocketAddr::from((ip, plan.port)))
        .map_err(|e| bad(format!("rank 0 cannot listen there: {e} (MASTER_PORT names another port)")))?;
    listener.set_nonblocking(true).map_err(|e| bad(e.to_string()))?;
    let mut links: Vec<Option<TcpStream>> = (1..plan.ranks).map(|_| None).collect();
    while links.iter().any(Option::is_none) {
        // Before each connection: strangers that keep coming must not put it off.
        if Instant::now() >= deadline {
            let missing = links.iter().zip(1..).filter(|(link, _)| link.is_none()).map(|(_, rank)| rank.to_string());
            let (missing, waited) = (missing.collect::<Vec<_>>().join(", "), timeout.as_secs());
            let problem = format!("rank 0 waited {waited} s for rank {missing} of {} (rank_timeout)", plan.ranks);
            return Err(bad(problem));
        }
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false).map_err(|e| bad(e.to_string()))?;
                if let Some(rank) = greeting(&mut stream, plan.ranks).filter(|&rank| links[rank - 1].is_none()) {
                    links[rank - 1] = Some(stream);
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(bad(e.to_string())),
        }
    }
    let link = |(stream, peer): (Option<TcpStream>, usize)| Link::new(peer, stream.expect("all are there"), timeout);
    links.into_iter().zip(1..).map(link).collect()
}

/// The rank that a new connection says it is, if it is one of ours.
fn greeting(stream: &mut TcpStream, ranks: usize) -> Option<usize> {
    // Ours sends it at once and whole; one that trickles in is a stranger's.
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut bytes = [0; 24];
    let mut filled = 0;
    while filled < bytes.len() {
        let read = stream.read(&mut bytes[filled..]).ok().filter(|&n| n > 0)?;
        if filled > 0 && read < 8 {
            return None;
        }
        filled += read;
    }
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let (rank, theirs) = (number(8), number(16));
    (bytes[..8] == MAGIC && theirs == ranks as u64 && (1..ranks as u64).contains(&rank)).then_some(rank as usize)
}

/// The others: connect to rank 0, which may be slower to start.
fn reach(plan: &RankPlan, place: &str, timeout: Duration, deadline: Instant) -> Result<Link> {
    loop {
        let found = place.to_socket_addrs().map(|addresses| addresses.collect::<Vec<_>>());
        let connect = |address: &SocketAddr| TcpStream::connect_timeout(address, Duration::from_secs(5)).ok();
        if let Some(mut stream) = found.as_ref().ok().and_then(|addresses| addresses.iter().find_map(connect)) {
            let hello = [MAGIC, (plan.rank as u64).to_le_bytes(), (plan.ranks as u64).to_le_bytes()].concat();
            stream.write_all(&hello).map_err(|e| network(place, format!("rank 0 went away: {e}")))?;
            return Link::new(0, stream, timeout);
        }
        if Instant::now() >= deadline {
            let why = found.err().map_or("nothing listens there".to_owned(), |e| e.to_string());
            let problem = format!("rank {} waited {} s for rank 0: {why} (rank_timeout)", plan.rank, timeout.as_secs());
            return Err(network(place, problem));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Link {
    fn new(peer: usize, stream: TcpStream, timeout: Duration) -> Result<Self> {
        let link = Self { peer, stream, timeout };
        let stream = &link.stream;
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(timeout)))
            .and_then(|()| stream.set_write_timeout(Some(timeout)))
            .map_err(|e| link.lost(&e))?;
        Ok(link)
    }

    fn lost(&self, e: &std::io::Error) -> Error {
        let what = match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("nothing heard of it for {} s (rank_timeout)", self.timeout.as_secs())
            }
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                "it has ended; its own message says why".to_owned()
            }
            _ => e.to_string(),
        };
        network(
            format!("rank {}", self.peer),
            format!("{what}. The last checkpoint is complete: start all ranks again with --resume"),
        )
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        self.stream.write_all(&length).and_then(|()| self.stream.write_all(bytes)).map_err(|e| self.lost(&e))
    }

    fn receive(&mut self, most: usize) -> Result<Vec<u8>> {
        let mut length = [0; 8];
        self.stream.read_exact(&mut length).map_err(|e| self.lost(&e))?;
        let length = u64::from_le_bytes(length);
        if length > most as u64 {
            let problem = format!("{length} bytes announced, at most {most} expected: another version?");
            return Err(network(format!("rank {}", self.peer), problem));
        }
        let mut bytes = vec![0; length as usize];
        self.stream.read_exact(&mut bytes).map_err(|e| self.lost(&e))?;
        Ok(bytes)
    }

    fn receive_exactly(&mut self, n: usize) -> Result<Vec<u8>> {
        let bytes = self.receive(n)?;
        match bytes.len() == n {
            true => Ok(bytes),
            false => {
                let problem = format!("{} bytes of gradients, {n} expected", bytes.len());
                Err(network(format!("rank {}", self.peer), problem))
            }
        }
    }
}

//! A connection to a Milvus server: one request at a time, each within a time, again on a new connection where one is lost.
//!
//! The client is asynchronous on tokio, the engine is not: a runtime with one thread belongs to each connection. It is a thread of its own so
//! that the server's pings are answered while the generator writes, and a panic in the client's code is an error here.

use std::{
    future::Future,
    net::{TcpStream, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use milvus::v2::{
    ClientV2,
    error::Error as ClientError,
    types::{ConnectConfig, RetryConfig, TelemetryConfig},
};
use tokio::runtime::{Builder, Runtime};

use super::Address;
use crate::{Error, Result};

/// Tries of a request whose connection is lost, the first one too.
const TRIES: u32 = 6;
/// Before the second try; doubled before each further one, 7.75 s together: a server needs some seconds to start again.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait for a server to answer for the first time.
const CONNECTING: Duration = Duration::from_secs(10);

pub(super) type ClientResult<T> = milvus::v2::error::Result<T>;

/// A server that answered.
pub(super) struct Connection {
    address: Address,
    client: ClientV2,
    timeout: Duration,
    runtime: Runtime,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.address)
    }
}

impl Connection {
    /// Asks the server for an answer. Each request may take `timeout`, with all its tries.
    pub(super) async fn open(address: &Address, timeout: Duration) -> Result<Self> {
        let within = timeout.min(CONNECTING);
        // The client would wait all that time for a port where nobody listens, and not say why.
        reach(address, within)?;
        let failed = |e: std::io::Error| network(address, format!("no thread for the client: {e}"));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(failed)?;
        let mut config = ConnectConfig::new()
            .uri(format!("http://{}:{}", address.host, address.port))
            .connect_timeout(within)
            // Tries and their time are counted here, where it is known what may be sent twice.
            .retry(RetryConfig::new().max_attempts(1))
            .telemetry(TelemetryConfig::new().enabled(false));
        if let Some((user, password)) = &address.login {
            config = config.username(user).password(password);
        }
        if let Some(database) = &address.database {
            config = config.database(database);
        }
        let client = runtime.spawn(async move { ClientV2::new(&config).await }).await;
        let client = match client {
            Ok(client) => {
                client.map_err(|e| network(address, format!("no Milvus server answers there: {}", told(&e))))?
            }
            Err(e) => return Err(network(address, format!("the client failed: {e}"))),
        };
        Ok(Self { address: address.clone(), client, timeout, runtime })
    }

    /// Where it leads.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a request, and again while its connection is lost. `request` hears the number of the try, from 0: what was sent before may have
    /// arrived. `doing` is for errors.
    pub(super) async fn ask<T, F>(
        &self,
        doing: &str,
        request: impl FnMut(ClientV2, u32) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = ClientResult<T>> + Send + 'static,
    {
        self.ask_within(self.timeout, doing, request).await
    }

    /// The same for what may take longer than other requests, such as loading a collection.
    pub(super) async fn ask_within<T, F>(
        &self,
        timeout: Duration,
        doing: &str,
        request: impl FnMut(ClientV2, u32) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = ClientResult<T>> + Send + 'static,
    {
        let last = Arc::new(Mutex::new(None));
        let work = tried(self.client.clone(), last.clone(), request);
        let answer = self.runtime.spawn(async move { tokio::time::timeout(timeout, work).await }).await;
        let problem = match answer {
            Ok(Ok(Ok(answer))) => return Ok(answer),
            Ok(Ok(Err(error))) => told(&error),
            Ok(Err(_)) => {
                let last = last.lock().unwrap_or_else(PoisonError::into_inner).take();
                let last = last.map_or_else(String::new, |error| format!("; at last: {error}"));
                let option = if timeout == self.timeout { " (--milvus-timeout)" } else { "" };
                format!("no answer within {:.1} s{option}{last}", timeout.as_secs_f64())
            }
            Err(panic) => format!("the client failed: {panic}"),
        };
        Err(network(&self.address, format!("{doing}: {problem}")))
    }
}

/// `last` is the error of the last try that was not the only one: what is told when time is over.
async fn tried<T, F>(
    client: ClientV2,
    last: Arc<Mutex<Option<String>>>,
    mut request: impl FnMut(ClientV2, u32) -> F,
) -> ClientResult<T>
where
    F: Future<Output = ClientResult<T>>,
{
    let mut wait = FIRST_WAIT;
    for attempt in 1..TRIES {
        match request(client.clone(), attempt - 1).await {
            Err(error) if passes(&error) => *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(told(&error)),
            answer => return answer,
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    request(client, TRIES - 1).await
}

/// Whether the same request may succeed a little later: the connection was lost or there is none, or the server has too much to do.
fn passes(error: &ClientError) -> bool {
    // gRPC's numbers; tonic, whose names they have, is not named here.
    const CANCELLED: i32 = 1;
    const UNKNOWN: i32 = 2;
    const INTERNAL: i32 = 13;
    const UNAVAILABLE: i32 = 14;
    // Milvus' own, the first two while it starts; the last by its new number and its old one.
    const NOT_READY: i32 = 1;
    const UNAVAILABLE_SERVICE: i32 = 2;
    const RATE_LIMIT: [i32; 2] = [8, 49];
    match error {
        ClientError::Grpc(status) => [CANCELLED, UNKNOWN, INTERNAL, UNAVAILABLE].contains(&(status.code() as i32)),
        ClientError::Server(error) => {
            [NOT_READY, UNAVAILABLE_SERVICE, RATE_LIMIT[0]].contains(&error.code())
                || error.legacy_code() == RATE_LIMIT[1]
        }
        // The client gives up so what the server called worth another try.
        ClientError::RetryExhausted { source, .. } => matches!(**source, ClientError::Server(_)) || passes(source),
        _ => false,
    }
}

/// An error in a line: the client's own words bring status numbers and metadata.
fn told(error: &ClientError) -> String {
    match error {
        ClientError::Grpc(status) => match status.message() {
            "" => format!("{:?}", status.code()),
            message => format!("{message} ({:?})", status.code()),
        },
        ClientError::Server(error) => format!("the server refused: {}", error.reason()),
        ClientError::RetryExhausted { source, .. } => told(source),
        other => other.to_string(),
    }
}

pub(super) fn network(address: &Address, problem: String) -> Error {
    Error::Network { url: address.to_string(), problem }
}

/// Whether anything listens there; the system's own words where nothing does.
fn reach(address: &Address, within: Duration) -> Result<()> {
    let host = address.host.trim_start_matches('[').trim_end_matches(']');
    let failed = |e: std::io::Error| network(address, format!("no server to connect to: {e}"));
    let (start, mut last) = (Instant::now(), std::io::ErrorKind::AddrNotAvailable.into());
    for place in (host, address.port).to_socket_addrs().map_err(failed)? {
        let left = within.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&place, left) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::block_on;

    #[test]
    fn nobody_and_somebody_else_at_the_port_are_errors_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Address::parse(&format!("milvus://root:SECRET@127.0.0.1:{port}/c")).unwrap();
        // It accepts and says nothing.
        let error = block_on(Connection::open(&address, Duration::from_millis(300))).unwrap_err().to_string();
        assert!(error.starts_with(&format!("milvus://127.0.0.1:{port}/c: no Milvus server answers")), "{error}");
        drop(listener);
        let error = block_on(Connection::open(&address, Duration::from_millis(300))).unwrap_err().to_string();
        assert!(error.starts_with(&format!("milvus://127.0.0.1:{port}/c: no server to connect to")), "{error}");
    }
}

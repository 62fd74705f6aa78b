//! Requests to an OpenAI-compatible server: several at once, no more a minute than allowed, sent again while another try may help.
//!
//! | what comes back | what is done |
//! | --- | --- |
//! | 429, 5xx, no answer, no JSON | another try, after 0.5 s, 1 s, 2 s, … or what `Retry-After` says; then all requests wait |
//! | another status than 2xx | given up: a wrong request stays wrong |

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Error, Result};

/// First wait before a request is sent again; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait before a request is sent again, whatever the server says.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Longest message of a server that is passed on.
const MESSAGE: usize = 300;
/// Longest answer that is read: N log-probabilities a token are some hundred bytes each.
const MOST_BYTES: u64 = 512 << 20;

/// Where a server is, and how it may be asked.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The address without `/v1/…`; plain HTTP.
    pub address: String,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// Requests under way at once.
    pub concurrency: usize,
    /// How often a request is sent again that failed for no fault of its own.
    pub retries: u32,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Requests begun in a minute, spread evenly; none: as many as come.
    pub per_minute: Option<u32>,
}

/// A server and the time at which it may be asked next.
#[derive(Debug)]
pub struct Server {
    agent: ureq::Agent,
    options: ServerOptions,
    next: Mutex<Instant>,
}

/// A request that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The answer's status; none: there was no usable answer.
    pub status: Option<u16>,
    /// What went wrong.
    pub problem: String,
}

/// A try: the answer, or what went wrong, whether another try may help, and the wait that the server asks for.
type Tried = std::result::Result<Value, (Failed, bool, Option<String>)>;

impl Server {
    /// Refuses an address or numbers that make no sense; `setting` is the option that has the address.
    pub fn new(options: ServerOptions, setting: &str) -> Result<Self> {
        if !options.address.starts_with("http://") {
            let hint = "http://… expected; a local proxy can speak https for it";
            return Err(Error::config(setting, format!("{}: {hint}", options.address)));
        }
        if options.concurrency == 0 {
            return Err(Error::config("concurrency", "at least 1 expected"));
        }
        if options.per_minute == Some(0) {
            return Err(Error::config("requests-per-minute", "at least 1 expected"));
        }
        let address = options.address.trim_end_matches('/');
        let address = address.strip_suffix("/v1").unwrap_or(address).to_owned();
        let config =
            ureq::Agent::config_builder().timeout_global(Some(options.timeout)).http_status_as_error(false).build();
        let options = ServerOptions { address, ..options };
        Ok(Self { agent: config.into(), options, next: Mutex::new(Instant::now()) })
    }

    /// What the server says that is no answer.
    pub fn error(&self, path: &str, problem: impl Into<String>) -> Error {
        Error::Network { url: format!("{}/v1/{path}", self.options.address), problem: problem.into() }
    }

    /// A request and its answer, an error where it is given up.
    pub fn send(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        self.request(path, body).map_err(|failed| self.error(path, failed.problem))
    }

    /// All requests to one path; the answers in their order, or the first error.
    pub fn send_all(&self, path: &str, bodies: &[&Value]) -> Result<Vec<Value>> {
        let mut answers: Vec<Option<Value>> = vec![None; bodies.len()];
        self.each(path, bodies.len(), &|at| bodies[at].clone(), &mut |at, answer| {
            answers[at] = Some(answer.map_err(|failed| self.error(path, failed.problem))?);
            Ok(())
        })?;
        Ok(answers.into_iter().map(|answer| answer.expect("every job was done")).collect())
    }

    /// `n` requests to one path, so many at once as the options say; `on_answer` gets each as it comes. After its first error no request
    /// is begun, but those under way still come to it: they may have cost something.
    pub fn each(
        &self,
        path: &str,
        n: usize,
        body: &(dyn Fn(usize) -> Value + Sync),
        on_answer: &mut dyn FnMut(usize, std::result::Result<Value, Failed>) -> Result<()>,
    ) -> Result<()> {
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.options.concurrency.min(n) {
                let (sender, next, stopped) = (sender.clone(), &next, &stopped);
                scope.spawn(move || {
                    while !stopped.load(Ordering::Relaxed) {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= n || sender.send((at, self.request(path, Some(&body(at))))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut outcome = Ok(());
            for (at, answer) in receiver {
                let handled = on_answer(at, answer);
                if outcome.is_ok() && handled.is_err() {
                    stopped.store(true, Ordering::Relaxed);
                    outcome = handled;
                }
            }
            outcome
        })
    }

    /// One request, repeated while another try may help.
    pub fn request(&self, path: &str, body: Option<&Value>) -> std::result::Result<Value, Failed> {
        for attempt in 0.. {
            self.wait_for_turn();
            match self.try_once(path, body) {
                Ok(answer) => return Ok(answer),
                Err((_, true, retry_after)) if attempt < self.options.retries => {
                    let wait = wait(attempt, retry_after.as_deref());
                    if retry_after.is_some() {
                        // It holds for all: others would only be refused too.
                        let mut next = self.next.lock().expect("no holder panics");
                        *next = (*next).max(Instant::now() + wait);
                    }
                    thread::sleep(wait);
                }
                Err((failed, true, _)) => {
                    let problem = format!("{}, after {} tries", failed.problem, attempt + 1);
                    return Err(Failed { problem, ..failed });
                }
                Err((failed, false, _)) => return Err(failed),
            }
        }
        unreachable!("the loop only ends by returning")
    }

    /// Sleeps until a request may begin, and takes that place.
    fn wait_for_turn(&self) {
        let now = Instant::now();
        let start = turn(&mut self.next.lock().expect("no holder panics"), now, self.options.per_minute);
        thread::sleep(start - now);
    }

    fn try_once(&self, path: &str, body: Option<&Value>) -> Tried {
        let url = format!("{}/v1/{path}", self.options.address);
        let key = self.options.api_key.as_ref().map(|key| format!("Bearer {key}"));
        let sent = match body {
            Some(body) => {
                let mut request = self.agent.post(&url).header("content-type", "application/json");
                if let Some(key) = &key {
                    request = request.header("authorization", key);
                }
                request.send(body.to_string().as_str())
            }
            None => {
                let mut request = self.agent.get(&url);
                if let Some(key) = &key {
                    request = request.header("authorization", key);
                }
                request.call()
            }
        };
        let lost = |problem: String| (Failed { status: None, problem }, true, None);
        let mut response = sent.map_err(|e| lost(e.to_string()))?;
        let status = response.status();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.map(str::to_owned);
        let text = response.body_mut().with_config().limit(MOST_BYTES).read_to_string();
        let text = text.map_err(|e| lost(e.to_string()))?;
        if !status.is_success() {
            let message: String = text.chars().take(MESSAGE).collect();
            let hint = if message.contains("logprobs") { " (vLLM: --max-logprobs N, here: --logprobs N)" } else { "" };
            let may_help = status.is_server_error() || status.as_u16() == 429;
            let failed = Failed { status: Some(status.as_u16()), problem: format!("{status}: {message}{hint}") };
            return Err((failed, may_help, retry_after));
        }
        serde_json::from_str(&text).map_err(|e| lost(format!("JSON expected: {e}")))
    }
}

/// When a request may begin that wants to now; `next` becomes the earliest time of the one after it.
fn turn(next: &mut Instant, now: Instant, per_minute: Option<u32>) -> Instant {
    let start = (*next).max(now);
    if let Some(per_minute) = per_minute {
        *next = start + Duration::from_secs(60) / per_minute;
    }
    start
}

/// How long to wait after try `attempt`, counted from 0: the seconds that the server says, or 0.5 s doubled each time. A date in
/// `Retry-After` is not read.
fn wait(attempt: u32, retry_after: Option<&str>) -> Duration {
    let told = retry_after.and_then(|text| text.trim().parse::<f64>().ok());
    let told = told.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(attempt));
    told.unwrap_or(doubled).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spread_over_the_minute() {
        let now = Instant::now();
        let seconds = |per_minute, times: [u64; 4]| {
            let mut next = now;
            let mut start = |at| turn(&mut next, now + Duration::from_secs(at), per_minute) - now;
            times.map(&mut start).map(|start| start.as_secs())
        };
        assert_eq!(seconds(Some(20), [0, 0, 0, 30]), [0, 3, 6, 30]);
        assert_eq!(seconds(None, [0, 0, 0, 30]), [0, 0, 0, 30]);
    }

    #[test]
    fn waits_double_unless_the_server_says() {
        let millis = |attempt, header| wait(attempt, header).as_millis();
        assert_eq!([0, 1, 2].map(|attempt| millis(attempt, None)), [500, 1000, 2000]);
        assert_eq!((millis(3, Some("7")), millis(0, Some(" 0.25 ")), millis(0, Some("0"))), (7000, 250, 0));
        for odd in ["-1", "nan", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(millis(1, Some(odd)), 1000, "{odd}");
        }
        assert_eq!((millis(60, None), millis(0, Some("1e12"))), (600_000, 600_000));
    }
}

//! A server on the loopback that answers as a test says.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;

/// What a request gets.
pub(crate) enum Reply {
    /// Status, further headers (each ended by `\r\n`), body.
    Answer(&'static str, &'static str, String),
    /// The connection ends.
    HangUp,
}

impl Reply {
    pub(crate) fn json(body: &Value) -> Self {
        Self::Answer("200 OK", "", body.to_string())
    }
}

/// What was asked.
#[derive(Default)]
pub(crate) struct Seen {
    /// Bodies in the order in which they came.
    pub(crate) bodies: Mutex<Vec<Value>>,
    pub(crate) under_way: AtomicUsize,
    pub(crate) most_at_once: AtomicUsize,
}

impl Seen {
    pub(crate) fn count(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }
}

/// Serves for as long as the test runs: `answer` gets a request's number, counted from 0, its path and its body.
pub(crate) fn serve(answer: impl Fn(usize, &str, &Value) -> Reply + Send + Sync + 'static) -> (String, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Seen> = Arc::default();
    let (answer, shared) = (Arc::new(answer), seen.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, seen) = (answer.clone(), shared.clone());
            thread::spawn(move || answer_all(stream, &seen, answer.as_ref()));
        }
    });
    (address, seen)
}

fn answer_all(stream: TcpStream, seen: &Seen, answer: &dyn Fn(usize, &str, &Value) -> Reply) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let (mut line, mut length, mut first) = (String::new(), 0, String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let number = {
            let mut bodies = seen.bodies.lock().unwrap();
            bodies.push(body.clone());
            bodies.len() - 1
        };
        let at_once = seen.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        let reply = answer(number, first.split(' ').nth(1)?, &body);
        seen.under_way.fetch_sub(1, Ordering::SeqCst);
        let Reply::Answer(status, headers, text) = reply else { return None };
        let length = text.len();
        let head = format!("content-type: application/json\r\ncontent-length: {length}\r\n{headers}");
        write!(stream, "HTTP/1.1 {status}\r\n{head}\r\n{text}").ok()?;
    }
}

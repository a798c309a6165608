//! A tiny HTTP server for tests of the command line: one request a connection, answers from a closure.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::client::Client;

/// A request as the fake server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// The fake server; it lives as long as the test's process.
pub(crate) struct Fake {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Listens on a free port and answers with status and body.
    pub(crate) fn start(answer: impl Fn(&Seen) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let address = listener.local_addr().expect("the port just bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(request) = read(&stream) {
                    log.lock().expect("no test panics while holding it").push(request.clone());
                    let (status, body) = answer(&request);
                    write(&stream, status, &body);
                }
            }
        });
        Self { address, seen }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address(), Duration::from_secs(10)).expect("a loopback address is good")
    }

    /// Everything asked so far, as `METHOD target`.
    pub(crate) fn requests(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("no test panics while holding it");
        seen.iter().map(|request| format!("{} {}", request.method, request.target)).collect()
    }

    /// The body of the last request.
    pub(crate) fn last_body(&self) -> Vec<u8> {
        self.seen.lock().expect("no test panics while holding it").last().expect("a request").body.clone()
    }
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { method, target, body })
}

fn write(mut stream: &TcpStream, status: u16, body: &str) {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // A client that went away is the test's own doing.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

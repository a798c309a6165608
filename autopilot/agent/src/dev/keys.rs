//! The keys of a story: what was acknowledged, and whether it is still there.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cli::client::{Client, Method, Request, RequestError};
use crate::cli::wire::KeyValue;

/// Everything a story writes is below this prefix.
const PREFIX: &str = "story/";

/// How long the writer rests between two writes, so that it watches the cluster more than it loads it.
const REST: Duration = Duration::from_millis(5);

/// How long one write or read may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Keys and values that the cluster acknowledged.
pub(crate) type Acknowledged = BTreeMap<String, String>;

/// Writes a key and value of its own through one server. The same key may be written again: the value is the same.
///
/// # Errors
///
/// [`RequestError`]; the key may have been written all the same.
pub(crate) fn write(http: &str, name: &str) -> Result<(String, String), RequestError> {
    let key = format!("{PREFIX}{name}");
    let value = format!("value of {name}");
    let request = Request::new(Method::Put, format!("/kv/{key}")).body(value.clone());
    let client = Client::new(http, PATIENCE)?;
    if client.json(&request)? {
        Ok((key, value))
    } else {
        // Only a write with a condition may be answered so.
        Err(client.malformed(&request, "a write without a condition was not made"))
    }
}

/// How to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// Everything acknowledged before must be seen.
    Linearizable,
    /// What the asked server has itself.
    Stale,
}

impl std::fmt::Display for Consistency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Linearizable => "linearizable",
            Self::Stale => "stale",
        })
    }
}

/// Reads every key through one server and gives those that are missing or have another value.
///
/// # Errors
///
/// [`RequestError`]; reading again is safe.
pub(crate) fn lost(
    http: &str,
    consistency: Consistency,
    expected: &Acknowledged,
) -> Result<Vec<String>, RequestError> {
    let request = Request::new(Method::Get, format!("/kv/{PREFIX}"))
        .flag("recurse", true)
        .flag("consistent", consistency == Consistency::Linearizable)
        .flag("stale", consistency == Consistency::Stale);
    let client = Client::new(http, PATIENCE)?;
    let answer = client.send(&request)?;
    let found: Vec<KeyValue> = match answer.status {
        200 => client.read(&request, &answer.body)?,
        404 => Vec::new(),
        _ => return Err(client.refused(&request, &answer)),
    };
    Ok(missing(expected, &found))
}

fn missing(expected: &Acknowledged, found: &[KeyValue]) -> Vec<String> {
    let found: BTreeMap<&str, Option<Vec<u8>>> = found
        .iter()
        .map(|entry| (entry.key.as_str(), STANDARD.decode(entry.value.as_deref().unwrap_or("")).ok()))
        .collect();
    expected
        .iter()
        .filter(|(key, value)| found.get(key.as_str()) != Some(&Some(value.as_bytes().to_vec())))
        .map(|(key, _)| key.clone())
        .collect()
}

#[derive(Debug, Default)]
struct Progress {
    acknowledged: Acknowledged,
    killed: Option<Instant>,
    first_after: Option<Duration>,
}

/// Keeps writing through several servers in turn, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Writer {
    progress: Arc<Mutex<Progress>>,
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Begins to write.
    pub(crate) fn start(servers: Vec<String>) -> Self {
        let progress = Arc::new(Mutex::new(Progress::default()));
        let (stop, stopped) = sync_channel::<()>(0);
        let shared = Arc::clone(&progress);
        let thread = std::thread::spawn(move || {
            let mut written = 0_u32;
            for http in servers.iter().cycle() {
                let begun = Instant::now();
                if let Ok((key, value)) = write(http, &format!("during/{written:06}")) {
                    written += 1;
                    acknowledge(&mut lock(&shared), begun, key, value);
                }
                if stopped.recv_timeout(REST) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Self { progress, stop, thread }
    }

    /// From here on the next write that begins and is acknowledged counts as the first after the kill.
    pub(crate) fn killed_at(&self, at: Instant) {
        lock(&self.progress).killed = Some(at);
    }

    /// How long after the kill the first write was acknowledged.
    pub(crate) fn first_after(&self) -> Option<Duration> {
        lock(&self.progress).first_after
    }

    /// Stops and gives what was acknowledged.
    pub(crate) fn stop(self) -> Acknowledged {
        // The thread may have ended already only if there was nothing to write to.
        let _ = self.stop.send(());
        let _ = self.thread.join();
        std::mem::take(&mut lock(&self.progress).acknowledged)
    }
}

/// Only a write that *began* after the kill proves that the cluster commits again: an answer may have been on its way
/// when the leader died.
fn acknowledge(progress: &mut Progress, begun: Instant, key: String, value: String) {
    progress.acknowledged.insert(key, value);
    if let Some(killed) = progress.killed
        && begun >= killed
    {
        progress.first_after.get_or_insert_with(|| killed.elapsed());
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().expect("nobody panics while holding it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::Fake;

    fn entry(key: &str, value: &str) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(STANDARD.encode(value)), ..KeyValue::default() }
    }

    fn acknowledged(keys: &[(&str, &str)]) -> Acknowledged {
        keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_missing_or_changed_key_is_found() {
        let expected = acknowledged(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let whole = [entry("a", "1"), entry("b", "2"), entry("c", "3"), entry("extra", "x")];
        assert_eq!(missing(&expected, &whole), Vec::<String>::new());
        assert_eq!(missing(&expected, &[entry("a", "1"), entry("b", "other")]), ["b", "c"]);
        let broken = KeyValue { key: "a".into(), value: Some("?".into()), ..KeyValue::default() };
        assert_eq!(missing(&acknowledged(&[("a", "1")]), &[broken]), ["a"]);
    }

    #[test]
    fn reading_asks_for_the_wanted_consistency() {
        let fake = Fake::start(|request| {
            if request.target.contains("stale") {
                (404, String::new())
            } else {
                (200, r#"[{"Key":"a","Value":"MQ=="}]"#.into())
            }
        });
        let expected = acknowledged(&[("a", "1")]);
        let lost = |consistency| lost(&fake.address(), consistency, &expected).expect("an answer");
        assert_eq!(lost(Consistency::Linearizable), Vec::<String>::new());
        assert_eq!(lost(Consistency::Stale), ["a"]);
        assert_eq!(
            fake.requests(),
            ["GET /v1/kv/story/?recurse&consistent", "GET /v1/kv/story/?recurse&stale"]
        );
    }

    #[test]
    fn only_a_write_begun_after_the_kill_counts() {
        let mut progress = Progress::default();
        let before = Instant::now();
        let killed = before + Duration::from_millis(1);
        progress.killed = Some(killed);
        acknowledge(&mut progress, before, "a".into(), "1".into());
        assert_eq!(progress.first_after, None);
        acknowledge(&mut progress, killed, "b".into(), "2".into());
        assert!(progress.first_after.is_some());
        assert_eq!(progress.acknowledged, acknowledged(&[("a", "1"), ("b", "2")]));
    }

    #[test]
    fn the_writer_keeps_what_was_acknowledged() {
        let (seen, begun) = sync_channel(1);
        let fake = Fake::start(move |request| {
            let _ = seen.try_send(());
            if request.target.ends_with("000003") {
                (500, "No cluster leader".into())
            } else {
                (200, "true".into())
            }
        });
        let writer = Writer::start(vec![fake.address()]);
        begun.recv().expect("a first write");
        while fake.requests().len() < 6 {
            std::thread::yield_now();
        }
        let kept = writer.stop();
        let keys: Vec<&str> = kept.keys().map(String::as_str).collect();
        assert_eq!(keys, ["story/during/000000", "story/during/000001", "story/during/000002"]);
        assert_eq!(kept["story/during/000002"], "value of during/000002");
    }
}

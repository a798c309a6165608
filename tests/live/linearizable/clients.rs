//! The clients, and what they saw.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use live_tests::{Cluster, wait};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde_json::{Value as Json, json};
use simulation::linearizable::{
    Action, Answer, End, Key, Operation, STEPS_MAX, Value, Verdict, check, shorten,
};
use ureq::http::{Request, Response};

const CLIENTS: u32 = 5;
const KEYS: Key = 3;
/// Reads that wait for a server that is stopped.
const SLEEPERS: u32 = 8;
/// How many reads of each mode a run must have answered.
const READS_MIN: usize = 20;
/// How long a client waits for an answer: shorter than most pauses, so that many outcomes are unknown.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);
/// The header that promises that nothing was changed.
const NOT_APPLIED: &str = "x-autopilot-not-applied";
/// How long the faults last unless told.
const SECONDS: u64 = 15;

/// What all clients share.
pub(crate) struct Clients {
    servers: Vec<String>,
    began: Instant,
    ends: Instant,
    stop: AtomicBool,
    next_value: AtomicU64,
    /// Counts the kills of each server, before each.
    pub(crate) lives: Vec<AtomicU64>,
    history: Mutex<Vec<Recorded>>,
}

/// What a read that promises to be fresh rested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// The lease of the leader.
    Lease,
    /// A quorum that confirmed the leader, which read.
    ReadIndexAtLeader,
    /// The same, and another server read.
    ReadIndexAtFollower,
    /// Its place in the log.
    Log,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Lease, Self::ReadIndexAtLeader, Self::ReadIndexAtFollower, Self::Log];
}

/// An operation, and for an answered read what it rested on.
type Recorded = (Operation, Option<Mode>);

/// What the clients saw.
pub(crate) struct Seen {
    /// Faults meanwhile.
    pub(crate) faults: usize,
    /// Everything that promises to be linearizable.
    recorded: Vec<Recorded>,
}

/// What a client got.
struct Got {
    status: u16,
    /// Certainly nothing was changed.
    not_applied: bool,
    /// `x-consul-index`; for one key that is there, the index of its last change.
    index: u64,
    /// Milliseconds since who answered last heard a leader; 0 for the leader itself.
    last_contact: u64,
    /// `x-autopilot-read-by`.
    read_by: String,
    body: String,
}

impl Got {
    fn mode(&self) -> Mode {
        match self.read_by.as_str() {
            "lease" => Mode::Lease,
            "log" => Mode::Log,
            "read-index" if self.last_contact == 0 => Mode::ReadIndexAtLeader,
            "read-index" => Mode::ReadIndexAtFollower,
            other => panic!("a fresh read that rests on {other:?}: {} {}", self.status, self.body),
        }
    }
}

/// One client.
struct Client<'a> {
    number: u32,
    shared: &'a Clients,
    random: Xoshiro256PlusPlus,
    http: ureq::Agent,
    /// What it saw last: the value and its index, for conditions.
    seen: BTreeMap<Key, (Option<Value>, u64)>,
    /// The newest index that a server's own state showed in one life.
    stale: BTreeMap<(usize, u64, Key), u64>,
}

/// Lets clients work while `faults` happen, then ends them and tells what they saw. `faults` says how many there were.
pub(crate) fn watch(
    cluster: &mut Cluster,
    seed: u64,
    faults: impl FnOnce(&mut Cluster, &Clients) -> usize,
) -> Seen {
    let seconds = std::env::var("LIVE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let began = Instant::now();
    let shared = Clients {
        servers: cluster.agents.iter().map(|agent| agent.http.clone()).collect(),
        began,
        ends: began + Duration::from_secs(seconds),
        stop: AtomicBool::new(false),
        next_value: AtomicU64::new(1),
        lives: cluster.agents.iter().map(|_| AtomicU64::new(0)).collect(),
        history: Mutex::new(Vec::new()),
    };
    let faults = std::thread::scope(|scope| {
        let shared = &shared;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || Client::new(number, seed, shared).work()))
            .collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let count = faults(cluster, shared);
            cluster.settle();
            count
        }));
        shared.stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client does not panic");
        }
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    });
    Client::new(CLIENTS, seed, &shared).read_everywhere();
    Seen { faults, recorded: shared.history.into_inner().expect("no client panics") }
}

impl Seen {
    /// All of it.
    pub(crate) fn history(&self) -> Vec<Operation> {
        self.recorded.iter().map(|(operation, _)| operation.clone()).collect()
    }

    /// The same without the reads of one mode: a read changes nothing, so the rest is a history too.
    pub(crate) fn history_without(&self, mode: Mode) -> Vec<Operation> {
        let others = self.recorded.iter().filter(|(_, read)| *read != Some(mode));
        others.map(|(operation, _)| operation.clone()).collect()
    }

    /// Answered reads of each mode.
    pub(crate) fn reads(&self) -> BTreeMap<Mode, usize> {
        let count = |mode| self.recorded.iter().filter(|(_, read)| *read == Some(mode)).count();
        Mode::ALL.into_iter().map(|mode| (mode, count(mode))).collect()
    }

    /// Fails if the history is wrong, or too short to say anything about some way to read or write.
    pub(crate) fn judge(&self) {
        let history = &self.history();
        let unknown = history.iter().filter(|operation| operation.end == End::Unknown).count();
        let refused = history.iter().filter(|operation| operation.end == End::Refused).count();
        let answered = history.len() - unknown - refused;
        println!("{} faults", self.faults);
        println!("{answered} operations answered, {refused} refused, {unknown} of unknown outcome");
        println!("answered reads: {:?}", self.reads());
        match check(history, STEPS_MAX) {
            Verdict::Linearizable => {}
            Verdict::Violation(violation) => {
                panic!("not linearizable: {violation}; the shortened history, in ns:{}", shortened(history));
            }
            Verdict::Unknown { key } => panic!("the history of key {key} is too hard to judge"),
        }
        let kinds = [
            history.iter().filter(|o| matches!(o.end, End::Answered(_, Answer::Found(Some(_))))).count(),
            history.iter().filter(|o| matches!(o.end, End::Answered(_, Answer::Held(true)))).count(),
            history.iter().filter(|o| matches!(o.end, End::Answered(_, Answer::Done))).count(),
        ];
        println!(
            "{} values read, {} conditions held, {} writes and deletions done",
            kinds[0], kinds[1], kinds[2]
        );
        assert!(kinds.iter().all(|count| *count > 10), "clients got too little done to say anything");
        for (mode, count) in self.reads() {
            assert!(count >= READS_MIN, "only {count} reads by {mode:?} were answered");
        }
    }
}

/// A few operations that already show what is wrong, one a line.
pub(crate) fn shortened(history: &[Operation]) -> String {
    shorten(history, STEPS_MAX).iter().map(|operation| format!("\n  {operation}")).collect()
}

fn name(key: Key) -> String {
    format!("linearizable-{key}")
}

impl Clients {
    /// Whether the faults should go on.
    pub(crate) fn goes_on(&self) -> bool {
        Instant::now() < self.ends
    }

    /// One more client writes through one server and reads by default at another for a while, on a key of its own.
    pub(crate) fn write_and_read(&self, write_at: usize, read_at: usize, lasts: Duration) {
        let mut client = Client::new(CLIENTS + 1, 0, self);
        let ends = Instant::now() + lasts;
        while Instant::now() < ends {
            client.put(write_at, KEYS);
            client.read(read_at, KEYS, "?raw");
        }
    }

    /// For a server that is stopped: something is written without it, then many reads that were sent to it meanwhile arrive when
    /// `wake` lets it go on.
    pub(crate) fn ask_who_wakes(&self, write_at: usize, read_at: usize, wake: impl FnOnce()) {
        Client::new(CLIENTS + 1, 0, self).put(write_at, KEYS);
        std::thread::scope(|scope| {
            for number in 0..SLEEPERS {
                scope.spawn(move || Client::new(CLIENTS + 2 + number, 0, self).read(read_at, KEYS, "?raw"));
            }
            // Enough for the requests to reach its sockets; a later one is answered too.
            std::thread::sleep(Duration::from_millis(100));
            wake();
        });
    }

    /// What was seen until now.
    pub(crate) fn so_far(&self) -> Vec<Operation> {
        let recorded = self.history.lock().expect("no client panics");
        recorded.iter().map(|(operation, _)| operation.clone()).collect()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a test takes less than centuries")
    }
}

impl<'a> Client<'a> {
    fn new(number: u32, seed: u64, shared: &'a Clients) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_TIMEOUT))
            .http_status_as_error(false)
            // A connection of its own for each request: nothing is ever sent a second time.
            .max_idle_connections(0)
            .build();
        Self {
            number,
            shared,
            random: Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(31) + u64::from(number) + 1),
            http: ureq::Agent::new_with_config(config),
            seen: BTreeMap::new(),
            stale: BTreeMap::new(),
        }
    }

    fn work(&mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let key = self.random.random_range(0..KEYS);
            let server = self.random.random_range(0..self.shared.servers.len());
            match self.random.random_range(0..100) {
                0..=24 => self.put(server, key),
                25..=54 => {
                    self.get(server, key);
                }
                55..=84 => self.compare_and_set(server, key),
                85..=89 => self.delete(server, key),
                _ => self.look_at_own_state(server, key),
            }
            std::thread::sleep(Duration::from_millis(self.random.random_range(0..10)));
        }
    }

    /// Sends a request about one key.
    fn send(&self, method: &str, server: usize, key: Key, query: &str, body: &str) -> Result<Got, String> {
        self.ask(method, server, &format!("/v1/kv/{}{query}", name(key)), body)
    }

    /// Runs a transaction of one operation on one key.
    fn transact(&self, server: usize, key: Key, verb: &str, more: &Json) -> Result<Got, String> {
        let mut operation = json!({"Verb": verb, "Key": name(key)});
        let fields =
            more.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone()));
        operation.as_object_mut().expect("an object").extend(fields);
        self.ask("PUT", server, "/v1/txn", &json!([{"KV": operation}]).to_string())
    }

    fn ask(&self, method: &str, server: usize, path: &str, body: &str) -> Result<Got, String> {
        let url = format!("http://{}{path}", self.shared.servers[server]);
        let request = Request::builder().method(method).uri(url);
        let answered = if body.is_empty() {
            request
                .body(())
                .map_err(|e| e.to_string())
                .and_then(|r| self.http.run(r).map_err(|e| e.to_string()))
        } else {
            request
                .body(body)
                .map_err(|e| e.to_string())
                .and_then(|r| self.http.run(r).map_err(|e| e.to_string()))
        };
        let mut response: Response<ureq::Body> = answered?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let number = |name| header(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let (index, last_contact) = (number("x-consul-index"), number("x-consul-lastcontact"));
        let not_applied = header(NOT_APPLIED).is_some();
        let read_by = header("x-autopilot-read-by").unwrap_or_default().to_owned();
        let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        Ok(Got { status: response.status().as_u16(), not_applied, index, last_contact, read_by, body })
    }

    fn record(&self, key: Key, action: Action, invoked: u64, end: End, read: Option<Mode>) {
        let operation = Operation { client: self.number, key, action, invoked, end };
        self.shared.history.lock().expect("no client panics").push((operation, read));
    }

    /// Sends a write and records how it ended.
    fn write(&mut self, key: Key, action: Action, send: impl FnOnce(&Self) -> Result<Got, String>) {
        let invoked = self.shared.now();
        let got = send(self);
        let conditional = matches!(action, Action::CompareAndSet(..));
        let end = match got {
            Ok(got) if got.status == 200 => {
                // What a transaction did is a list; it is not answered with `false`.
                let held = got.body.trim() != "false";
                assert!(held || conditional, "an unconditional write is never false: {}", got.body);
                let told = if conditional { Answer::Held(held) } else { Answer::Done };
                End::Answered(self.shared.now(), told)
            }
            Ok(got) if got.status == 409 => {
                assert!(conditional, "an unconditional write is never undone: {}", got.body);
                End::Answered(self.shared.now(), Answer::Held(false))
            }
            Ok(got) if got.not_applied => End::Refused,
            Ok(_) | Err(_) => End::Unknown,
        };
        self.record(key, action, invoked, end, None);
    }

    fn fresh(&self) -> Value {
        self.shared.next_value.fetch_add(1, Ordering::Relaxed)
    }

    fn put(&mut self, server: usize, key: Key) {
        let value = self.fresh();
        self.write(key, Action::Put(value), |this| this.send("PUT", server, key, "", &value.to_string()));
    }

    fn delete(&mut self, server: usize, key: Key) {
        self.write(key, Action::Delete, |this| this.send("DELETE", server, key, "", ""));
    }

    /// Writes if the key is still what this client saw last. Values are unique, so the index that the server compares
    /// stands for the value.
    fn compare_and_set(&mut self, server: usize, key: Key) {
        if self.random.random_range(0..3) > 0 {
            self.get(server, key);
        }
        let Some((held, index)) = self.seen.get(&key).copied() else { return };
        let value = self.fresh();
        let action = Action::CompareAndSet(held, value);
        if self.random.random_range(0..2) == 0 {
            let query = format!("?cas={index}");
            self.write(key, action, |this| this.send("PUT", server, key, &query, &value.to_string()));
        } else {
            let more = json!({"Value": BASE64.encode(value.to_string()), "Index": index});
            self.write(key, action, |this| this.transact(server, key, "cas", &more));
        }
    }

    fn get(&mut self, server: usize, key: Key) -> bool {
        // By default the leader reads, by its lease; with `consistent` the server that is asked does, whoever leads; a
        // transaction reads where it stands in the log.
        let query = match self.random.random_range(0..5) {
            0 | 1 => "?raw",
            2 | 3 => "?raw&consistent",
            _ => return self.get_through_the_log(server, key),
        };
        self.read(server, key, query)
    }

    fn read(&mut self, server: usize, key: Key, query: &str) -> bool {
        let invoked = self.shared.now();
        let Ok(got) = self.send("GET", server, key, query, "") else { return false };
        let found = match got.status {
            200 => Some((got.body.trim().parse().expect("clients write numbers"), got.index)),
            404 => None,
            _ => return false,
        };
        self.found(key, invoked, got.mode(), found);
        true
    }

    fn get_through_the_log(&mut self, server: usize, key: Key) -> bool {
        let invoked = self.shared.now();
        let Ok(got) = self.transact(server, key, "get-or-empty", &Json::Null) else { return false };
        if got.status != 200 {
            return false;
        }
        let answer: Json = serde_json::from_str(&got.body).expect("JSON");
        let entry = &answer["Results"][0]["KV"];
        let found = entry["Value"].as_str().map(|text| {
            let bytes = BASE64.decode(text).expect("base64");
            let value = String::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
            (value.expect("clients write numbers"), entry["ModifyIndex"].as_u64().expect("an index"))
        });
        self.found(key, invoked, got.mode(), found);
        true
    }

    /// Records a read, with the index of the value.
    fn found(&mut self, key: Key, invoked: u64, mode: Mode, found: Option<(Value, u64)>) {
        let value = found.map(|(value, _)| value);
        let end = End::Answered(self.shared.now(), Answer::Found(value));
        self.record(key, Action::Get, invoked, end, Some(mode));
        self.seen.insert(key, (value, found.map_or(0, |(_, index)| index)));
    }

    /// A read of what one server holds may be old, but in one life of the server it never goes back.
    fn look_at_own_state(&mut self, server: usize, key: Key) {
        let life = || self.shared.lives[server].load(Ordering::SeqCst);
        let before = life();
        let Ok(got) = self.send("GET", server, key, "?raw&stale", "") else { return };
        if life() != before || !matches!(got.status, 200 | 404) {
            return;
        }
        let newest = self.stale.entry((server, before, key)).or_insert(0);
        assert!(
            got.index >= *newest,
            "server {server} shows key {key} at index {}, and showed it at {newest} before",
            got.index
        );
        *newest = got.index;
    }

    /// At the end every server gives the last word on every key.
    fn read_everywhere(&mut self) {
        for key in 0..KEYS {
            for server in 0..self.shared.servers.len() {
                wait("a read after all faults", || {
                    if self.get(server, key) { Ok(()) } else { Err("no answer".to_owned()) }
                });
            }
        }
    }
}

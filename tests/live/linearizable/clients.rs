//! The clients, and what they saw.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use live_tests::{Cluster, wait};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use simulation::linearizable::{
    Action, Answer, End, Key, Operation, STEPS_MAX, Value, Verdict, check, shorten,
};
use ureq::http::{Request, Response};

const CLIENTS: u32 = 5;
const KEYS: Key = 3;
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
    /// Reads with `consistent` that a server answered which follows a leader.
    by_followers: AtomicU64,
    /// Counts the kills of each server, before each.
    pub(crate) lives: Vec<AtomicU64>,
    history: Mutex<Vec<Operation>>,
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
    body: String,
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

/// Lets clients work while `faults` happen, then ends them and judges what the clients saw. `faults` says how many
/// there were.
pub(crate) fn run(
    cluster: &mut Cluster,
    seed: u64,
    faults: impl FnOnce(&mut Cluster, &Clients) -> usize,
) -> usize {
    let seconds = std::env::var("LIVE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let began = Instant::now();
    let shared = Clients {
        servers: cluster.agents.iter().map(|agent| agent.http.clone()).collect(),
        began,
        ends: began + Duration::from_secs(seconds),
        stop: AtomicBool::new(false),
        next_value: AtomicU64::new(1),
        by_followers: AtomicU64::new(0),
        lives: cluster.agents.iter().map(|_| AtomicU64::new(0)).collect(),
        history: Mutex::new(Vec::new()),
    };
    let count = std::thread::scope(|scope| {
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
    let by_followers = shared.by_followers.load(Ordering::Relaxed);
    let history = shared.history.into_inner().expect("no client panics");
    println!("{count} faults");
    println!("{by_followers} linearizable reads answered by followers");
    assert!(by_followers > 10, "followers answered too few reads to say anything");
    judge(&history);
    count
}

fn judge(history: &[Operation]) {
    let unknown = history.iter().filter(|operation| operation.end == End::Unknown).count();
    let refused = history.iter().filter(|operation| operation.end == End::Refused).count();
    let answered = history.len() - unknown - refused;
    println!("{answered} operations answered, {refused} refused, {unknown} of unknown outcome");
    match check(history, STEPS_MAX) {
        Verdict::Linearizable => {}
        Verdict::Violation(violation) => {
            let short = shorten(history, STEPS_MAX);
            let lines: Vec<String> = short.iter().map(|operation| format!("\n  {operation}")).collect();
            panic!("not linearizable: {violation}; the shortened history, in ns:{}", lines.concat());
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
}

impl Clients {
    /// Whether the faults should go on.
    pub(crate) fn goes_on(&self) -> bool {
        Instant::now() < self.ends
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

    fn send(&self, method: &str, server: usize, key: Key, query: &str, body: &str) -> Result<Got, String> {
        let url = format!("http://{}/v1/kv/linearizable-{key}{query}", self.shared.servers[server]);
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
        let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        Ok(Got { status: response.status().as_u16(), not_applied, index, last_contact, body })
    }

    fn record(&self, key: Key, action: Action, invoked: u64, end: End) {
        let operation = Operation { client: self.number, key, action, invoked, end };
        self.shared.history.lock().expect("no client panics").push(operation);
    }

    /// Sends a write and records how it ended.
    fn write(&mut self, server: usize, key: Key, query: &str, action: Action) -> End {
        let invoked = self.shared.now();
        let got = match action {
            Action::Put(value) | Action::CompareAndSet(_, value) => {
                self.send("PUT", server, key, query, &value.to_string())
            }
            Action::Delete | Action::Get => self.send("DELETE", server, key, query, ""),
        };
        let end = match got {
            Ok(got) if got.status == 200 => {
                let held = got.body.trim() == "true";
                let told = if matches!(action, Action::CompareAndSet(..)) {
                    Answer::Held(held)
                } else {
                    assert!(held, "an unconditional write is never false: {}", got.body);
                    Answer::Done
                };
                End::Answered(self.shared.now(), told)
            }
            Ok(got) if got.not_applied => End::Refused,
            Ok(_) | Err(_) => End::Unknown,
        };
        self.record(key, action, invoked, end);
        end
    }

    fn fresh(&self) -> Value {
        self.shared.next_value.fetch_add(1, Ordering::Relaxed)
    }

    fn put(&mut self, server: usize, key: Key) {
        let value = self.fresh();
        self.write(server, key, "", Action::Put(value));
    }

    fn delete(&mut self, server: usize, key: Key) {
        self.write(server, key, "", Action::Delete);
    }

    /// Writes if the key is still what this client saw last. Values are unique, so the index that the server compares
    /// stands for the value.
    fn compare_and_set(&mut self, server: usize, key: Key) {
        if self.random.random_range(0..3) > 0 {
            self.get(server, key);
        }
        let Some((held, index)) = self.seen.get(&key).copied() else { return };
        let action = Action::CompareAndSet(held, self.fresh());
        self.write(server, key, &format!("?cas={index}"), action);
    }

    fn get(&mut self, server: usize, key: Key) -> bool {
        // By default the leader reads; with `consistent` the server that is asked does, whoever leads.
        let query = if self.random.random_range(0..2) == 0 { "?raw" } else { "?raw&consistent" };
        let invoked = self.shared.now();
        let Ok(got) = self.send("GET", server, key, query, "") else { return false };
        let found = match got.status {
            200 => Some(got.body.trim().parse().expect("clients write numbers")),
            404 => None,
            _ => return false,
        };
        self.record(key, Action::Get, invoked, End::Answered(self.shared.now(), Answer::Found(found)));
        if query == "?raw&consistent" && got.last_contact > 0 {
            self.shared.by_followers.fetch_add(1, Ordering::Relaxed);
        }
        self.seen.insert(key, (found, if found.is_some() { got.index } else { 0 }));
        true
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

//! Every figure that is documented is reported.
#![allow(clippy::disallowed_methods, reason = "a recorder is shared by all threads")]
#![allow(missing_docs, reason = "a test")]

mod cluster_support;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster_support::{Cluster, address};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use raft::core::SnapshotMeta;
use raft::storage::{MemoryLog, MemorySnapshots};
use raft::telemetry::{FIGURES, Kind};
use raft::{Config, EntryId};

type Seen = Arc<Mutex<BTreeMap<String, (Kind, Vec<f64>)>>>;

#[derive(Clone, Default)]
struct Remembering(Seen);

struct One(Seen, String, Kind);

impl One {
    fn note(&self, value: f64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(self.1.clone()).or_insert_with(|| (self.2, Vec::new())).1.push(value);
    }
}

impl CounterFn for One {
    fn increment(&self, value: u64) {
        self.note(f64::from(u32::try_from(value).expect("a small number")));
    }

    fn absolute(&self, _: u64) {
        panic!("no counter is set");
    }
}

impl GaugeFn for One {
    fn increment(&self, _: f64) {
        panic!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        panic!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.note(value);
    }
}

impl HistogramFn for One {
    fn record(&self, value: f64) {
        self.note(value);
    }
}

impl Remembering {
    fn one(&self, key: &Key, kind: Kind) -> Arc<One> {
        Arc::new(One(Arc::clone(&self.0), key.name().to_owned(), kind))
    }
}

impl Recorder for Remembering {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key, Kind::Counter))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key, Kind::Gauge))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key, Kind::Histogram))
    }
}

#[tokio::test]
async fn every_documented_figure_is_reported_and_no_other() {
    let recorder = Remembering::default();
    let seen = Arc::clone(&recorder.0);
    metrics::set_global_recorder(recorder).expect("the only test here");

    let mut cluster =
        Cluster::bootstrapped(&["a", "b", "c"], Config { trailing_logs: 0, ..Config::default() }).await;
    let leader = cluster.leader().await.raft.clone();
    leader.propose("x").await.expect("a leader");
    leader.barrier().await.expect("a leader");
    leader.verify_leader().await.expect("a leader");
    leader.snapshot().await.expect("something new");
    let meta = SnapshotMeta { last: EntryId::new(1, 1), size: 2, ..SnapshotMeta::default() };
    leader.restore(meta, io::Cursor::new(b"y\n")).await.expect("a leader");
    let node = cluster.start("d", MemoryLog::new(), MemorySnapshots::default()).await;
    cluster.nodes.push(node);
    leader.add_voter("d".into(), address("d").into(), None).await.expect("it answers");

    let missing = || -> Vec<&str> {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        FIGURES.iter().map(|figure| figure.name).filter(|name| !seen.contains_key(*name)).collect()
    };
    for n in 0..2000 {
        if missing().is_empty() {
            break;
        }
        // Loops say how busy they were only now and then, and only when they have something to do.
        leader.propose(format!("{n}")).await.expect("a leader");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(missing(), [""; 0]);
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let known: BTreeMap<&str, Kind> = FIGURES.iter().map(|figure| (figure.name, figure.kind)).collect();
    for (name, (kind, values)) in &*seen {
        assert_eq!(known.get(name.as_str()), Some(kind), "{name}");
        assert!(values.iter().all(|value| value.is_finite() && *value >= 0.0), "{name}: {values:?}");
    }
    assert!(seen["raft_thread_main_saturation"].1.iter().all(|part| *part <= 1.0));
    assert_eq!(seen["raft_peers"].1.last(), Some(&4.0));
    assert_eq!(seen["raft_restore"].1, [1.0]);
    assert_eq!(seen["raft_barrier"].1, [1.0]);
}

#[test]
fn every_figure_is_in_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/raft.md");
    let text = std::fs::read_to_string(path).expect("the documentation");
    let kind = |kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let table: String = FIGURES
        .iter()
        .map(|figure| format!("| `{}` | {} | {} |\n", figure.name, kind(figure.kind), figure.meaning))
        .collect();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let (before, rest) = text.split_once("<!-- figures -->\n").expect("a marker");
        let (_, after) = rest.split_once("<!-- /figures -->\n").expect("a marker");
        let head = "| figure | kind | meaning |\n|---|---|---|\n";
        let new = format!("{before}<!-- figures -->\n{head}{table}<!-- /figures -->\n{after}");
        std::fs::write(path, new).expect("the documentation");
        return;
    }
    assert!(text.contains(&table), "run this test with UPDATE_DOCS=1");
}

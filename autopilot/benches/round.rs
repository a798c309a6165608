//! What one round costs, by the number of servers. `cargo bench -p autopilot`.
//!
//! `steady` is a round in which nobody's health changes, on inputs that a driver gathered: the case that is paid for
//! every two seconds, with the memory of the round before used again. `first` is the first round of a run, without history. `hash` is what a step adds.

#![allow(missing_docs, reason = "a benchmark")]

use autopilot::testing::Situation;
use autopilot::{Changes, Inputs, Mode, Promoter, PromoterInput, Round, Spare};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Five voters; the others stand by without a vote, which the promoter of the bench does not give them. The configuration
/// has them in the order in which they joined, which is not that of their ids.
fn cluster(servers: usize) -> Inputs {
    let mut situation = Situation::new("n00000");
    let mut members = situation.inputs.view.configuration.servers().to_vec();
    for number in 1..servers {
        let id = format!("n{number:05}");
        // One configuration in the end, not one for each.
        situation.inputs.view.configuration = autopilot::Configuration::default();
        situation = if number < 5 { situation.voter(&id) } else { situation.nonvoter(&id) };
        situation = situation.meta(&id, "zone", "a");
        members.extend_from_slice(situation.inputs.view.configuration.servers());
    }
    let mut inputs = situation.inputs;
    members.sort_by_key(|member| member.id.as_str().bytes().rev().collect::<Vec<_>>());
    inputs.view.configuration = autopilot::Configuration::new(members);
    inputs.mode = Mode::Watch;
    inputs.hand = autopilot::Hand::default();
    inputs
}

fn rounds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round");
    for servers in [10, 100, 1_000, 10_000] {
        let first = cluster(servers);
        let mut steady = first.clone();
        steady.memory = Round::run(&steady, &Watcher).memory;
        group.throughput(Throughput::Elements(servers as u64));
        group.bench_with_input(BenchmarkId::new("steady", servers), &steady, |bencher, inputs| {
            let mut spare = Spare::default();
            bencher.iter(|| {
                let round = Round::run_with(inputs, &Watcher, &mut spare);
                (spare.state, spare.memory) = (round.state, round.memory);
            });
        });
        let mut new = first.clone();
        new.memory = autopilot::Memory::default();
        group.bench_with_input(BenchmarkId::new("first", servers), &new, |bencher, inputs| {
            bencher.iter(|| Round::run(inputs, &Watcher));
        });
        group.bench_with_input(BenchmarkId::new("hash", servers), &steady, |bencher, inputs| {
            bencher.iter(|| inputs.hash_of_all());
        });
    }
    group.finish();
}

/// Wants nothing: what is measured is the round, and not the making of ten thousand wishes.
struct Watcher;

impl Promoter for Watcher {
    fn name(&self) -> &str {
        "watcher"
    }

    fn changes(&self, _: &PromoterInput<'_>) -> Changes {
        Changes::default()
    }
}

criterion_group!(benches, rounds);
criterion_main!(benches);

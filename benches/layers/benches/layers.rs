//! Time of every layer, per event: `cargo bench -p chainring-benches`.

#![allow(missing_docs)] // Criterion's macros make functions.

use chainring_benches::layers;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn all(criterion: &mut Criterion) {
    for layer in layers() {
        let mut group = criterion.benchmark_group(layer.name);
        group.throughput(Throughput::Elements(layer.events as u64)).sample_size(30);
        group.bench_function(format!("{} events", layer.events), |bencher| bencher.iter((layer.build)()));
        group.finish();
    }
}

criterion_group!(benches, all);
criterion_main!(benches);

//! What sealing and opening cost: one chunk in place at several sizes, and whole objects through the streams. No I/O, one thread.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ciphergate::crypto::{DataKey, ObjectKeys, Suite};
use ciphergate::format::{PartHeader, PlainLen, ReadPlan};
use ciphergate::stream::{self, BoxError, FooterFacts, PlainCheck, open_object, seal_object};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::{Stream, StreamExt, stream as streams};

const MIB: usize = 1 << 20;

struct Accept;

impl PlainCheck for Accept {
    fn update(&mut self, _: &[u8]) {}

    fn verdict(&mut self) -> Result<FooterFacts, BoxError> {
        Ok(FooterFacts { checksum: None, md5: None, time_ms: 0 })
    }
}

fn object_keys(suite: Suite) -> Arc<ObjectKeys> {
    Arc::new(ObjectKeys::derive(suite, &DataKey::from_bytes([7; 32].into())))
}

fn plain_len(len: usize) -> PlainLen {
    PlainLen::new(len as u64).expect("far below the limit")
}

fn chunks(criterion: &mut Criterion) {
    for suite in Suite::ALL {
        let key = object_keys(suite).chunk_key(&PartHeader::single(plain_len(1)).to_bytes());
        let mut group = criterion.benchmark_group(format!("chunk/{suite}"));
        for kib in [4, 16, 64, 256, 1024] {
            let len = kib * 1024;
            group.throughput(Throughput::Bytes(len as u64));
            let mut buffer = vec![5; len];
            group.bench_function(BenchmarkId::new("seal", kib), |bencher| {
                bencher.iter(|| key.seal_in_place(0, true, black_box(&mut buffer)));
            });
            let tag = key.seal_in_place(0, true, &mut buffer).expect("short enough");
            buffer.extend_from_slice(&tag);
            group.bench_function(BenchmarkId::new("open", kib), |bencher| {
                let mut plain = vec![0; len];
                bencher.iter(|| key.open_into(0, true, black_box(&buffer), black_box(&mut plain)).is_ok());
            });
        }
    }
}

/// 64 KiB pieces that others hold too, as they come from a socket.
fn source(bytes: &Bytes) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    let bytes = bytes.clone();
    let count = bytes.len().div_ceil(65_536);
    streams::iter(0..count).map(move |index| Ok(bytes.slice(index * 65_536..bytes.len().min((index + 1) * 65_536))))
}

fn drain(body: impl Stream<Item = stream::Result<Bytes>>) -> usize {
    let mut body = pin!(body);
    let mut context = Context::from_waker(Waker::noop());
    let mut len = 0;
    loop {
        match body.as_mut().poll_next(&mut context) {
            Poll::Ready(Some(piece)) => len += piece.expect("a good body").len(),
            Poll::Ready(None) => return len,
            Poll::Pending => {}
        }
    }
}

fn objects(criterion: &mut Criterion) {
    for suite in Suite::ALL {
        let keys = object_keys(suite);
        let mut group = criterion.benchmark_group(format!("object/{suite}"));
        group.sample_size(10);
        for mib in [1, 64] {
            let plain = Bytes::from(vec![5; mib * MIB]);
            let len = plain_len(plain.len());
            let seal = || seal_object(source(&plain), Arc::clone(&keys), len, Box::new(Accept));
            group.throughput(Throughput::Bytes(plain.len() as u64));
            group.bench_function(BenchmarkId::new("seal", mib), |bencher| bencher.iter(|| drain(seal())));
            let mut sealed = Vec::new();
            let mut body = seal();
            let mut context = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(piece)) = body.poll_next_unpin(&mut context) {
                sealed.extend_from_slice(&piece.expect("a good body"));
            }
            let sealed = Bytes::from(sealed);
            let open = || {
                let plan = ReadPlan::single(len, None).expect("a whole object");
                open_object(source(&sealed), Arc::clone(&keys), plan)
            };
            group.bench_function(BenchmarkId::new("open", mib), |bencher| bencher.iter(|| drain(open())));
        }
    }
}

criterion_group!(benches, chunks, objects);
criterion_main!(benches);

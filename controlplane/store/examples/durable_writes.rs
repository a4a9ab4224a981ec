//! Durable writes per second with 64 writers and 1 KiB: the embedded store, beside the least that durability costs
//! here, a bare preallocated log with one `fdatasync` per group of writes.
//!
//! `cargo run --release -p skep-store --example durable_writes [FOLDER [SECONDS]]`; the folder decides which disk.

use std::error::Error;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_store::{EmbeddedConfig, EmbeddedStore, Store};

const WRITERS: usize = 64;
const VALUE_BYTES: usize = 1024;
/// The log starts over at its beginning when it has filled this much.
const LOG_BYTES: u64 = 256 << 20;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse())?;
    let time = Duration::from_secs(seconds);
    let folder = tempfile::tempdir_in(parent)?;
    let path = folder.path().to_owned();
    let log = tokio::task::spawn_blocking(move || bare_log(&path, time)).await??;
    let creates = store(folder.path(), "creates", time, false).await?;
    let swaps = store(folder.path(), "swaps", time, true).await?;
    for (name, rate) in [
        ("bare log", log),
        ("store, creates", creates),
        ("store, swaps", swaps),
    ] {
        println!(
            "{name:16} {rate:>9.0} writes/s  {:>5.1} % of the bare log",
            rate / log * 100.0
        );
    }
    Ok(())
}

async fn store(folder: &Path, name: &str, time: Duration, swap: bool) -> Result<f64, Failure> {
    let store = Arc::new(EmbeddedStore::open(EmbeddedConfig::new(folder.join(name))).await?);
    let written = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, written) = (store.clone(), written.clone());
        writers.spawn(async move {
            let value = Bytes::from(vec![7; VALUE_BYTES]);
            let mut revision = 0;
            for index in 0_u64.. {
                if begun.elapsed() >= time {
                    break;
                }
                revision = match revision {
                    0 => {
                        store
                            .create(&format!("/registry/pods/{writer}/{index}"), value.clone())
                            .await?
                    }
                    expected => {
                        let key = format!("/registry/pods/{writer}/0");
                        store.compare_and_swap(&key, expected, value.clone()).await?
                    }
                };
                if !swap {
                    revision = 0;
                }
                written.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, skep_store::StoreError>(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    Ok(rate(&written, begun))
}

fn bare_log(folder: &Path, time: Duration) -> Result<f64, Failure> {
    let file = std::fs::File::create_new(folder.join("log"))?;
    let zeros = vec![0; 1 << 20];
    for offset in (0..LOG_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset)?;
    }
    file.sync_all()?;
    let (queue, writes) = mpsc::sync_channel::<mpsc::SyncSender<()>>(WRITERS);
    let written = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            let (queue, written) = (queue.clone(), &written);
            scope.spawn(move || {
                let (reply, answer) = mpsc::sync_channel(1);
                while begun.elapsed() < time && queue.send(reply.clone()).is_ok() && answer.recv().is_ok() {
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        drop(queue);
        let mut offset = 0;
        while let Ok(first) = writes.recv() {
            let group: Vec<_> = std::iter::once(first).chain(writes.try_iter()).collect();
            if offset + ((group.len() * VALUE_BYTES) as u64) > LOG_BYTES {
                offset = 0;
            }
            let bytes = vec![7; group.len() * VALUE_BYTES];
            file.write_all_at(&bytes, offset)?;
            file.sync_data()?;
            offset += bytes.len() as u64;
            for reply in group {
                reply.send(())?;
            }
        }
        Ok::<_, Failure>(())
    })?;
    Ok(rate(&written, begun))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds are small")]
fn rate(written: &AtomicU64, begun: Instant) -> f64 {
    written.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

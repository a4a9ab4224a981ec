//! `kill -9` of a writing process at random points, again and again on one database: no acknowledged write is lost.
//!
//! The test runs itself as the writer (`CHILD` in the environment). Each acknowledged write is a line on the writer's
//! standard output; what the parent can read there was acknowledged. `SKEP_CRASH_ROUNDS` sets the number of rounds.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skep_store::{EmbeddedConfig, EmbeddedStore, Event, Store, StoreError};

const CHILD: &str = "SKEP_CRASH_CHILD";
const ROUNDS: &str = "SKEP_CRASH_ROUNDS";
const WRITERS: usize = 50;

/// The last acknowledged write of one writer's key.
#[derive(Clone, Copy, Debug, Default)]
struct Acknowledged {
    revision: u64,
    /// Number of the write by this writer.
    sequence: u64,
    deleted: bool,
}

#[test]
fn no_acknowledged_write_is_lost_by_kill_9() {
    if let Ok(folder) = std::env::var(CHILD) {
        write_until_killed(Path::new(&folder));
    }
    let rounds: u64 = std::env::var(ROUNDS).map_or(20, |rounds| {
        rounds.parse().expect("SKEP_CRASH_ROUNDS is a number")
    });
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let mut acknowledged = BTreeMap::new();
    let mut total = 0;
    for round in 0..rounds {
        let output = run_writer(
            folder.path(),
            Duration::from_micros(random.random_range(1_000..200_000)),
        );
        total += note(&output, &mut acknowledged);
        check(folder.path(), &mut acknowledged, round);
    }
    println!("{rounds} kills, {total} acknowledged writes, none lost");
    assert!(
        total > rounds * 10,
        "only {total} writes in {rounds} rounds: the writer does not work"
    );
}

/// Starts the writer, kills it `after` its first acknowledgement, and gives all that it said.
fn run_writer(folder: &Path, after: Duration) -> Vec<u8> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "no_acknowledged_write_is_lost_by_kill_9",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (first, begun) = std::sync::mpsc::channel::<()>();
    let mut first = Some(first);
    let reader = std::thread::spawn(move || {
        let (mut output, mut piece) = (Vec::new(), [0; 65536]);
        loop {
            match stdout.read(&mut piece).unwrap() {
                0 => return output,
                length => output.extend_from_slice(&piece[..length]),
            }
            if first.is_some() && output.windows(4).any(|window| window == b"ack ") {
                first = None;
            }
        }
    });
    let begun = begun.recv_timeout(Duration::from_secs(20));
    assert_eq!(
        begun,
        Err(RecvTimeoutError::Disconnected),
        "the writer does not write"
    );
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// Takes over the acknowledgements; a last line may be torn by the kill, then it does not count.
fn note(output: &[u8], acknowledged: &mut BTreeMap<usize, Acknowledged>) -> u64 {
    let complete = output
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    let mut count = 0;
    for line in std::str::from_utf8(&output[..complete]).unwrap().lines() {
        let Some((_, line)) = line.split_once("ack ") else {
            continue;
        };
        let fields: Vec<u64> = line.split(' ').map(|field| field.parse().unwrap()).collect();
        let [writer, revision, sequence, deleted] = fields[..] else {
            panic!("odd line {line:?}")
        };
        let writer = usize::try_from(writer).unwrap();
        acknowledged.insert(
            writer,
            Acknowledged {
                revision,
                sequence,
                deleted: deleted == 1,
            },
        );
        count += 1;
    }
    count
}

/// Every key is as acknowledged, or as the one write after that left it; the history has no gap.
#[tokio::main]
async fn check(folder: &Path, acknowledged: &mut BTreeMap<usize, Acknowledged>, round: u64) {
    let store = EmbeddedStore::open(config(folder)).await.unwrap();
    for (writer, known) in acknowledged.iter_mut() {
        let entry = store.get(&key(*writer)).await.unwrap().0;
        let found = match &entry {
            Some(entry) => Acknowledged {
                revision: entry.mod_revision,
                sequence: sequence_of(&entry.value),
                deleted: false,
            },
            None => Acknowledged {
                deleted: true,
                ..*known
            },
        };
        let as_known = found.deleted == known.deleted
            && found.revision == known.revision
            && found.sequence == known.sequence;
        let one_further = match entry {
            Some(_) => found.revision > known.revision && found.sequence == known.sequence + 1,
            None => !known.deleted && deletes(known.sequence + 1),
        };
        assert!(
            as_known || one_further,
            "round {round}, writer {writer}: {known:?} was acknowledged, there is {found:?}"
        );
        if one_further {
            *known = Acknowledged {
                sequence: known.sequence + 1,
                ..found
            };
        }
    }
    let last = store.revision().await.unwrap();
    let mut watch = store.watch("", 1).await.unwrap();
    let (mut next, mut reached) = (2, 1);
    while reached < last {
        let batch = watch.next().await.unwrap().unwrap();
        for revision in batch.events.iter().map(Event::revision) {
            assert_eq!(revision, next, "round {round}: a gap in the history");
            next += 1;
        }
        reached = batch.revision;
    }
    assert_eq!(next, last + 1);
}

#[tokio::main]
async fn write_until_killed(folder: &Path) -> ! {
    let store = Arc::new(EmbeddedStore::open(config(folder)).await.unwrap());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(store.clone(), writer)))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    panic!("writers write for ever");
}

async fn write(store: Arc<EmbeddedStore>, writer: usize) {
    let key = key(writer);
    let mut entry = store.get(&key).await.unwrap().0;
    let counter = format!("counter/{writer}");
    // The number of the last write lives beside the key, since a deleted key has none; it is written before the write.
    let noted = store.get(&counter).await.unwrap().0;
    let mut sequence = match (&entry, &noted) {
        (Some(entry), _) => sequence_of(&entry.value),
        (None, Some(noted)) => sequence_of(&noted.value),
        (None, None) => 0,
    };
    let mut noted = noted.map(|noted| noted.mod_revision);
    loop {
        sequence += 1;
        if deletes(sequence) {
            noted = Some(match noted {
                None => store.create(&counter, value(sequence)).await.unwrap(),
                Some(expected) => store
                    .compare_and_swap(&counter, expected, value(sequence))
                    .await
                    .unwrap(),
            });
        }
        let outcome = match &entry {
            None => store
                .create(&key, value(sequence))
                .await
                .map(|revision| (revision, false)),
            Some(entry) if deletes(sequence) => store
                .delete(&key, Some(entry.mod_revision))
                .await
                .map(|(revision, _)| (revision, true)),
            Some(entry) => {
                let swapped = store
                    .compare_and_swap(&key, entry.mod_revision, value(sequence))
                    .await;
                swapped.map(|revision| (revision, false))
            }
        };
        let (revision, deleted) = match outcome {
            Ok(outcome) => outcome,
            Err(StoreError::Closed) => return,
            Err(error) => panic!("{error:?}"),
        };
        let line = format!("ack {writer} {revision} {sequence} {}\n", u8::from(deleted));
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        entry = (!deleted).then(|| skep_store::Entry {
            key: key.clone(),
            value: value(sequence),
            create_revision: 0,
            mod_revision: revision,
        });
    }
}

fn config(folder: &Path) -> EmbeddedConfig {
    EmbeddedConfig::new(folder.join("store.redb"))
}

fn key(writer: usize) -> String {
    format!("key/{writer}")
}

/// Each seventh write deletes.
fn deletes(sequence: u64) -> bool {
    sequence.is_multiple_of(7)
}

/// 1 KiB that begins with the number.
fn value(sequence: u64) -> Bytes {
    let mut value = vec![0; 1024];
    value[..8].copy_from_slice(&sequence.to_le_bytes());
    value.into()
}

fn sequence_of(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

//! The commit thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::queue::{Answer, Command, Operation, Outcome, Queue};
use super::snapshot::Snapshot;
use super::sweep::sweep;
use super::tables::{Position, Tables, writing};
use super::{EmbeddedConfig, Opener, Shared};
use crate::{Event, StoreError, WatchBatch};

/// Points of time that are remembered over the length of the history.
const MARKS: u32 = 20;
/// Longest wait for a group to fill, as part of the time that a commit takes, and at most.
const PATIENCE_PART: u32 = 2;
const PATIENCE_LIMIT: Duration = Duration::from_millis(1);
/// How soon the next piece of old rows is removed when nothing is written.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);

/// Everything the thread owns.
pub(super) struct Committer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    open: Opener,
    position: Position,
    retry: Duration,
    /// After a failed commit: when writing is tried again. Until then writes are refused.
    retry_at: Option<Instant>,
    history: Duration,
    history_revisions: u64,
    /// Which revision the store had when: what automatic compaction goes by.
    marks: VecDeque<(Instant, u64)>,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        open: Opener,
        position: Position,
        config: &EmbeddedConfig,
    ) -> Self {
        Self {
            shared,
            queue,
            open,
            position,
            retry: config.retry,
            retry_at: None,
            history: config.history,
            history_revisions: config.history_revisions.max(1),
            marks: VecDeque::from([(Instant::now(), position.revision)]),
        }
    }

    /// Commits groups until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let (mut last_group, mut commit_time) = (1, Duration::ZERO);
        loop {
            let sweeping = self.position.swept < self.position.floor;
            let idle = match self.retry_at {
                Some(at) => at.saturating_duration_since(Instant::now()),
                None if sweeping => SWEEP_PAUSE,
                None => self.history / MARKS,
            };
            let patience = (commit_time / PATIENCE_PART).min(PATIENCE_LIMIT);
            let Some(group) = self.queue.take(idle, last_group, patience) else {
                break;
            };
            if !self.works_again() {
                refuse(
                    group.into_iter().map(|command| command.reply),
                    "the last commit failed",
                );
                continue;
            }
            let floor = self.floor_by_age(Instant::now());
            if group.is_empty() && floor == self.position.floor && !sweeping {
                continue;
            }
            let begun = Instant::now();
            last_group = group.len().max(1);
            self.commit(group, floor);
            commit_time = (commit_time * 3 + begun.elapsed()) / 4;
        }
        self.shared.hub.close();
    }

    /// The floor that age and amount of the history ask for.
    fn floor_by_age(&mut self, now: Instant) -> u64 {
        let revision = self.position.revision;
        let mut floor = self.position.floor;
        while let Some(&(at, marked)) = self.marks.front()
            && now.duration_since(at) >= self.history
        {
            floor = floor.max(marked);
            self.marks.pop_front();
        }
        if self
            .marks
            .back()
            .is_none_or(|(at, _)| now.duration_since(*at) >= self.history / MARKS)
        {
            self.marks.push_back((now, revision));
        }
        if revision - floor > self.history_revisions {
            // A tenth at once, so that this is not done with each commit.
            floor = revision - self.history_revisions + self.history_revisions / 10;
        }
        floor
    }

    fn commit(&mut self, group: Vec<Command>, floor: u64) {
        let (operations, replies): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|command| (command.operation, command.reply))
            .unzip();
        let mut position = self.position;
        match apply(&self.shared, operations, floor, &mut position) {
            Ok((answers, events)) => {
                self.position = position;
                // Watchers first: a writer that has its answer finds its write on the way to every watcher.
                self.shared.hub.publish(&events, position.revision);
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // A caller that went away does not want the answer.
                    drop(reply.send(answer));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                self.fail(&error);
                refuse(replies, error);
            }
        }
    }

    /// Whether commits may be tried: the last one succeeded, or it is time again and a trial succeeds.
    fn works_again(&mut self) -> bool {
        let Some(at) = self.retry_at else { return true };
        if Instant::now() < at {
            return false;
        }
        if let Err(error) = try_commit(&self.shared, self.position) {
            self.fail(&error);
            return false;
        }
        tracing::info!(
            revision = self.position.revision,
            "the store can be written again"
        );
        self.retry_at = None;
        self.shared.writable.store(true, Ordering::Relaxed);
        true
    }

    /// Opens the database anew after a failure, so that it can be read, and puts off writing.
    fn fail(&mut self, failure: &StoreError) {
        tracing::error!(
            error = failure as &dyn std::error::Error,
            "committing to the store failed; writes are refused until it succeeds again"
        );
        self.shared.writable.store(false, Ordering::Relaxed);
        match self.shared.reopen(&mut self.open) {
            Ok(position) => self.resume(position),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "opening the database again failed"
            ),
        }
        self.retry_at = Some(Instant::now() + self.retry);
    }

    /// Goes on from where the database was found. What the failed commit made durable all the same is published.
    fn resume(&mut self, found: Position) {
        while self.position.revision < found.revision {
            match self.changes(found.revision) {
                Ok(batch) => {
                    self.shared.hub.publish(&batch.events, batch.revision);
                    self.position.revision = batch.revision;
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "ending the watches, for which changes cannot be read"
                    );
                    self.shared.hub.restart(found.revision, found.revision);
                    break;
                }
            }
        }
        self.position = found;
    }

    fn changes(&self, upto: u64) -> Result<WatchBatch, StoreError> {
        Snapshot::open(&self.shared.begin_read()?)?.changes("", self.position.revision, upto)
    }
}

/// Answers that the commands were not, or not surely, carried out.
fn refuse(
    replies: impl IntoIterator<Item = oneshot::Sender<Answer>>,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>> + Clone,
) {
    for reply in replies {
        // A caller that went away does not want the answer.
        drop(reply.send(Err(StoreError::unavailable("committing", why.clone()))));
    }
}

/// Commits nothing new, to learn whether commits succeed.
fn try_commit(shared: &Shared, position: Position) -> Result<(), StoreError> {
    let transaction = shared.begin_write()?;
    Tables::open(&transaction)?.set_position(position)?;
    transaction
        .commit()
        .map_err(|error| StoreError::unavailable("committing", error))
}

/// Applies the operations in order and makes them durable together. Each sees those before it.
fn apply(
    shared: &Shared,
    operations: Vec<Operation>,
    floor: u64,
    position: &mut Position,
) -> Result<(Vec<Answer>, Vec<Event>), StoreError> {
    let transaction = shared.begin_write()?;
    let before = *position;
    position.floor = position.floor.max(floor);
    let mut answers = Vec::with_capacity(operations.len());
    let mut events = Vec::with_capacity(operations.len());
    {
        let mut tables = Tables::open(&transaction)?;
        for operation in operations {
            let event = match apply_one(&mut tables, operation, position) {
                Ok(event) => event,
                Err(refusal) if is_refusal(&refusal) => {
                    answers.push(Err(refusal));
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let deleted = match &event {
                Some(Event::Delete { previous, .. }) => Some(previous.clone()),
                _ => None,
            };
            answers.push(Ok(Outcome {
                revision: position.revision,
                deleted,
            }));
            events.extend(event);
        }
        if position.swept < position.floor {
            sweep(&mut tables, position)?;
        }
        if *position != before {
            tables.set_position(*position)?;
        }
    }
    if *position == before {
        // Only refusals: nothing to make durable.
        transaction.abort().map_err(writing)?;
        return Ok((answers, events));
    }
    transaction
        .commit()
        .map_err(|error| StoreError::unavailable("committing", error))?;
    Ok((answers, events))
}

fn is_refusal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::AlreadyExists { .. }
            | StoreError::NotFound
            | StoreError::Conflict { .. }
            | StoreError::FutureRevision { .. }
    )
}

fn apply_one(
    tables: &mut Tables<'_>,
    operation: Operation,
    position: &mut Position,
) -> Result<Option<Event>, StoreError> {
    let revision = position.revision + 1;
    let event = match operation {
        Operation::Create { key, value } => match tables.current(&key)? {
            Some(current) => {
                return Err(StoreError::AlreadyExists {
                    revision: current.mod_revision,
                });
            }
            None => tables.put(&key, value, revision, None)?,
        },
        Operation::Swap { key, expected, value } => {
            let current = expect(tables.current(&key)?, Some(expected))?;
            tables.put(&key, value, revision, Some(current))?
        }
        Operation::Delete { key, expected } => {
            let current = expect(tables.current(&key)?, expected)?;
            tables.delete(revision, current)?
        }
        Operation::Compact { revision: floor } => {
            if floor > position.revision {
                let current = position.revision;
                return Err(StoreError::FutureRevision {
                    requested: floor,
                    current,
                });
            }
            position.floor = position.floor.max(floor);
            return Ok(None);
        }
    };
    position.revision = revision;
    Ok(Some(event))
}

fn expect(current: Option<crate::Entry>, expected: Option<u64>) -> Result<crate::Entry, StoreError> {
    match current {
        None => Err(StoreError::NotFound),
        Some(current) if expected.is_some_and(|expected| expected != current.mod_revision) => {
            Err(StoreError::Conflict {
                current: Box::new(current),
            })
        }
        Some(current) => Ok(current),
    }
}

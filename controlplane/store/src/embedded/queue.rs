//! What waits for the commit thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

use crate::{Entry, StoreError};

/// Commands that may wait; writers beyond wait for room.
const QUEUE_LIMIT: usize = 4096;
/// Most commands of one group.
const GROUP_LIMIT: usize = 1024;
/// A group is closed when its values reach this size.
const GROUP_BYTES: usize = 16 << 20;

pub(super) enum Operation {
    Create {
        key: String,
        value: Bytes,
    },
    Swap {
        key: String,
        expected: u64,
        value: Bytes,
    },
    Delete {
        key: String,
        expected: Option<u64>,
    },
    Compact {
        revision: u64,
    },
}

impl Operation {
    fn size(&self) -> usize {
        match self {
            Self::Create { value, .. } | Self::Swap { value, .. } => value.len(),
            Self::Delete { .. } | Self::Compact { .. } => 0,
        }
    }
}

pub(super) struct Outcome {
    pub(super) revision: u64,
    pub(super) deleted: Option<Entry>,
}

pub(super) type Answer = Result<Outcome, StoreError>;

pub(super) struct Command {
    pub(super) operation: Operation,
    pub(super) reply: oneshot::Sender<Answer>,
}

struct State {
    commands: VecDeque<Command>,
    /// The commit thread wants to be woken when so many wait.
    wanted: usize,
    closed: bool,
}

/// A bounded queue from many tasks to the one commit thread.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    room: Semaphore,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                commands: VecDeque::new(),
                wanted: 1,
                closed: false,
            }),
            filled: Condvar::new(),
            room: Semaphore::new(QUEUE_LIMIT),
        }
    }

    /// Waits for room, then leaves the command. From then on it will be tried, even if the caller goes away.
    pub(super) async fn push(&self, command: Command) -> Result<(), StoreError> {
        let Ok(permit) = self.room.acquire().await else {
            return Err(StoreError::Closed);
        };
        let mut state = self.state.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        permit.forget();
        state.commands.push_back(command);
        if state.commands.len() >= state.wanted {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// No more commands; those that wait are still handed out.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.room.close();
        self.filled.notify_one();
    }

    /// The next group: waits for a first command at most `idle`, then for `expected` commands at most `patience`.
    /// Empty when nothing came, `None` when the queue is closed and empty.
    pub(super) fn take(&self, idle: Duration, expected: usize, patience: Duration) -> Option<Vec<Command>> {
        let mut state = self.state.lock();
        self.wait(&mut state, 1, idle);
        if state.commands.is_empty() {
            return if state.closed { None } else { Some(Vec::new()) };
        }
        self.wait(&mut state, expected.min(GROUP_LIMIT), patience);
        let mut group = Vec::with_capacity(state.commands.len().min(GROUP_LIMIT));
        let mut bytes = 0;
        while group.len() < GROUP_LIMIT && bytes < GROUP_BYTES {
            let Some(command) = state.commands.pop_front() else {
                break;
            };
            bytes += command.operation.size();
            group.push(command);
        }
        drop(state);
        self.room.add_permits(group.len());
        Some(group)
    }

    fn wait(&self, state: &mut parking_lot::MutexGuard<'_, State>, wanted: usize, at_most: Duration) {
        let until = Instant::now() + at_most;
        state.wanted = wanted;
        while state.commands.len() < wanted && !state.closed {
            if self.filled.wait_until(state, until).timed_out() {
                break;
            }
        }
        state.wanted = 1;
    }
}

//! Waiting for a log file to grow, and noticing that it was rotated.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::fs::File;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

/// A container's end does not touch its log: looked at this often while nothing is written.
const IDLE: Duration = Duration::from_millis(500);

/// Changes of one log file and of its folder.
pub(super) struct Changes {
    path: PathBuf,
    events: AsyncFd<Watched>,
}

/// An inotify instance that lends its descriptor.
struct Watched(Inotify);

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Watched {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Changes {
    /// Watches the folder of a file: rotation renames the file and makes a new one.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        inotify.add_watch(
            folder,
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVE,
        )?;
        // SAFETY: `Watched` owns the descriptor, lends the same one every time, and closes it only when it is dropped,
        // which `AsyncFd` does after it has deregistered it.
        let events = unsafe { AsyncFd::register_with_interest(Watched(inotify), Interest::READABLE) }?;
        Ok(Self {
            path: path.to_owned(),
            events,
        })
    }

    /// Waits until something changes, or a moment has passed.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        let Ok(ready) = timeout(IDLE, self.events.readable()).await else {
            return Ok(());
        };
        let mut ready = ready?;
        match ready.get_inner().0.read_events() {
            Ok(_) | Err(nix::Error::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        ready.clear_ready();
        Ok(())
    }

    /// The new file, if another than the open one has the log's name now.
    pub(super) async fn rotated(&self, open: &File) -> io::Result<Option<File>> {
        let next = match File::open(&self.path).await {
            Ok(next) => next,
            // Between the two steps of a rotation, or the container was removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (old, new) = (open.metadata().await?, next.metadata().await?);
        Ok(((old.dev(), old.ino()) != (new.dev(), new.ino())).then_some(next))
    }
}

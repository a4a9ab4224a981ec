//! Keeping the node's disk in bounds: logs are rotated by size, images that nobody uses go when space is short.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;
use skep_cri::{Runtime, RuntimeError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::container_config::log_path;
use crate::images::LOADED;
use crate::manager::Manager;
use crate::shared::Shared;

const LOG_PERIOD: Duration = Duration::from_secs(10);
const IMAGE_PERIOD: Duration = Duration::from_secs(300);
/// Images go when more of their file system is in use than this, until it is less than the second.
const HIGH_PERCENT: u64 = 85;
const LOW_PERCENT: u64 = 80;
/// An image stays at least so long after its last use.
const MIN_IMAGE_AGE: Duration = Duration::from_secs(120);

/// Until cancelled.
pub(crate) async fn run(shared: &Shared, manager: &Manager, shutdown: &CancellationToken) {
    let mut logs = tokio::time::interval(LOG_PERIOD);
    let mut images = tokio::time::interval(IMAGE_PERIOD);
    let mut unused = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = logs.tick() => rotate_logs(shared, manager).await,
            _ = images.tick() => {
                if let Err(error) = collect_images(shared, manager, &mut unused).await {
                    tracing::warn!(%error, "images were not looked after");
                }
            }
        }
    }
}

async fn rotate_logs(shared: &Shared, manager: &Manager) {
    for (pod, container) in manager.running_containers() {
        let log = shared.config.log_dir.join(pod.log_directory());
        let log = log.join(log_path(&container.name, container.restart_count));
        let size = tokio::fs::metadata(&log)
            .await
            .map_or(0, |metadata| metadata.len());
        if size <= shared.config.log_max_bytes {
            continue;
        }
        match rotate(&log, shared.config.log_max_files).await {
            Ok(()) => {
                tracing::info!(%pod, container = container.name, size, "log rotated");
                if let Err(error) = shared.runtime.reopen_container_log(&container.id).await {
                    tracing::warn!(%pod, container = container.name, %error, "log not opened again");
                }
            }
            Err(error) => tracing::warn!(%pod, container = container.name, %error, "log not rotated"),
        }
    }
}

/// Gives the log another name, and removes the oldest so that at most `max_files` stay with the one to come.
async fn rotate(log: &Path, max_files: usize) -> std::io::Result<()> {
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S%.3f").to_string();
    let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    tokio::fs::rename(log, log.with_file_name(format!("{name}.{stamp}"))).await?;
    let mut rotated: Vec<PathBuf> = Vec::new();
    let mut entries = tokio::fs::read_dir(log.parent().unwrap_or(Path::new("."))).await?;
    while let Some(entry) = entries.next_entry().await? {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(&format!("{name}."))
        {
            rotated.push(entry.path());
        }
    }
    rotated.sort();
    let excess = (rotated.len() + 1).saturating_sub(max_files.max(2));
    for old in rotated.into_iter().take(excess) {
        tokio::fs::remove_file(old).await?;
    }
    Ok(())
}

/// Removes images that nobody uses, the longest unused first, while the disk is too full. Images that cannot be pulled
/// again stay.
async fn collect_images(
    shared: &Shared,
    manager: &Manager,
    unused: &mut HashMap<String, Instant>,
) -> Result<(), RuntimeError> {
    let used = manager.used_images();
    let images = shared.runtime.list_images().await?;
    let now = Instant::now();
    let mut candidates = Vec::new();
    for image in images {
        let loaded = image.repo_tags.iter().any(|tag| tag.starts_with(LOADED));
        let names = image
            .repo_digests
            .iter()
            .chain(&image.repo_tags)
            .chain([&image.id]);
        let in_use = names.into_iter().any(|name| used.contains(name));
        if loaded || image.pinned || in_use {
            unused.remove(&image.id);
            continue;
        }
        let since = *unused.entry(image.id.clone()).or_insert(now);
        if now.duration_since(since) >= MIN_IMAGE_AGE {
            candidates.push((since, image.id));
        }
    }
    candidates.sort();
    // Once begun, it goes on until there is some room again.
    let mut limit = HIGH_PERCENT;
    for (_, image) in candidates {
        if !is_fuller_than(&*shared.runtime, limit).await? {
            return Ok(());
        }
        limit = LOW_PERCENT;
        tracing::info!(
            image,
            "removing an image that nobody uses: the disk is short of space"
        );
        shared.runtime.remove_image(&image).await?;
        unused.remove(&image);
    }
    Ok(())
}

async fn is_fuller_than(runtime: &dyn Runtime, percent: u64) -> Result<bool, RuntimeError> {
    let systems = runtime.image_fs_info().await?;
    Ok(systems.into_iter().filter_map(|usage| usage.fs_id).any(|id| {
        let Ok(disk) = statvfs(Path::new(&id.mountpoint)) else {
            return false;
        };
        let free = disk.blocks_available().saturating_mul(100);
        disk.blocks() > 0 && free < disk.blocks().saturating_mul(100 - percent)
    }))
}

//! Reading a pod from the runtime. What cannot change any more is asked for once.

use std::collections::HashMap;
use std::path::Path;

use skep_cri::{Runtime, RuntimeError, v1};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::cri_log::{Line, start_of_tail};
use crate::names;
use crate::observed::{Container, ContainerState, Observed, Sandbox};

/// The longest termination message that is taken from its file.
const MAX_MESSAGE_BYTES: u64 = 4096;
/// The longest termination message that is taken from the log, and its lines.
const MAX_LOG_MESSAGE_BYTES: usize = 2048;
const MAX_LOG_MESSAGE_LINES: u64 = 80;
/// How much of a log's end is looked at.
const LOG_WINDOW_BYTES: u64 = 16 * 1024;

/// What is known of one pod's sandboxes and containers.
#[derive(Default)]
pub(crate) struct Observer {
    sandboxes: HashMap<String, Sandbox>,
    containers: HashMap<String, (i32, Container)>,
}

impl Observer {
    /// The pod as the runtime has it now.
    pub(crate) async fn observe(
        &mut self,
        runtime: &dyn Runtime,
        uid: &str,
    ) -> Result<Observed, RuntimeError> {
        let selector = HashMap::from([(names::POD_UID.to_owned(), uid.to_owned())]);
        let (sandboxes, containers) = tokio::try_join!(
            runtime.list_pod_sandboxes(Some(v1::PodSandboxFilter {
                label_selector: selector.clone(),
                ..v1::PodSandboxFilter::default()
            })),
            runtime.list_containers(Some(v1::ContainerFilter {
                label_selector: selector.clone(),
                ..v1::ContainerFilter::default()
            })),
        )?;
        let mut observed = Observed::default();
        for listed in sandboxes {
            observed.sandboxes.extend(self.sandbox(runtime, &listed).await?);
        }
        for listed in containers {
            observed
                .containers
                .extend(self.container(runtime, &listed).await?);
        }
        self.sandboxes
            .retain(|id, _| observed.sandboxes.iter().any(|known| known.id == *id));
        self.containers
            .retain(|id, _| observed.containers.iter().any(|known| known.id == *id));
        observed.sort();
        Ok(observed)
    }

    async fn sandbox(
        &mut self,
        runtime: &dyn Runtime,
        listed: &v1::PodSandbox,
    ) -> Result<Option<Sandbox>, RuntimeError> {
        let ready = listed.state() == v1::PodSandboxState::SandboxReady;
        if let Some(known) = self.sandboxes.get(&listed.id)
            && known.ready == ready
        {
            return Ok(Some(known.clone()));
        }
        match runtime.pod_sandbox_status(&listed.id).await {
            Ok(status) => {
                let sandbox = Sandbox::from_status(&status);
                self.sandboxes.insert(listed.id.clone(), sandbox.clone());
                Ok(Some(sandbox))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn container(
        &mut self,
        runtime: &dyn Runtime,
        listed: &v1::Container,
    ) -> Result<Option<Container>, RuntimeError> {
        if let Some((state, known)) = self.containers.get(&listed.id)
            && *state == listed.state
            && known.state != ContainerState::Unknown
        {
            return Ok(Some(known.clone()));
        }
        let status = match runtime.container_status(&listed.id).await {
            Ok(status) => status,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let message = match status.state() {
            v1::ContainerState::ContainerExited => termination_message(&status).await,
            _ => None,
        };
        let container = Container::from_status(&status, &listed.pod_sandbox_id, message);
        self.containers
            .insert(listed.id.clone(), (status.state, container.clone()));
        Ok(Some(container))
    }
}

/// What a container that has ended left as its message, if anything.
async fn termination_message(status: &v1::ContainerStatus) -> Option<String> {
    let file = status.annotations.get(names::MESSAGE_FILE)?;
    let mut text = Vec::new();
    if let Ok(opened) = tokio::fs::File::open(file).await {
        opened.take(MAX_MESSAGE_BYTES).read_to_end(&mut text).await.ok()?;
    }
    let policy = status.annotations.get(names::MESSAGE_POLICY).map(String::as_str);
    if text.is_empty() && policy == Some("FallbackToLogsOnError") && status.exit_code != 0 {
        return log_tail(Path::new(&status.log_path)).await;
    }
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// The last lines of a log.
async fn log_tail(path: &Path) -> Option<String> {
    let mut file = tokio::fs::File::open(path).await.ok()?;
    let length = file.metadata().await.ok()?.len();
    file.seek(std::io::SeekFrom::Start(length.saturating_sub(LOG_WINDOW_BYTES)))
        .await
        .ok()?;
    let mut end = Vec::new();
    file.take(LOG_WINDOW_BYTES).read_to_end(&mut end).await.ok()?;
    let start = start_of_tail(&end, MAX_LOG_MESSAGE_LINES).unwrap_or(0);
    let mut text = Vec::new();
    for line in end[start..]
        .split_inclusive(|byte| *byte == b'\n')
        .filter_map(Line::parse)
    {
        line.render(false, &mut text);
    }
    let from = text.len().saturating_sub(MAX_LOG_MESSAGE_BYTES);
    let text = String::from_utf8_lossy(&text[from..]).into_owned();
    (!text.is_empty()).then_some(text)
}

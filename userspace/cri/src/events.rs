//! Where events come from: the CRI's stream, or containerd's own for versions that lack it (1.6).

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::native::events_client::EventsClient;
use crate::native::{Envelope, SubscribeRequest, TaskExit};
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::{RuntimeError, RuntimeEvent, RuntimeEventKind, v1};

/// How long to wait for the CRI plugin to see an exit that containerd has already told of.
const SETTLE_ATTEMPTS: u32 = 100;
const SETTLE_STEP: Duration = Duration::from_millis(10);
/// How long a server may take to refuse a stream.
const REFUSAL_WAIT: Duration = Duration::from_millis(500);

type EventStream = BoxStream<'static, Result<RuntimeEvent, RuntimeError>>;

/// The CRI's event stream.
pub(crate) async fn cri(mut client: RuntimeServiceClient<Channel>) -> Result<EventStream, RuntimeError> {
    const CALL: &str = "GetContainerEvents";
    let call = async move { client.get_container_events(v1::GetEventsRequest {}).await };
    let messages = open(CALL, call).await?;
    Ok(messages
        .map(|message| match message {
            Ok(event) => Ok(RuntimeEvent {
                kind: kind(event.container_event_type()),
                container_id: event.container_id,
            }),
            Err(status) => Err(RuntimeError::from_status(CALL, &status)),
        })
        .boxed())
}

/// Opens a stream of messages.
///
/// A server that has nothing to tell yet sends no header either, so the answer to the call may come
/// with the first message only. A server that does not know the call says so at once.
async fn open<T: Send + 'static>(
    name: &'static str,
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>> + Send + 'static,
) -> Result<BoxStream<'static, Result<T, Status>>, RuntimeError> {
    let mut answer = call.boxed();
    match tokio::time::timeout(REFUSAL_WAIT, &mut answer).await {
        Ok(Ok(messages)) => Ok(messages.into_inner().boxed()),
        Ok(Err(status)) => Err(RuntimeError::from_status(name, &status)),
        Err(_silent) => Ok(answer.map_ok(Response::into_inner).try_flatten_stream().boxed()),
    }
}

fn kind(kind: v1::ContainerEventType) -> RuntimeEventKind {
    match kind {
        v1::ContainerEventType::ContainerCreatedEvent => RuntimeEventKind::Created,
        v1::ContainerEventType::ContainerStartedEvent => RuntimeEventKind::Started,
        v1::ContainerEventType::ContainerStoppedEvent => RuntimeEventKind::Stopped,
        v1::ContainerEventType::ContainerDeletedEvent => RuntimeEventKind::Deleted,
    }
}

/// Exits from containerd's own event service. Each is passed on once the CRI plugin, which hears of
/// it by the same way and in its own time, has it in the container's status.
pub(crate) async fn containerd(
    channel: Channel,
    runtime: RuntimeServiceClient<Channel>,
) -> Result<EventStream, RuntimeError> {
    const CALL: &str = "Events.Subscribe";
    let request = SubscribeRequest {
        filters: vec![r#"topic=="/tasks/exit",namespace==k8s.io"#.to_owned()],
    };
    let call = async move { EventsClient::new(channel).subscribe(request).await };
    let messages = open(CALL, call).await?;
    Ok(messages
        .filter_map(|message| async move {
            match message {
                Ok(envelope) => exited_container(&envelope).map(Ok),
                Err(status) => Some(Err(RuntimeError::from_status(CALL, &status))),
            }
        })
        .map(move |event| settle(runtime.clone(), event))
        .buffer_unordered(MAX_SETTLING)
        .boxed())
}

/// How many exits may wait for the CRI plugin at once.
const MAX_SETTLING: usize = 64;

/// The container whose main process ended, if that is what the event tells.
fn exited_container(envelope: &Envelope) -> Option<String> {
    let payload = envelope.event.as_ref()?;
    let exit = TaskExit::decode(payload.value.as_slice()).ok()?;
    // An `id` of its own is that of a process started by exec.
    (exit.id.is_empty() || exit.id == exit.container_id).then_some(exit.container_id)
}

async fn settle(
    mut runtime: RuntimeServiceClient<Channel>,
    container: Result<String, RuntimeError>,
) -> Result<RuntimeEvent, RuntimeError> {
    let container_id = container?;
    for _ in 0..SETTLE_ATTEMPTS {
        let request = v1::ContainerStatusRequest {
            container_id: container_id.clone(),
            verbose: false,
        };
        let state = match runtime.container_status(request).await {
            Ok(answer) => answer.into_inner().status.map(|status| status.state()),
            // Removed already, or a sandbox and no container.
            Err(_status) => None,
        };
        if state != Some(v1::ContainerState::ContainerRunning) {
            break;
        }
        tokio::time::sleep(SETTLE_STEP).await;
    }
    Ok(RuntimeEvent {
        container_id,
        kind: RuntimeEventKind::Stopped,
    })
}

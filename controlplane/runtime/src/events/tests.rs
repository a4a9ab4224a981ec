use k8s_openapi::api::core::v1::Pod;
use skep_client::ListOptions;
use skep_client::testing::FakeTransport;

use super::*;

struct Fixture {
    client: Client,
    recorder: EventRecorder,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn fixture() -> (FakeTransport, Fixture) {
    let fake = FakeTransport::new();
    let client = fake.client();
    let source = EventSource {
        component: "tester".to_owned(),
        host: None,
    };
    let recorder = EventRecorder::new(client.clone(), source);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn({
        let (recorder, shutdown) = (recorder.clone(), shutdown.clone());
        async move { recorder.run(shutdown).await }
    });
    (
        fake,
        Fixture {
            client,
            recorder,
            shutdown,
            task,
        },
    )
}

fn pod(name: &str) -> Pod {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("web".to_owned()),
        uid: Some(format!("uid-{name}")),
        ..ObjectMeta::default()
    };
    Pod {
        metadata,
        ..Pod::default()
    }
}

async fn events(fixture: Fixture) -> Vec<Arc<Event>> {
    fixture.shutdown.cancel();
    fixture.task.await.unwrap();
    fixture
        .client
        .list(None, &ListOptions::default())
        .await
        .unwrap()
        .items
}

#[tokio::test(start_paused = true)]
async fn repeated_events_are_counted_on_one() {
    let (_fake, fixture) = fixture();
    for _ in 0..3 {
        fixture
            .recorder
            .event(&pod("a"), EventType::Warning, "FailedScheduling", "no room");
    }
    fixture
        .recorder
        .event(&pod("a"), EventType::Normal, "Scheduled", "to node1");
    let events = events(fixture).await;
    let shapes: Vec<_> = events
        .iter()
        .map(|event| (event.reason.as_deref().unwrap(), event.count.unwrap()))
        .collect();
    assert_eq!(shapes, [("FailedScheduling", 3), ("Scheduled", 1)]);
    let event = &events[0];
    assert_eq!(event.metadata.namespace.as_deref(), Some("web"));
    assert!(event.metadata.name.as_deref().unwrap().starts_with("a."));
    assert_eq!(event.involved_object.uid.as_deref(), Some("uid-a"));
    assert_eq!(
        event.source.as_ref().unwrap().component.as_deref(),
        Some("tester")
    );
}

#[tokio::test(start_paused = true)]
async fn a_noisy_object_is_cut_down_and_others_are_not() {
    let (_fake, fixture) = fixture();
    for i in 0..100 {
        fixture
            .recorder
            .event(&pod("loud"), EventType::Normal, "Tick", format!("{i}"));
    }
    fixture
        .recorder
        .event(&pod("quiet"), EventType::Normal, "Tick", "once");
    let events = events(fixture).await;
    let of = |name: &str| {
        events
            .iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(name))
            .count()
    };
    assert_eq!((of("loud"), of("quiet")), (25, 1));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_waited_for() {
    let (fake, fixture) = fixture();
    fake.fail_next(3, ApiError::connection("down"));
    fixture
        .recorder
        .event(&pod("a"), EventType::Normal, "Tick", "once");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(events(fixture).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_and_counts() {
    let client = FakeTransport::new().client();
    let recorder = EventRecorder::new(
        client,
        EventSource {
            component: "tester".to_owned(),
            host: None,
        },
    );
    for _ in 0..QUEUE_CAPACITY + 7 {
        recorder.event(&pod("a"), EventType::Normal, "Tick", "once");
    }
    assert_eq!(recorder.dropped(), 7);
}

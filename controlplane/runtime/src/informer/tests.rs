use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use skep_api::ObjectKey;
use skep_client::testing::FakeTransport;
use skep_client::{DeleteOptions, Verb};
use tokio::task::JoinHandle;

use super::*;
use crate::{InformerSet, WorkQueueOptions};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("value".to_owned(), value.to_owned())])),
        ..ConfigMap::default()
    }
}

fn start(fake: &FakeTransport) -> (Informer<ConfigMap>, CancellationToken, JoinHandle<()>) {
    let informer = Informer::new(fake.client(), InformerOptions::default());
    let shutdown = CancellationToken::new();
    let (running, token) = (informer.clone(), shutdown.clone());
    let task = tokio::spawn(async move { running.run(token).await });
    (informer, shutdown, task)
}

fn shape(change: &Change<ConfigMap>) -> String {
    let value = |map: &ConfigMap| map.data.as_ref().unwrap()["value"].clone();
    match change {
        Change::Added(new) => format!("+{}={}", new.name(), value(new)),
        Change::Updated(old, new) => format!("{}={}>{}", new.name(), value(old), value(new)),
        Change::Deleted(old) => format!("-{}={}", old.name(), value(old)),
    }
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(30)).await;
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_in_order_from_the_list_on() {
    let fake = FakeTransport::new();
    fake.put(&map("a", "1"));
    let (informer, shutdown, task) = start(&fake);
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    informer.on_change(move |change| seen.lock().push(shape(change)));
    informer.synced().await;
    fake.put(&map("a", "2"));
    fake.put(&map("b", "1"));
    fake.client()
        .delete::<ConfigMap>(&key("a"), &DeleteOptions::default())
        .await
        .unwrap();
    settle().await;
    assert_eq!(*log.lock(), ["+a=1", "a=1>2", "+b=1", "-a=2"]);

    let late = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&late);
    informer.on_change(move |change| seen.lock().push(shape(change)));
    assert_eq!(*late.lock(), ["+b=1"], "a late handler begins with what is there");
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_closed_watch_resumes_without_a_list() {
    let fake = FakeTransport::new();
    let (informer, shutdown, task) = start(&fake);
    informer.synced().await;
    fake.put(&map("a", "1"));
    settle().await;
    fake.close_watches();
    fake.put(&map("b", "1"));
    settle().await;
    assert_eq!(informer.store().len(), 2);
    let lists = fake
        .requests()
        .iter()
        .filter(|request| request.verb == Verb::List)
        .count();
    assert_eq!(lists, 1);
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn bookmarks_advance_the_position_past_a_compaction() {
    let fake = FakeTransport::new();
    let (informer, shutdown, task) = start(&fake);
    informer.synced().await;
    settle().await;
    // Of another kind: only a bookmark tells of it.
    fake.put(&k8s_openapi::api::core::v1::Secret {
        metadata: map("other", "").metadata,
        ..Default::default()
    });
    fake.send_bookmarks();
    settle().await;
    fake.compact();
    fake.close_watches();
    settle().await;
    let lists = fake
        .requests()
        .iter()
        .filter(|request| request.verb == Verb::List)
        .count();
    assert_eq!(lists, 1);
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_lists_again_and_tells_only_differences() {
    let fake = FakeTransport::new();
    for name in ["same", "gone", "changed"] {
        fake.put(&map(name, "1"));
    }
    let (informer, shutdown, task) = start(&fake);
    informer.synced().await;
    settle().await;
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    informer.on_change(move |change| seen.lock().push(shape(change)));
    log.lock().clear();
    fake.break_watches(ApiError::connection("cut"));
    fake.remove::<ConfigMap>(&key("gone"));
    fake.put(&map("changed", "2"));
    fake.put(&map("new", "1"));
    fake.compact();
    settle().await;
    assert_eq!(*log.lock(), ["-gone=1", "changed=1>2", "+new=1"]);
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscription_merges_what_was_not_taken() {
    let fake = FakeTransport::new();
    fake.put(&map("kept", "1"));
    fake.put(&map("gone", "1"));
    let (informer, shutdown, task) = start(&fake);
    let mut changes = informer.subscribe();
    informer.synced().await;
    assert_eq!(shape(&changes.next().await.unwrap()), "+gone=1");
    assert_eq!(shape(&changes.next().await.unwrap()), "+kept=1");
    for value in ["2", "3"] {
        fake.put(&map("kept", value));
    }
    fake.put(&map("brief", "1"));
    fake.remove::<ConfigMap>(&key("brief"));
    fake.put(&map("gone", "2"));
    fake.remove::<ConfigMap>(&key("gone"));
    fake.put(&map("new", "1"));
    settle().await;
    for change in ["kept=1>3", "-gone=2", "+new=1"] {
        assert_eq!(shape(&changes.next().await.unwrap()), change);
    }
    assert!(changes.try_next().is_none());
    shutdown.cancel();
    task.await.unwrap();
    assert!(changes.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn long_lists_are_paged_and_survive_an_expired_token() {
    let fake = FakeTransport::new();
    for i in 0..=PAGE_LIMIT {
        fake.put(&map(&format!("{i:04}"), "1"));
    }
    fake.fail_matching(1, ApiError::expired("continue"), |request| {
        request.query.iter().any(|(name, _)| name == "continue")
    });
    let (informer, shutdown, task) = start(&fake);
    informer.synced().await;
    assert_eq!(informer.store().len(), PAGE_LIMIT as usize + 1);
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_set_shares_informers_and_feeds_queues() {
    let fake = FakeTransport::new();
    fake.put(&map("a", "1"));
    let informers = InformerSet::new(fake.client());
    let shutdown = CancellationToken::new();
    let first = informers.all::<ConfigMap>();
    let task = tokio::spawn({
        let (informers, shutdown) = (informers.clone(), shutdown.clone());
        async move { informers.run(shutdown).await }
    });
    assert!(informers.synced(&shutdown).await);
    let again = informers.all::<ConfigMap>();
    assert!(Arc::ptr_eq(&first.inner, &again.inner));
    // One that is asked for while the set runs begins at once.
    let narrow = informers.informer::<ConfigMap>(InformerOptions {
        field_selector: Some("metadata.name=b".to_owned()),
        ..InformerOptions::default()
    });
    assert!(informers.synced(&shutdown).await);
    assert!(first.has_synced() && narrow.has_synced());
    assert_eq!((first.store().len(), narrow.store().len()), (1, 0));

    let queue = WorkQueue::new("test", WorkQueueOptions::default());
    first.feed(&queue, |map| vec![map.key()]);
    assert_eq!(*queue.next().await.unwrap(), key("a"));
    shutdown.cancel();
    task.await.unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Remove(u8),
    Close,
    Break,
    Compact,
    Bookmark,
    Fail(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6, any::<u8>()).prop_map(|(name, value)| Step::Put(name, value)),
        3 => (0u8..6).prop_map(Step::Remove),
        1 => Just(Step::Close),
        1 => Just(Step::Break),
        1 => Just(Step::Compact),
        1 => Just(Step::Bookmark),
        1 => (1usize..4).prop_map(Step::Fail),
        3 => (0u64..3000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The store equals the server's list, an index and a subscriber's view equal the store.
    #[test]
    fn store_follows_the_server_through_disconnects_and_410s(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let fake = FakeTransport::new();
            let (informer, shutdown, task) = start(&fake);
            let by_value = informer.index(|map| map.data.iter().flatten().map(|(_, value)| value.clone()).collect());
            let mut changes = informer.subscribe();
            for step in steps {
                match step {
                    Step::Put(name, value) => drop(fake.put(&map(&name.to_string(), &value.to_string()))),
                    Step::Remove(name) => fake.remove::<ConfigMap>(&key(&name.to_string())),
                    Step::Close => fake.close_watches(),
                    Step::Break => fake.break_watches(ApiError::connection("cut")),
                    Step::Compact => fake.compact(),
                    Step::Bookmark => fake.send_bookmarks(),
                    Step::Fail(times) => fake.fail_next(times, ApiError::connection("down")),
                    Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                }
            }
            // Left failures alone would take longer to work off than there is patience below.
            fake.fail_next(0, ApiError::connection("up"));
            settle().await;
            let expected = fake.all::<ConfigMap>();
            let stored: Vec<_> = informer.store().list().iter().map(|map| (**map).clone()).collect();
            prop_assert_eq!(&stored, &expected);
            let mut view = BTreeMap::new();
            while let Some(change) = changes.try_next() {
                match &change {
                    Change::Added(new) => prop_assert!(view.insert(new.key(), Arc::clone(new)).is_none()),
                    Change::Updated(_, new) => prop_assert!(view.insert(new.key(), Arc::clone(new)).is_some()),
                    Change::Deleted(old) => prop_assert!(view.remove(&old.key()).is_some()),
                }
            }
            prop_assert!(view.values().map(|map| &**map).eq(&expected));
            for map in &expected {
                let value = &map.data.as_ref().unwrap()["value"];
                prop_assert!(by_value.keys(value).contains(&map.key()));
            }
            shutdown.cancel();
            task.await.unwrap();
            Ok(())
        })?;
    }
}

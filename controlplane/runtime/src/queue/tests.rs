use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn queue() -> WorkQueue<u32> {
    WorkQueue::new("test", WorkQueueOptions::default())
}

async fn taken_now(queue: &WorkQueue<u32>) -> Option<Taken<u32>> {
    tokio::time::timeout(Duration::from_nanos(1), queue.next())
        .await
        .ok()
        .flatten()
}

#[tokio::test(start_paused = true)]
async fn an_item_added_twice_is_taken_once() {
    let queue = queue();
    queue.add(1);
    queue.add(2);
    queue.add(1);
    assert_eq!(*queue.next().await.unwrap(), 1);
    assert_eq!(*queue.next().await.unwrap(), 2);
    assert!(taken_now(&queue).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_endless_delay_is_a_long_one() {
    let queue = queue();
    queue.add_after(1, Duration::MAX);
    assert!(taken_now(&queue).await.is_none());
    tokio::time::advance(LONGEST_DELAY).await;
    assert_eq!(*queue.next().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_item_added_during_its_work_comes_after_it() {
    let queue = queue();
    queue.add(1);
    let work = queue.next().await.unwrap();
    queue.add(1);
    assert!(taken_now(&queue).await.is_none());
    drop(work);
    assert_eq!(*queue.next().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn delayed_items_come_when_due_and_sooner_wins() {
    let queue = queue();
    let start = Instant::now();
    queue.add_after(1, Duration::from_secs(10));
    queue.add_after(2, Duration::from_secs(3));
    queue.add_after(1, Duration::from_secs(5));
    queue.add_after(1, Duration::from_secs(20));
    for (item, second) in [(2, 3), (1, 5)] {
        assert_eq!(*queue.next().await.unwrap(), item);
        assert_eq!(start.elapsed().as_secs(), second);
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(taken_now(&queue).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_woken_for_an_earlier_timer() {
    let queue = queue();
    queue.add_after(1, Duration::from_secs(100));
    let waiter = tokio::spawn({
        let queue = queue.clone();
        async move { *queue.next().await.unwrap() }
    });
    tokio::task::yield_now().await;
    let start = Instant::now();
    queue.add_after(2, Duration::from_secs(1));
    assert_eq!(waiter.await.unwrap(), 2);
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn failures_double_the_delay_until_forgotten() {
    let queue = queue();
    let mut delays = Vec::new();
    for _ in 0..4 {
        let start = Instant::now();
        queue.add_rate_limited(1);
        drop(queue.next().await.unwrap());
        delays.push(start.elapsed().as_millis());
    }
    assert_eq!(delays, [5, 10, 20, 40]);
    queue.forget(&1);
    assert_eq!(queue.failures(&1), 0);
}

#[tokio::test(start_paused = true)]
async fn shut_down_frees_every_waiter() {
    let queue = queue();
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.next().await.is_none() })
        })
        .collect();
    tokio::task::yield_now().await;
    queue.shut_down();
    queue.add(1);
    for waiter in waiters {
        assert!(waiter.await.unwrap());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u32),
    AddAfter(u32, u64),
    RateLimited(u32),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u32..6).prop_map(Step::Add),
        (0u32..6, 0u64..50).prop_map(|(item, ms)| Step::AddAfter(item, ms)),
        (0u32..6).prop_map(Step::RateLimited),
        (0u64..30).prop_map(Step::Wait),
    ]
}

#[derive(Default)]
struct Log {
    in_work: BTreeSet<u32>,
    doubled: bool,
    last_begun: BTreeMap<u32, Instant>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is added is begun no earlier than asked, at the latest after everything settled; never twice at once.
    #[test]
    fn no_item_is_lost_or_in_work_twice(steps in proptest::collection::vec(step(), 1..40), workers in 1usize..4) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let queue = queue();
            let log = Arc::new(Mutex::new(Log::default()));
            let workers: Vec<_> = (0..workers).map(|_| tokio::spawn(work(queue.clone(), Arc::clone(&log)))).collect();
            let mut added = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Add(item) => { queue.add(item); added.insert(item, Instant::now()); }
                    Step::AddAfter(item, ms) => {
                        queue.add_after(item, Duration::from_millis(ms));
                        added.insert(item, Instant::now());
                    }
                    Step::RateLimited(item) => { queue.add_rate_limited(item); added.insert(item, Instant::now()); }
                    Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                }
            }
            tokio::time::sleep(Duration::from_secs(3600)).await;
            queue.shut_down();
            for worker in workers { worker.await.unwrap(); }
            let log = log.lock();
            prop_assert!(!log.doubled);
            for (item, added) in added {
                prop_assert!(log.last_begun.get(&item).is_some_and(|begun| *begun >= added), "{item} was lost");
            }
            Ok(())
        })?;
    }
}

async fn work(queue: WorkQueue<u32>, log: Arc<Mutex<Log>>) {
    while let Some(item) = queue.next().await {
        {
            let mut log = log.lock();
            log.doubled |= !log.in_work.insert(*item);
            log.last_begun.insert(*item, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(u64::from(*item) * 7)).await;
        log.lock().in_work.remove(&item);
    }
}

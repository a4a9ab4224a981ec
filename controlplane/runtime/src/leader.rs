//! Leader election over a Lease (coordination.k8s.io/v1), compatible with client-go's: the same fields mean the same.
//!
//! Clocks of different machines are never compared: a lease counts as expired when it has not changed for its duration
//! as seen here. A leader that cannot renew stops leading before others may begin (`renew_deadline < lease_duration`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use rand::Rng;
use skep_api::{ApiError, ObjectKey};
use skep_client::Client;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Which lease, for whom, and how fast.
#[derive(Clone, Debug)]
pub struct LeaderOptions {
    /// `kube-system/kube-scheduler`, …
    pub lease: ObjectKey,
    /// Unique among the candidates.
    pub identity: String,
    /// Others may take over after so long without a renewal.
    pub lease_duration: Duration,
    /// The leader gives up after so long without success in renewing.
    pub renew_deadline: Duration,
    /// Between attempts.
    pub retry_period: Duration,
}

impl LeaderOptions {
    /// With upstream's durations: 15, 10 and 2 seconds.
    #[must_use]
    pub fn new(lease: ObjectKey, identity: impl Into<String>) -> Self {
        Self {
            lease,
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// A candidate.
#[derive(Debug)]
pub struct LeaderElector {
    client: Client,
    options: LeaderOptions,
    /// The lease as last seen to change, and when.
    observed: Option<(LeaseSpec, Instant)>,
}

impl LeaderElector {
    #[must_use]
    pub fn new(client: Client, options: LeaderOptions) -> Self {
        Self {
            client,
            options,
            observed: None,
        }
    }

    /// Whenever this candidate is elected, runs `lead` with a token that is cancelled when the lead is lost, and waits
    /// for its end before standing again. Returns when cancelled; a lease that is held is given back then, once `lead`
    /// has ended.
    pub async fn run<F, R>(mut self, mut lead: F, shutdown: CancellationToken)
    where
        F: FnMut(CancellationToken) -> R,
        R: Future<Output = ()>,
    {
        while shutdown.run_until_cancelled(self.acquire()).await.is_some() {
            tracing::info!(lease = %self.options.lease, identity = self.options.identity, "leading");
            let leading = shutdown.child_token();
            let work = lead(leading.clone());
            let renewed = async {
                let lost = leading.run_until_cancelled(self.renew()).await.is_some();
                leading.cancel();
                lost
            };
            // The work may also end by itself: then the lease is given back.
            let work = async {
                work.await;
                leading.cancel();
            };
            let ((), lost) = tokio::join!(work, renewed);
            if lost {
                tracing::warn!(lease = %self.options.lease, identity = self.options.identity, "lost the lead");
            } else {
                self.release().await;
                // Work that ended by itself may do so again: not faster than candidates stand for election.
                shutdown
                    .run_until_cancelled(tokio::time::sleep(self.options.retry_period))
                    .await;
            }
        }
    }

    /// Returns when the lease is held.
    async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(lease = %self.options.lease, %error, "cannot stand for election")
                }
            }
            let jitter = rand::rng().random_range(1.0..1.2);
            tokio::time::sleep(self.options.retry_period.mul_f64(jitter)).await;
        }
    }

    /// Returns when the lease is lost.
    async fn renew(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.options.retry_period).await;
            let begun = Instant::now();
            let deadline = renewed + self.options.renew_deadline;
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(true)) => renewed = begun,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(lease = %self.options.lease, %error, "cannot renew"),
                Err(_elapsed) => return,
            }
            if Instant::now() >= renewed + self.options.renew_deadline {
                return;
            }
        }
    }

    /// Takes or renews the lease if it is free or held; says whether it is held now.
    async fn attempt(&mut self) -> Result<bool, ApiError> {
        let Some(lease) = self.client.find::<Lease>(&self.options.lease).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.options.lease.name.clone()),
                    namespace: Some(self.options.lease.namespace.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(None)),
            };
            return self.written(self.client.create(&lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.observed.as_ref().is_none_or(|(known, _)| *known != spec) {
            self.observed = Some((spec.clone(), Instant::now()));
        }
        if self.held_by_other(&spec) {
            return Ok(false);
        }
        let mut lease = (*lease).clone();
        lease.spec = Some(self.spec(Some(&spec)));
        self.written(self.client.update(&lease).await)
    }

    fn held_by_other(&self, spec: &LeaseSpec) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.options.identity {
            return false;
        }
        let seconds = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or(self.options.lease_duration, Duration::from_secs);
        self.observed
            .as_ref()
            .is_some_and(|(_, at)| at.elapsed() <= duration)
    }

    fn written(&mut self, result: Result<std::sync::Arc<Lease>, ApiError>) -> Result<bool, ApiError> {
        match result {
            Ok(lease) => {
                self.observed = Some((lease.spec.clone().unwrap_or_default(), Instant::now()));
                Ok(true)
            }
            // Another candidate was faster; the next attempt sees who.
            Err(error) if error.is_conflict() || error.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The lease held by this candidate, renewed now.
    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let was_held =
            before.is_some_and(|spec| spec.holder_identity.as_ref() == Some(&self.options.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let seconds = i32::try_from(self.options.lease_duration.as_secs()).unwrap_or(i32::MAX);
        LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: before
                .filter(|_| was_held)
                .and_then(|spec| spec.acquire_time.clone())
                .or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if was_held || before.is_none() {
                transitions
            } else {
                transitions + 1
            }),
            preferred_holder: None,
            strategy: None,
        }
    }

    /// Gives the lease back, so that another candidate need not wait for its end.
    async fn release(&mut self) {
        let released = async {
            let Some(lease) = self.client.find::<Lease>(&self.options.lease).await? else {
                return Ok(());
            };
            let mut lease = (*lease).clone();
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() != Some(&self.options.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            self.client.update(&lease).await.map(drop)
        };
        match tokio::time::timeout(self.options.retry_period, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error: ApiError = error;
                tracing::warn!(lease = %self.options.lease, %error, "the lease was not given back");
            }
            Err(_elapsed) => {
                tracing::warn!(lease = %self.options.lease, "the lease was not given back in time")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use skep_client::DeleteOptions;
    use skep_client::testing::FakeTransport;

    use super::*;

    struct Candidate {
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    fn key() -> ObjectKey {
        ObjectKey {
            namespace: "kube-system".to_owned(),
            name: "test".to_owned(),
        }
    }

    fn candidate(client: &Client, name: &str, leaders: &Arc<AtomicUsize>) -> Candidate {
        let shutdown = CancellationToken::new();
        let elector = LeaderElector::new(client.clone(), LeaderOptions::new(key(), name));
        let (leaders, token) = (Arc::clone(leaders), shutdown.clone());
        let task = tokio::spawn(async move {
            elector
                .run(
                    |leading| {
                        let leaders = Arc::clone(&leaders);
                        async move {
                            assert_eq!(leaders.fetch_add(1, Ordering::SeqCst), 0, "two leaders at once");
                            leading.cancelled().await;
                            leaders.fetch_sub(1, Ordering::SeqCst);
                        }
                    },
                    token,
                )
                .await;
        });
        Candidate { shutdown, task }
    }

    async fn holder(client: &Client) -> (String, i32) {
        let lease = client.get::<Lease>(&key()).await.unwrap();
        let spec = lease.spec.clone().unwrap();
        (spec.holder_identity.unwrap(), spec.lease_transitions.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_a_released_lease_is_taken_over_at_once() {
        let client = FakeTransport::new().client();
        let leaders = Arc::new(AtomicUsize::new(0));
        let a = candidate(&client, "a", &leaders);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let b = candidate(&client, "b", &leaders);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(holder(&client).await, ("a".to_owned(), 0));
        a.shutdown.cancel();
        a.task.await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(holder(&client).await, ("b".to_owned(), 1));
        assert_eq!(leaders.load(Ordering::SeqCst), 1);
        b.shutdown.cancel();
        b.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_leader_s_lease_is_taken_over_when_it_expires() {
        let client = FakeTransport::new().client();
        let leaders = Arc::new(AtomicUsize::new(0));
        let a = candidate(&client, "a", &leaders);
        tokio::time::sleep(Duration::from_secs(1)).await;
        a.task.abort();
        leaders.store(0, Ordering::SeqCst);
        let b = candidate(&client, "b", &leaders);
        tokio::time::sleep(Duration::from_secs(14)).await;
        assert_eq!(holder(&client).await.0, "a");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(holder(&client).await.0, "b");
        b.shutdown.cancel();
        b.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_a_server_stops_leading_before_its_lease_ends() {
        let fake = FakeTransport::new();
        let leaders = Arc::new(AtomicUsize::new(0));
        let a = candidate(&fake.client(), "a", &leaders);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(leaders.load(Ordering::SeqCst), 1);
        fake.fail_next(10_000, ApiError::connection("down"));
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert_eq!(leaders.load(Ordering::SeqCst), 0);
        fake.fail_next(0, ApiError::connection("up"));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(leaders.load(Ordering::SeqCst), 1);
        a.shutdown.cancel();
        a.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_lease_is_made_again() {
        let client = FakeTransport::new().client();
        let leaders = Arc::new(AtomicUsize::new(0));
        let a = candidate(&client, "a", &leaders);
        tokio::time::sleep(Duration::from_secs(1)).await;
        client
            .delete::<Lease>(&key(), &DeleteOptions::default())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(holder(&client).await.0, "a");
        a.shutdown.cancel();
        a.task.await.unwrap();
    }
}

//! The informers of one process: one per kind and options, however many ask.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use skep_api::Object;
use skep_client::Client;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Informer, InformerOptions};

type Runner = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;
type Synced = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Default)]
struct State {
    informers: HashMap<(TypeId, InformerOptions), Box<dyn Any + Send>>,
    synced: Vec<Synced>,
    /// Asked for and not running yet.
    waiting: Vec<Runner>,
}

struct Inner {
    client: Client,
    state: Mutex<State>,
    added: Notify,
}

/// Shares informers. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct InformerSet {
    inner: Arc<Inner>,
}

impl fmt::Debug for InformerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InformerSet")
            .field("informers", &self.inner.state.lock().informers.len())
            .finish()
    }
}

impl InformerSet {
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            inner: Arc::new(Inner {
                client,
                state: Mutex::default(),
                added: Notify::new(),
            }),
        }
    }

    /// The client that the informers use.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The informer of kind `K` with these options. It begins at once if the set is running, else with the set.
    pub fn informer<K: Object>(&self, options: InformerOptions) -> Informer<K> {
        let mut state = self.inner.state.lock();
        let id = (TypeId::of::<K>(), options);
        if let Some(informer) = state
            .informers
            .get(&id)
            .and_then(|any| any.downcast_ref::<Informer<K>>())
        {
            return informer.clone();
        }
        let informer = Informer::<K>::new(self.inner.client.clone(), id.1.clone());
        let running = informer.clone();
        state.waiting.push(Box::new(move |shutdown| {
            async move { running.run(shutdown).await }.boxed()
        }));
        let syncing = informer.clone();
        state.synced.push(Arc::new(move || {
            let informer = syncing.clone();
            async move { informer.synced().await }.boxed()
        }));
        state.informers.insert(id, Box::new(informer.clone()));
        self.inner.added.notify_one();
        informer
    }

    /// The informer of all objects of kind `K`.
    pub fn all<K: Object>(&self) -> Informer<K> {
        self.informer(InformerOptions::default())
    }

    /// Waits until every informer asked for so far has synced. False when cancelled before.
    pub async fn synced(&self, shutdown: &CancellationToken) -> bool {
        let all = self.inner.state.lock().synced.clone();
        let all = async {
            for synced in all {
                synced().await;
            }
        };
        shutdown.run_until_cancelled(all).await.is_some()
    }

    /// Runs the informers, also those asked for later, until cancelled. Call it once.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut running = JoinSet::new();
        while !shutdown.is_cancelled() {
            for runner in std::mem::take(&mut self.inner.state.lock().waiting) {
                running.spawn(runner(shutdown.clone()));
            }
            shutdown.run_until_cancelled(self.inner.added.notified()).await;
        }
        running.join_all().await;
    }
}

//! The objects of one informer: a persistent map, so that a snapshot costs nothing, with indexes beside it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};

use imbl::OrdMap;
use parking_lot::{Mutex, RwLock};
use skep_api::{Object, ObjectExt, ObjectKey};

/// What happened to one object, as seen from the store: after it, the store shows the new state.
#[derive(Debug)]
pub enum Change<K> {
    Added(Arc<K>),
    /// The object before and after. After a disconnection they may be two objects of the same name (uids differ).
    Updated(Arc<K>, Arc<K>),
    /// The last known state.
    Deleted(Arc<K>),
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Added(object) => Self::Added(Arc::clone(object)),
            Self::Updated(old, new) => Self::Updated(Arc::clone(old), Arc::clone(new)),
            Self::Deleted(object) => Self::Deleted(Arc::clone(object)),
        }
    }
}

impl<K> Change<K> {
    /// The newest known state.
    #[must_use]
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Updated(_, object) | Self::Deleted(object) => object,
        }
    }

    /// The state before, where there was one.
    #[must_use]
    pub fn before(&self) -> Option<&Arc<K>> {
        match self {
            Self::Added(_) => None,
            Self::Updated(old, _) | Self::Deleted(old) => Some(old),
        }
    }

    /// The state after, where there is one.
    #[must_use]
    pub fn after(&self) -> Option<&Arc<K>> {
        match self {
            Self::Added(new) | Self::Updated(_, new) => Some(new),
            Self::Deleted(_) => None,
        }
    }
}

type IndexFn<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

struct IndexState<K> {
    values_of: IndexFn<K>,
    keys: RwLock<HashMap<String, BTreeSet<ObjectKey>>>,
}

impl<K: Object> IndexState<K> {
    fn replace(&self, key: &ObjectKey, old: Option<&K>, new: Option<&K>) {
        let old_values = old.map(|old| (self.values_of)(old)).unwrap_or_default();
        let new_values = new.map(|new| (self.values_of)(new)).unwrap_or_default();
        if old_values == new_values {
            return;
        }
        let mut keys = self.keys.write();
        for value in old_values {
            if let Some(set) = keys.get_mut(&value) {
                set.remove(key);
                if set.is_empty() {
                    keys.remove(&value);
                }
            }
        }
        for value in new_values {
            keys.entry(value).or_default().insert(key.clone());
        }
    }
}

struct Inner<K> {
    objects: RwLock<OrdMap<ObjectKey, Arc<K>>>,
    /// Weak: an index that nobody holds is forgotten. The lock also orders writers.
    indexes: Mutex<Vec<Weak<IndexState<K>>>>,
}

/// A read-only view of what an informer has seen. Cheap to clone; all clones are one.
pub struct Store<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K> fmt::Debug for Store<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("len", &self.inner.objects.read().len())
            .finish()
    }
}

impl<K: Object> Store<K> {
    /// A store that nobody feeds. Informers make their own; this is for tests of what reads stores, with
    /// [`insert`](Self::insert).
    #[must_use]
    pub fn empty() -> Self {
        Self {
            inner: Arc::new(Inner {
                objects: RwLock::default(),
                indexes: Mutex::default(),
            }),
        }
    }

    /// The object, if there is one.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.inner.objects.read().get(key).cloned()
    }

    /// All objects in the order of their keys.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.snapshot().values().cloned().collect()
    }

    /// The objects of one namespace in the order of their names.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.snapshot()
            .range(
                ObjectKey {
                    namespace: namespace.to_owned(),
                    name: String::new(),
                }..,
            )
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// All objects as they are now; later changes do not show. Costs nothing.
    #[must_use]
    pub fn snapshot(&self) -> OrdMap<ObjectKey, Arc<K>> {
        self.inner.objects.read().clone()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.objects.read().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.objects.read().is_empty()
    }

    /// An index over everything in the store, now and later: `values_of` says under which values an object is found.
    /// It is kept as long as the returned handle or a clone of it lives.
    pub fn index(&self, values_of: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Index<K> {
        let state = Arc::new(IndexState {
            values_of: Box::new(values_of),
            keys: RwLock::default(),
        });
        let mut indexes = self.inner.indexes.lock();
        for (key, object) in &self.snapshot() {
            state.replace(key, None, Some(object));
        }
        indexes.push(Arc::downgrade(&state));
        Index {
            state,
            store: self.clone(),
        }
    }

    /// Puts the object in. For tests of what reads stores; an informer's store is fed by the informer alone.
    pub fn insert(&self, object: Arc<K>) -> Option<Arc<K>> {
        let key = object.key();
        self.set(&key, Some(object))
    }

    /// Puts in, or takes out, the object; returns what was there.
    pub(crate) fn set(&self, key: &ObjectKey, object: Option<Arc<K>>) -> Option<Arc<K>> {
        let mut indexes = self.inner.indexes.lock();
        let old = {
            let mut objects = self.inner.objects.write();
            match &object {
                Some(object) => objects.insert(key.clone(), Arc::clone(object)),
                None => objects.remove(key),
            }
        };
        indexes.retain(|index| {
            index
                .upgrade()
                .map(|index| index.replace(key, old.as_deref(), object.as_deref()))
                .is_some()
        });
        old
    }
}

/// Finds a store's objects by a value.
pub struct Index<K> {
    state: Arc<IndexState<K>>,
    store: Store<K>,
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            store: self.store.clone(),
        }
    }
}

impl<K> fmt::Debug for Index<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("values", &self.state.keys.read().len())
            .finish()
    }
}

impl<K: Object> Index<K> {
    /// The objects under the value, in the order of their keys.
    #[must_use]
    pub fn get(&self, value: &str) -> Vec<Arc<K>> {
        let keys = self.keys(value);
        keys.iter().filter_map(|key| self.store.get(key)).collect()
    }

    /// The keys under the value, in order.
    #[must_use]
    pub fn keys(&self, value: &str) -> Vec<ObjectKey> {
        self.state
            .keys
            .read()
            .get(value)
            .map(|keys| keys.iter().cloned().collect())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, PodSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn pod(namespace: &str, name: &str, node: &str) -> Arc<Pod> {
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some(node.to_owned()),
                ..PodSpec::default()
            }),
            status: None,
        })
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| pod.name()).collect()
    }

    fn node_of(pod: &Pod) -> Vec<String> {
        pod.spec
            .iter()
            .filter_map(|spec| spec.node_name.clone())
            .collect()
    }

    #[test]
    fn namespace_is_a_range_of_the_order() {
        let store = Store::empty();
        for (namespace, name) in [("b", "2"), ("a", "9"), ("b", "1"), ("bb", "0"), ("c", "3")] {
            store.insert(pod(namespace, name, "n"));
        }
        assert_eq!(names(&store.in_namespace("b")), ["1", "2"]);
        assert_eq!(names(&store.list()), ["9", "1", "2", "0", "3"]);
    }

    #[test]
    fn index_follows_changes_and_covers_what_was_there() {
        let store = Store::empty();
        store.insert(pod("a", "old", "n1"));
        let by_node = store.index(node_of);
        store.insert(pod("a", "new", "n1"));
        assert_eq!(names(&by_node.get("n1")), ["new", "old"]);
        store.insert(pod("a", "old", "n2"));
        assert_eq!(names(&by_node.get("n1")), ["new"]);
        assert_eq!(names(&by_node.get("n2")), ["old"]);
        store.set(
            &ObjectKey {
                namespace: "a".to_owned(),
                name: "old".to_owned(),
            },
            None,
        );
        assert!(by_node.get("n2").is_empty());
    }

    #[test]
    fn an_index_that_nobody_holds_is_forgotten() {
        let store = Store::empty();
        drop(store.index(node_of));
        store.insert(pod("a", "x", "n1"));
        assert!(store.inner.indexes.lock().is_empty());
    }

    #[test]
    fn snapshot_does_not_move() {
        let store = Store::empty();
        store.insert(pod("a", "x", "n1"));
        let snapshot = store.snapshot();
        store.insert(pod("a", "y", "n1"));
        assert_eq!((snapshot.len(), store.len()), (1, 2));
    }
}

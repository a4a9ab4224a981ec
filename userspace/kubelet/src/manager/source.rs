//! What the server asks of pods.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use skep_api::ObjectKey;

use super::{Entry, Manager};
use crate::container_config::log_path;
use crate::observed::Container;
use crate::server::{ContainerRef, LookupError, PodSource};
use crate::spec::spec;

impl Manager {
    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, LookupError> {
        let pod = self.store.get(&ObjectKey::new(namespace, name));
        pod.ok_or_else(|| LookupError::NoPod {
            namespace: namespace.to_owned(),
            pod: name.to_owned(),
        })
    }

    fn with_entry<T>(&self, pod: &Pod, read: impl FnOnce(&Entry) -> T) -> Option<T> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.pods.lock().get(uid).map(read)
    }

    fn log_file(&self, entry: &Entry, container: &Container) -> PathBuf {
        let folder = self.shared.config.log_dir.join(entry.id.log_directory());
        folder.join(log_path(&container.name, container.restart_count))
    }
}

impl PodSource for Manager {
    fn pods(&self) -> Vec<Arc<Pod>> {
        let with_status = |pod: Arc<Pod>| {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            match self.shared.statuses.get(&uid) {
                Some(status) => Arc::new(Pod {
                    status: Some(status),
                    ..Pod::clone(&pod)
                }),
                None => pod,
            }
        };
        self.store.list().into_iter().map(with_status).collect()
    }

    fn container(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        previous: bool,
    ) -> Result<ContainerRef, LookupError> {
        let object = self.pod(namespace, pod)?;
        let first = spec(&object)
            .containers()
            .first()
            .map(|container| container.name.clone());
        let name = container.map(str::to_owned).or(first).unwrap_or_default();
        if spec(&object).container(&name).is_none() {
            return Err(LookupError::NoContainer {
                pod: pod.to_owned(),
                container: name,
            });
        }
        let found = self.with_entry(&object, |entry| {
            let view = entry.view.read();
            let mut attempts = view.containers.iter().filter(|known| known.name == name);
            let wanted = if previous {
                attempts.nth(1)
            } else {
                attempts.next()
            };
            wanted.map(|found| ContainerRef {
                id: found.id.clone(),
                log_path: self.log_file(entry, found),
            })
        });
        found.flatten().ok_or_else(|| match previous {
            true => LookupError::NoPrevious {
                pod: pod.to_owned(),
                container: name.clone(),
            },
            false => LookupError::NotStarted {
                pod: pod.to_owned(),
                reason: self.waiting_reason(&object, &name),
                container: name.clone(),
            },
        })
    }

    fn sandbox(&self, namespace: &str, pod: &str) -> Result<String, LookupError> {
        let object = self.pod(namespace, pod)?;
        let found = self.with_entry(&object, |entry| {
            entry.view.read().sandbox().map(|sandbox| sandbox.id.clone())
        });
        found.flatten().ok_or_else(|| LookupError::NoSandbox {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
        })
    }

    fn is_running(&self, container_id: &str) -> bool {
        let pods = self.pods.lock();
        pods.values().any(|entry| {
            entry
                .view
                .read()
                .running()
                .any(|container| container.id == container_id)
        })
    }
}

impl Manager {
    fn waiting_reason(&self, pod: &Pod, container: &str) -> String {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let status = self.shared.statuses.get(uid).unwrap_or_default();
        let statuses = status.container_statuses.into_iter().flatten();
        let mut all = statuses.chain(status.init_container_statuses.into_iter().flatten());
        let found = all.find(|status| status.name == container);
        let waiting = found
            .and_then(|status| status.state)
            .and_then(|state| state.waiting);
        waiting
            .and_then(|waiting| waiting.reason)
            .unwrap_or_else(|| "ContainerCreating".to_owned())
    }
}

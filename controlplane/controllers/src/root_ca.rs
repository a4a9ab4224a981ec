//! Publishes the cluster's CA in every namespace, for pods to trust the API server by.

use crate::context::{Context, Task, namespace_is_terminating};
use crate::service_account::is_active;
use futures::FutureExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_client::Client;
use skep_runtime::{Action, InformerOptions};
use std::collections::BTreeMap;
use std::sync::Arc;

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using \
internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
distributions of Kubernetes clusters.";

pub(crate) fn controller(context: &Context) -> Task {
    if context.config.root_ca_pem.is_empty() {
        // Nothing to publish, and no reason to end the others.
        return context.shutdown.clone().cancelled_owned().boxed();
    }
    let queue = context.queue::<String>("root_ca_cert_publisher");
    let namespaces = context.informers.all::<Namespace>();
    let only = InformerOptions {
        field_selector: Some(format!("metadata.name={NAME}")),
        ..Default::default()
    };
    let maps = context.informers.informer::<ConfigMap>(only);
    namespaces.feed(&queue, |namespace| vec![namespace.name().to_owned()]);
    maps.feed(&queue, |map| vec![map.namespace().to_owned()]);
    let (client, config) = (context.client.clone(), context.config.clone());
    let (namespaces, maps) = (namespaces.store(), maps.store());
    context.reconcile(queue, 1, move |name| {
        let namespace = namespaces.get(&ObjectKey::cluster(&name));
        let current = maps.get(&ObjectKey::new(&name, NAME));
        let (client, config) = (client.clone(), config.clone());
        async move {
            if namespace.is_some_and(|namespace| is_active(&namespace)) {
                publish(&client, &name, current, &config.root_ca_pem).await?;
            }
            Ok(Action::Done)
        }
    })
}

async fn publish(
    client: &Client,
    namespace: &str,
    current: Option<Arc<ConfigMap>>,
    pem: &str,
) -> Result<(), ApiError> {
    let Some(wanted) = plan(namespace, current.as_deref(), pem) else {
        return Ok(());
    };
    if current.is_some() {
        return client.update(&wanted).await.map(drop);
    }
    match client.create(&wanted).await {
        Err(error) if !error.is_already_exists() && !namespace_is_terminating(&error) => Err(error),
        _ => Ok(()),
    }
}

/// The object to write; None: it is so already.
fn plan(namespace: &str, current: Option<&ConfigMap>, pem: &str) -> Option<ConfigMap> {
    let data = Some(BTreeMap::from([(FILE.to_owned(), pem.to_owned())]));
    let described = |map: &ConfigMap| {
        map.annotations()
            .get(DESCRIPTION)
            .is_some_and(|text| text == DESCRIPTION_TEXT)
    };
    if current.is_some_and(|current| current.data == data && described(current)) {
        return None;
    }
    let mut wanted = current.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..Default::default()
        },
        ..Default::default()
    });
    wanted.data = data;
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    annotations.insert(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned());
    Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ControllersConfig;
    use crate::testing::{Bench, object};
    use serde_json::json;
    use skep_client::testing::FakeTransport;

    #[test]
    fn only_differences_are_written() {
        let first = plan("a", None, "PEM").unwrap();
        assert_eq!(plan("a", Some(&first), "PEM"), None);
        assert_eq!(plan("a", Some(&first), "NEW").unwrap().data.unwrap()[FILE], "NEW");
        let mut bare = first.clone();
        bare.metadata.annotations = None;
        assert_eq!(plan("a", Some(&bare), "PEM"), Some(first));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_map_is_put_right() {
        let api = FakeTransport::new();
        api.put::<Namespace>(&object(json!({ "metadata": { "name": "a" } })));
        let config = ControllersConfig {
            root_ca_pem: "PEM".to_owned(),
            ..Default::default()
        };
        let bench = Bench::start(api, config, |context| vec![controller(context)]);
        let key = ObjectKey::new("a", NAME);
        let right = |api: &FakeTransport| {
            api.get::<ConfigMap>(&key)
                .and_then(|map| map.data)
                .is_some_and(|data| data[FILE] == "PEM")
        };
        bench.until("published", right).await;
        let mut map = bench.api.get::<ConfigMap>(&key).unwrap();
        map.data
            .as_mut()
            .unwrap()
            .insert(FILE.to_owned(), "other".to_owned());
        bench.api.put(&map);
        bench.until("put right", right).await;
        bench.api.remove::<ConfigMap>(&key);
        bench.until("put back", right).await;
        bench.stop().await;
    }
}

//! Every namespace has a ServiceAccount `default`.

use crate::context::{Context, Task, namespace_is_terminating};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_client::Client;
use skep_runtime::{Action, Change};

const NAME: &str = "default";

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue::<String>("serviceaccount");
    let namespaces = context.informers.all::<Namespace>();
    let accounts = context.informers.all::<ServiceAccount>();
    namespaces.feed(&queue, |namespace| vec![namespace.name().to_owned()]);
    let lost = queue.clone();
    accounts.on_change(move |change| {
        if let Change::Deleted(account) = change
            && account.name() == NAME
        {
            lost.add(account.namespace().to_owned());
        }
    });
    let (client, namespaces, accounts) = (context.client.clone(), namespaces.store(), accounts.store());
    context.reconcile(queue, 1, move |name| {
        let namespace = namespaces.get(&ObjectKey::cluster(&name));
        let missing = accounts.get(&ObjectKey::new(&name, NAME)).is_none();
        let client = client.clone();
        async move {
            if missing && namespace.is_some_and(|namespace| is_active(&namespace)) {
                create(&client, &name).await?;
            }
            Ok(Action::Done)
        }
    })
}

pub(crate) fn is_active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
}

async fn create(client: &Client, namespace: &str) -> Result<(), ApiError> {
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..Default::default()
        },
        ..Default::default()
    };
    match client.create(&account).await {
        Err(error) if !error.is_already_exists() && !namespace_is_terminating(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, object};
    use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
    use serde_json::json;
    use skep_api::ObjectKey;
    use skep_client::testing::FakeTransport;

    #[tokio::test(start_paused = true)]
    async fn active_namespaces_have_one_and_get_it_again() {
        let api = FakeTransport::new();
        api.put::<Namespace>(&object(json!({ "metadata": { "name": "a" } })));
        api.put::<Namespace>(&object(
            json!({ "metadata": { "name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
        ));
        let bench = Bench::start(api, Default::default(), |context| {
            vec![super::controller(context)]
        });
        let key = ObjectKey::new("a", "default");
        bench
            .until("it is there", |api| api.get::<ServiceAccount>(&key).is_some())
            .await;
        bench.api.remove::<ServiceAccount>(&key);
        bench
            .until("again", |api| api.get::<ServiceAccount>(&key).is_some())
            .await;
        bench.settle(std::time::Duration::from_secs(5)).await;
        assert_eq!(bench.api.all::<ServiceAccount>().len(), 1);
        bench.stop().await;
    }
}

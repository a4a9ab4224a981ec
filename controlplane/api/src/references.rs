//! The config maps and secrets that a pod refers to: those that its kubelet reads, and may.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

/// Names in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

impl References {
    /// Of volumes, variables and image pull secrets.
    pub fn of(pod: &Pod) -> Self {
        let mut references = Self::default();
        let Some(spec) = &pod.spec else {
            return references;
        };
        for volume in spec.volumes.iter().flatten() {
            references.add_volume(volume);
        }
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            references.add_variables(container);
        }
        let pull_secrets = spec.image_pull_secrets.iter().flatten();
        references
            .secrets
            .extend(pull_secrets.map(|secret| secret.name.clone()));
        references
    }

    fn add_volume(&mut self, volume: &Volume) {
        let config_map = volume.config_map.iter().map(|source| source.name.clone());
        self.config_maps.extend(config_map);
        let secret = volume
            .secret
            .iter()
            .filter_map(|source| source.secret_name.clone());
        self.secrets.extend(secret);
        let projected = volume.projected.iter().flat_map(|source| &source.sources);
        for part in projected.flatten() {
            let config_map = part.config_map.iter().map(|source| source.name.clone());
            self.config_maps.extend(config_map);
            let secret = part.secret.iter().map(|source| source.name.clone());
            self.secrets.extend(secret);
        }
    }

    fn add_variables(&mut self, container: &Container) {
        for source in container.env_from.iter().flatten() {
            let config_map = source.config_map_ref.iter().map(|source| source.name.clone());
            self.config_maps.extend(config_map);
            let secret = source.secret_ref.iter().map(|source| source.name.clone());
            self.secrets.extend(secret);
        }
        let variables = container.env.iter().flatten();
        for source in variables.filter_map(|variable| variable.value_from.as_ref()) {
            let config_map = source.config_map_key_ref.iter().map(|key| key.name.clone());
            self.config_maps.extend(config_map);
            let secret = source.secret_key_ref.iter().map(|key| key.name.clone());
            self.secrets.extend(secret);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_way_to_refer_counts() {
        let pod = json!({"spec": {
            "volumes": [
                {"name": "a", "configMap": {"name": "m1"}},
                {"name": "b", "secret": {"secretName": "s1"}},
                {"name": "c", "projected": {"sources": [
                    {"configMap": {"name": "m2"}}, {"secret": {"name": "s2"}}, {"downwardAPI": {}},
                ]}},
                {"name": "d", "emptyDir": {}},
            ],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "m3"}}, {"secretRef": {"name": "s3"}}]}],
            "containers": [{"name": "c", "env": [
                {"name": "A", "value": "plain"},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "m4", "key": "k"}}},
                {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s4", "key": "k"}}},
                {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ]}],
            "imagePullSecrets": [{"name": "s5"}],
        }});
        let references = References::of(&serde_json::from_value(pod).expect("pod"));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            references,
            References {
                config_maps: names(&["m1", "m2", "m3", "m4"]),
                secrets: names(&["s1", "s2", "s3", "s4", "s5"]),
            }
        );
        assert_eq!(References::of(&Pod::default()), References::default());
    }
}

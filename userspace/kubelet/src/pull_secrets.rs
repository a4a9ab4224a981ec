//! Credentials for pulling images, from the pod's `imagePullSecrets`. Pure.

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use skep_cri::v1;
use std::collections::HashMap;

use crate::env::Referenced;
use crate::spec::spec;

#[derive(Deserialize, Default)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Deserialize, Default, Clone)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

/// The names of the secrets.
fn references(pod: &Pod) -> Vec<String> {
    let list = spec(pod)
        .get()
        .and_then(|spec| spec.image_pull_secrets.as_deref())
        .unwrap_or_default();
    list.iter().map(|reference| reference.name.clone()).collect()
}

/// The credentials for an image's registry, if any secret has them.
pub(crate) fn auth_for(pod: &Pod, referenced: &Referenced, image: &str) -> Option<v1::AuthConfig> {
    let registry = registry_of(image);
    for name in references(pod) {
        let Ok(data) = referenced.secret_data(&name) else {
            continue;
        };
        let config = if let Some(json) = data.get(".dockerconfigjson") {
            serde_json::from_slice::<DockerConfig>(json).ok()
        } else {
            let old = data
                .get(".dockercfg")
                .and_then(|json| serde_json::from_slice(json).ok());
            old.map(|auths| DockerConfig { auths })
        };
        let entries = config.unwrap_or_default().auths;
        let found = entries
            .into_iter()
            .find(|(server, _)| registry_of_server(server) == registry);
        if let Some((server, entry)) = found {
            return Some(v1::AuthConfig {
                username: entry.username,
                password: entry.password,
                auth: entry.auth,
                server_address: server,
                identity_token: entry.identity_token,
                registry_token: String::new(),
            });
        }
    }
    None
}

/// The host part of an image's name; a name without one is Docker's.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

fn registry_of_server(server: &str) -> &str {
    let host = server.split_once("://").map_or(server, |(_, rest)| rest);
    match host.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_belong_to_registries() {
        assert_eq!(registry_of("busybox"), "docker.io");
        assert_eq!(registry_of("library/busybox:1"), "docker.io");
        assert_eq!(registry_of("host:5000/a/b"), "host:5000");
        assert_eq!(registry_of_server("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(registry_of_server("host:5000"), "host:5000");
    }
}

//! Environment variables: values, references, expansion, services. Pure: the objects are arguments.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret, Service,
};
use skep_api::{ObjectExt, Quantity};

use crate::spec::{self, spec};

/// The objects that a pod refers to, by name; `None` where one does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Referenced {
    pub(crate) config_maps: HashMap<String, Option<std::sync::Arc<ConfigMap>>>,
    pub(crate) secrets: HashMap<String, Option<std::sync::Arc<Secret>>>,
}

/// Why a value cannot be had.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub(crate) enum ValueError {
    #[error("{kind} \"{name}\" not found")]
    ObjectMissing { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    KeyMissing {
        kind: &'static str,
        namespace: String,
        name: String,
        key: String,
    },
    #[error("{path} is no field that pods can be asked for")]
    UnknownField { path: String },
    #[error("{kind} {name}: the value of {key} is no text")]
    NotText {
        kind: &'static str,
        name: String,
        key: String,
    },
}

impl Referenced {
    fn config_map(&self, name: &str) -> Option<&ConfigMap> {
        self.config_maps.get(name)?.as_deref()
    }

    fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)?.as_deref()
    }

    /// The contents of a config map.
    pub(crate) fn config_map_data(&self, name: &str) -> Result<BTreeMap<String, Vec<u8>>, ValueError> {
        let object = self.config_map(name).ok_or_else(|| missing("configmap", name))?;
        let text = object
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
        let bytes = object
            .binary_data
            .iter()
            .flatten()
            .map(|(key, ByteString(value))| (key.clone(), value.clone()));
        Ok(text.chain(bytes).collect())
    }

    /// The contents of a secret.
    pub(crate) fn secret_data(&self, name: &str) -> Result<BTreeMap<String, Vec<u8>>, ValueError> {
        let object = self.secret(name).ok_or_else(|| missing("secret", name))?;
        let bytes = object
            .data
            .iter()
            .flatten()
            .map(|(key, ByteString(value))| (key.clone(), value.clone()));
        Ok(bytes.collect())
    }
}

fn missing(kind: &'static str, name: &str) -> ValueError {
    ValueError::ObjectMissing {
        kind,
        name: name.to_owned(),
    }
}

/// What values of the pod's own come from.
pub(crate) struct PodFacts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) node_name: &'a str,
    pub(crate) host_ips: &'a [String],
    pub(crate) pod_ips: &'a [String],
    /// What a container without a limit is limited by.
    pub(crate) allocatable: &'a BTreeMap<String, Quantity>,
}

/// The value of a field of the pod.
pub(crate) fn field(facts: &PodFacts<'_>, selector: &ObjectFieldSelector) -> Result<String, ValueError> {
    let path = selector.field_path.as_str();
    let meta = &facts.pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => {
                return Err(ValueError::UnknownField {
                    path: path.to_owned(),
                });
            }
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => facts.pod.name().to_owned(),
        "metadata.namespace" => facts.pod.namespace().to_owned(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.to_owned(),
        "spec.serviceAccountName" => spec(facts.pod)
            .get()
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => {
            return Err(ValueError::UnknownField {
                path: path.to_owned(),
            });
        }
    })
}

/// `metadata.labels['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, rest))
}

/// A map as a file of the downward API: `key="value"` lines in the keys' order.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

/// The value of a container's resource, in units of the divisor, rounded up.
pub(crate) fn resource(
    facts: &PodFacts<'_>,
    owner: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, ValueError> {
    let unknown = || ValueError::UnknownField {
        path: selector.resource.clone(),
    };
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        Some(name) => spec(facts.pod).container(name),
        None => owner,
    };
    let container = container.ok_or_else(unknown)?;
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let resources = container.resources.as_ref();
    let amount = match kind {
        "limits" => spec::limit(resources, name).or_else(|| facts.allocatable.get(name).copied()),
        "requests" => spec::request(resources, name),
        _ => return Err(unknown()),
    };
    let amount = amount.unwrap_or(Quantity::ZERO);
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(|wire| wire.0.parse::<Quantity>().ok());
    let divisor = divisor
        .filter(|divisor| !divisor.is_zero())
        .unwrap_or(Quantity::from_units(1));
    let (amount, divisor) = match name {
        "cpu" => (amount.milli_value(), divisor.milli_value()),
        _ => (amount.value(), divisor.value()),
    };
    let divisor = divisor.max(1);
    Ok((amount / divisor + i64::from(amount % divisor > 0)).to_string())
}

/// All variables of a container, in order; later ones replace earlier ones of the same name.
pub(crate) fn variables(
    facts: &PodFacts<'_>,
    container: &Container,
    referenced: &Referenced,
    services: &[std::sync::Arc<Service>],
) -> Result<Vec<(String, String)>, ValueError> {
    let mut list = Variables::default();
    let namespace = facts.pod.namespace();
    let links = spec(facts.pod)
        .get()
        .and_then(|spec| spec.enable_service_links)
        .unwrap_or(true);
    let mut from_services = Variables::default();
    service_variables(namespace, links, services, &mut from_services);
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (data, optional, kind, name) = if let Some(reference) = &source.config_map_ref {
            (
                referenced.config_map_data(&reference.name),
                reference.optional,
                "configmap",
                &reference.name,
            )
        } else if let Some(reference) = &source.secret_ref {
            (
                referenced.secret_data(&reference.name),
                reference.optional,
                "secret",
                &reference.name,
            )
        } else {
            continue;
        };
        let data = match data {
            Ok(data) => data,
            Err(_) if optional == Some(true) => continue,
            Err(error) => return Err(error),
        };
        for (key, value) in data {
            list.set(format!("{prefix}{key}"), text(value, kind, name, &key)?);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => match from(facts, container, referenced, source)? {
                Some(value) => value,
                None => continue,
            },
            (value, None) => {
                let known = |name: &str| list.get(name).or_else(|| from_services.get(name));
                expand(value.as_deref().unwrap_or_default(), known)
            }
        };
        list.set(variable.name.clone(), value);
    }
    for (name, value) in from_services.0 {
        if list.get(&name).is_none() {
            list.set(name, value);
        }
    }
    Ok(list.0)
}

#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A referenced value; none if it is optional and absent.
fn from(
    facts: &PodFacts<'_>,
    container: &Container,
    referenced: &Referenced,
    source: &EnvVarSource,
) -> Result<Option<String>, ValueError> {
    if let Some(selector) = &source.field_ref {
        return field(facts, selector).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource(facts, Some(container), selector).map(Some);
    }
    let (data, kind, name, key, optional) = if let Some(selector) = &source.config_map_key_ref {
        let data = referenced.config_map_data(&selector.name);
        (
            data,
            "ConfigMap",
            &selector.name,
            &selector.key,
            selector.optional,
        )
    } else if let Some(selector) = &source.secret_key_ref {
        let data = referenced.secret_data(&selector.name);
        (data, "Secret", &selector.name, &selector.key, selector.optional)
    } else {
        return Ok(None);
    };
    let optional = optional == Some(true);
    let mut data = match data {
        Ok(data) => data,
        Err(_) if optional => return Ok(None),
        Err(error) => return Err(error),
    };
    match data.remove(key) {
        Some(value) => text(value, kind, name, key).map(Some),
        None if optional => Ok(None),
        None => Err(ValueError::KeyMissing {
            kind,
            namespace: facts.pod.namespace().to_owned(),
            name: name.clone(),
            key: key.clone(),
        }),
    }
}

fn text(value: Vec<u8>, kind: &'static str, name: &str, key: &str) -> Result<String, ValueError> {
    String::from_utf8(value).map_err(|_not_text| ValueError::NotText {
        kind,
        name: name.to_owned(),
        key: key.to_owned(),
    })
}

/// Replaces `$(NAME)` by the variable's value; `$$` is a dollar sign; unknown names stay as written.
pub(crate) fn expand<'a>(text: &str, known: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        out.push_str(&rest[..position]);
        let after = &rest[position + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Expands `$(NAME)` in a command by a container's variables.
pub(crate) fn expand_all(list: Option<&Vec<String>>, variables: &[(String, String)]) -> Vec<String> {
    let known = |name: &str| {
        let mut found = variables.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    };
    list.into_iter()
        .flatten()
        .map(|text| expand(text, known))
        .collect()
}

/// The variables that name the services of the pod's namespace, and the API's own in any case.
fn service_variables(
    namespace: &str,
    links: bool,
    services: &[std::sync::Arc<Service>],
    list: &mut Variables,
) {
    for service in services {
        let api = service.namespace() == "default" && service.name() == "kubernetes";
        let linked = links && service.namespace() == namespace;
        let spec = service.spec.clone().unwrap_or_default();
        let ip = spec.cluster_ip.filter(|ip| !ip.is_empty() && ip != "None");
        let (Some(ip), true) = (ip, api || linked) else {
            continue;
        };
        let ports = spec.ports.unwrap_or_default();
        let Some(first) = ports.first() else {
            continue;
        };
        let prefix = service.name().to_uppercase().replace('-', "_");
        list.set(format!("{prefix}_SERVICE_HOST"), ip.clone());
        list.set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        for port in &ports {
            if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let name = name.to_uppercase().replace('-', "_");
                list.set(format!("{prefix}_SERVICE_PORT_{name}"), port.port.to_string());
            }
        }
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.clone()
        };
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
            if index == 0 {
                list.set(format!("{prefix}_PORT"), url.clone());
            }
            let port_prefix = format!("{prefix}_PORT_{}_{protocol}", port.port);
            list.set(port_prefix.clone(), url);
            list.set(format!("{port_prefix}_PROTO"), protocol.to_lowercase());
            list.set(format!("{port_prefix}_PORT"), port.port.to_string());
            list.set(format!("{port_prefix}_ADDR"), ip.clone());
        }
    }
}

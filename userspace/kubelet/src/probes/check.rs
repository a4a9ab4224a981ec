//! One look at a container.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use skep_cri::{Runtime, RuntimeErrorKind};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::http::{self, HttpTarget};

/// The most of a command's output that an event shows.
const MAX_OUTPUT_BYTES: usize = 1024;

/// What is looked at.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Http(HttpTarget),
    Tcp {
        host: String,
        port: u16,
    },
    Exec {
        container_id: String,
        command: Vec<String>,
    },
    /// What cannot be looked at, and why.
    Impossible(String),
}

/// What was seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    Passed,
    Failed(String),
}

impl Verdict {
    pub(super) fn passed(&self) -> bool {
        *self == Self::Passed
    }
}

impl Target {
    /// Works out what a probe means for a container.
    pub(super) fn new(
        container: &Container,
        probe: &Probe,
        pod_ip: Option<IpAddr>,
        container_id: &str,
    ) -> Self {
        let host = |given: Option<&String>| match (given.filter(|host| !host.is_empty()), pod_ip) {
            (Some(host), _) => Ok(host.clone()),
            (None, Some(ip)) => Ok(ip.to_string()),
            (None, None) => Err("the pod has no address yet".to_owned()),
        };
        let target = if let Some(exec) = &probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            Ok(Self::Exec {
                container_id: container_id.to_owned(),
                command,
            })
        } else if let Some(action) = &probe.http_get {
            host(action.host.as_ref()).and_then(|host| http_target(container, action, host))
        } else if let Some(action) = &probe.tcp_socket {
            let port = port(container, &action.port);
            host(action.host.as_ref()).and_then(|host| Ok(Self::Tcp { host, port: port? }))
        } else if probe.grpc.is_some() {
            Err("gRPC probes are not supported by this kubelet: use an HTTP, TCP or exec probe".to_owned())
        } else {
            Err("the probe has no handler".to_owned())
        };
        target.unwrap_or_else(Self::Impossible)
    }

    /// Looks once.
    pub(super) async fn check(&self, runtime: &dyn Runtime, patience: Duration) -> Verdict {
        match self {
            Self::Http(target) => match timeout(patience, http::get(target)).await {
                Ok(verdict) => verdict,
                Err(_elapsed) => Verdict::Failed(format!("Get \"{target}\": context deadline exceeded")),
            },
            Self::Tcp { host, port } => {
                match timeout(patience, TcpStream::connect((host.as_str(), *port))).await {
                    Ok(Ok(_)) => Verdict::Passed,
                    Ok(Err(error)) => Verdict::Failed(format!("dial tcp {host}:{port}: {error}")),
                    Err(_elapsed) => Verdict::Failed(format!("dial tcp {host}:{port}: i/o timeout")),
                }
            }
            Self::Exec {
                container_id,
                command,
            } => exec(runtime, container_id, command, patience).await,
            Self::Impossible(why) => Verdict::Failed(why.clone()),
        }
    }
}

async fn exec(runtime: &dyn Runtime, container_id: &str, command: &[String], patience: Duration) -> Verdict {
    match runtime.exec_sync(container_id, command.to_vec(), patience).await {
        Ok(response) if response.exit_code == 0 => Verdict::Passed,
        Ok(response) => {
            let mut output = response.stdout;
            output.extend(response.stderr);
            output.truncate(MAX_OUTPUT_BYTES);
            Verdict::Failed(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.kind == RuntimeErrorKind::DeadlineExceeded => Verdict::Failed(format!(
            "command timed out: \"{}\" timed out after {patience:?}",
            command.join(" ")
        )),
        Err(error) => Verdict::Failed(error.to_string()),
    }
}

fn http_target(container: &Container, action: &HTTPGetAction, host: String) -> Result<Target, String> {
    let path = action.path.as_deref().unwrap_or("/");
    let headers = action.http_headers.iter().flatten();
    Ok(Target::Http(HttpTarget {
        tls: action
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("HTTPS")),
        host,
        port: port(container, &action.port)?,
        path: if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        },
        headers: headers
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    }))
}

/// A port by number, or by its name among the container's ports.
fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports
                .find(|port| port.name.as_ref() == Some(name))
                .map(|port| port.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| {
            let port = match port {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(name) => name.clone(),
            };
            format!("container {} has no port {port}", container.name)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container() -> Container {
        serde_json::from_value(json!({ "name": "c", "ports": [{ "name": "web", "containerPort": 8080 }] }))
            .unwrap()
    }

    fn target(probe: serde_json::Value) -> Target {
        let probe = serde_json::from_value(probe).unwrap();
        Target::new(&container(), &probe, Some("10.0.0.7".parse().unwrap()), "id")
    }

    #[test]
    fn named_ports_are_the_containers_and_the_host_is_the_pods() {
        let Target::Http(http) = target(json!({ "httpGet": { "port": "web", "path": "x" } })) else {
            panic!("not http")
        };
        assert_eq!(http.to_string(), "http://10.0.0.7:8080/x");
        let Target::Tcp { host, port } = target(json!({ "tcpSocket": { "port": 81, "host": "h" } })) else {
            panic!("not tcp")
        };
        assert_eq!((host.as_str(), port), ("h", 81));
    }

    #[test]
    fn what_cannot_be_probed_says_why() {
        for (probe, word) in [
            (json!({ "httpGet": { "port": "nope" } }), "no port nope"),
            (json!({ "tcpSocket": { "port": 0 } }), "no port 0"),
            (json!({ "grpc": { "port": 1 } }), "gRPC"),
            (json!({}), "no handler"),
        ] {
            let Target::Impossible(why) = target(probe) else {
                panic!("possible")
            };
            assert!(why.contains(word), "{why}");
        }
    }
}

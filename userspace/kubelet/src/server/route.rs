//! Paths and queries of the kubelet's server, as upstream's API server sends them.

use std::time::Duration;

use http::{StatusCode, Uri};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

/// What is asked for.
#[derive(Debug, PartialEq)]
pub(super) enum Route {
    Healthz,
    Metrics,
    Pods,
    Logs(Target, LogOptions),
    Exec(Target, Streams),
    Attach(Target, Streams),
    PortForward(Target, Vec<u16>),
}

/// A pod, or a container of it.
#[derive(Debug, PartialEq)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// Absent for port-forward.
    pub(super) container: Option<String>,
}

/// Which part of a log is wanted.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LogOptions {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    pub(super) tail_lines: Option<u64>,
    pub(super) limit_bytes: Option<u64>,
    pub(super) since: Option<Since>,
}

/// The start of the wanted part.
#[derive(Debug, PartialEq)]
pub(super) enum Since {
    Ago(Duration),
    Time(Timestamp),
}

/// What of a process is streamed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Streams {
    pub(super) command: Vec<String>,
    pub(super) input: bool,
    pub(super) output: bool,
    pub(super) error: bool,
    pub(super) tty: bool,
}

/// Why a request makes no sense.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Route {
    /// Reads a request's path and query.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Refusal> {
        let segments: Vec<String> = uri.path().trim_matches('/').split('/').map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let query = Query::of(uri);
        let target = |namespace: &str, pod: &str, container: Option<&str>| Target {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: container.map(str::to_owned),
        };
        Ok(match segments.as_slice() {
            ["healthz"] => Self::Healthz,
            ["metrics"] => Self::Metrics,
            ["pods"] => Self::Pods,
            ["containerLogs", namespace, pod, container] => {
                Self::Logs(target(namespace, pod, Some(container)), query.log_options()?)
            }
            ["exec", namespace, pod, container] => {
                let streams = query.streams();
                if streams.command.is_empty() {
                    return Err(bad("you must specify at least 1 command"));
                }
                Self::Exec(target(namespace, pod, Some(container)), streams)
            }
            ["attach", namespace, pod, container] => {
                Self::Attach(target(namespace, pod, Some(container)), query.streams())
            }
            ["portForward", namespace, pod] => {
                Self::PortForward(target(namespace, pod, None), query.ports()?)
            }
            _ => {
                return Err(Refusal {
                    status: StatusCode::NOT_FOUND,
                    message: format!("no such path: {}\n", uri.path()),
                });
            }
        })
    }
}

/// The pairs of a query, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri) -> Self {
        let text = uri.query().unwrap_or_default();
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> bool {
        self.all(name).any(|value| matches!(value, "1" | "true"))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let parse = |value: &str| {
            value
                .parse()
                .map_err(|_not_a_number| bad(&format!("{name}={value} is no number")))
        };
        self.all(name).next().map(parse).transpose()
    }

    fn streams(&self) -> Streams {
        Streams {
            command: self.all("command").map(str::to_owned).collect(),
            input: self.flag("input") || self.flag("stdin"),
            output: self.flag("output") || self.flag("stdout"),
            error: self.flag("error") || self.flag("stderr"),
            tty: self.flag("tty"),
        }
    }

    fn ports(&self) -> Result<Vec<u16>, Refusal> {
        let values = self
            .all("port")
            .chain(self.all("ports"))
            .flat_map(|value| value.split(','));
        values
            .map(|value| {
                value
                    .parse()
                    .map_err(|_not_a_port| bad(&format!("{value} is no port")))
            })
            .collect()
    }

    fn log_options(&self) -> Result<LogOptions, Refusal> {
        let since = match (self.number("sinceSeconds")?, self.all("sinceTime").next()) {
            (Some(_), Some(_)) => {
                return Err(bad("at most one of sinceTime or sinceSeconds may be specified"));
            }
            (Some(seconds), None) => Some(Since::Ago(Duration::from_secs(seconds))),
            (None, Some(text)) => {
                let time = text
                    .parse()
                    .map_err(|_not_a_time| bad(&format!("sinceTime={text} is no RFC 3339 time")))?;
                Some(Since::Time(time))
            }
            (None, None) => None,
        };
        Ok(LogOptions {
            follow: self.flag("follow"),
            previous: self.flag("previous"),
            timestamps: self.flag("timestamps"),
            tail_lines: self.number("tailLines")?,
            limit_bytes: self.number("limitBytes")?,
            since,
        })
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn bad(message: &str) -> Refusal {
    Refusal {
        status: StatusCode::BAD_REQUEST,
        message: format!("{message}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Result<Route, Refusal> {
        Route::parse(&uri.parse().unwrap())
    }

    #[test]
    fn commands_keep_their_order_and_their_bytes() {
        let Ok(Route::Exec(target, streams)) =
            parse("/exec/default/a/b?command=sh&command=-c&command=echo+%22a%26b%22&output=1&error=1&tty=1")
        else {
            panic!("not an exec");
        };
        assert_eq!(
            (target.pod.as_str(), target.container.as_deref()),
            ("a", Some("b"))
        );
        assert_eq!(streams.command, ["sh", "-c", "echo \"a&b\""]);
        assert!(streams.output && streams.error && streams.tty && !streams.input);
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        for uri in [
            "/exec/default/a/b",
            "/containerLogs/n/p/c?tailLines=x",
            "/portForward/n/p?port=70000",
        ] {
            assert_eq!(parse(uri).unwrap_err().status, StatusCode::BAD_REQUEST, "{uri}");
        }
        for uri in ["/", "/exec/default/a", "/run/x", "/containerLogs/a/b/c/d"] {
            assert_eq!(parse(uri).unwrap_err().status, StatusCode::NOT_FOUND, "{uri}");
        }
    }

    #[test]
    fn log_options_are_read() {
        let Ok(Route::Logs(_, options)) =
            parse("/containerLogs/n/p/c?follow=true&tailLines=5&sinceSeconds=10")
        else {
            panic!("not logs");
        };
        assert!(options.follow && options.tail_lines == Some(5));
        assert_eq!(options.since, Some(Since::Ago(Duration::from_secs(10))));
    }
}

//! `skep service explain`.

mod client;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use skep_abi::{Counter, FrontendFlags, FrontendValue, PodRange, Protocol, Scope};
use skep_loader::{Explanation, Outcome, Question, Share, Snapshot, Step, explain};

use super::{Shown, snapshots, words};
use crate::output::{Format, bold, print, table};
use client::Asker;

#[derive(Args)]
pub(crate) struct Options {
    /// What is dialled: ADDRESS:PORT, TCP unless /udp or /sctp follows
    target: Target,
    /// Who dials: a pod (NAMESPACE/NAME) or an address [default: a program on the node]
    #[arg(long)]
    from: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

/// `address:port/protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    at: SocketAddr,
    protocol: Protocol,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (at, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::TCP,
            "udp" => Protocol::UDP,
            "sctp" => Protocol::SCTP,
            other => {
                return Err(format!(
                    "{other} is no protocol of Services: use tcp, udp or sctp"
                ));
            }
        };
        let at: Result<SocketAddr, _> = at.parse();
        at.map(|at| Self { at, protocol })
            .map_err(|error| format!("{error}: write 10.96.0.1:443, [fd00::1]:53/udp"))
    }
}

pub(super) fn run(options: &Options) -> Result<()> {
    let place = &options.shown.place;
    let nodes = snapshots(place)?;
    let asker = Asker::find(options.from.as_deref(), place.kubeconfig().as_deref())?;
    let target = &options.target;
    let (node, snapshot) = asker.node_of(&nodes, target.at.ip());
    let client = asker.client(snapshot);
    let question = Question {
        protocol: target.protocol,
        address: target.at.ip().to_canonical(),
        port: target.at.port(),
        client,
    };
    let answer = explain(snapshot, &question);
    let who = asker.describe(snapshot, client);
    match options.shown.output {
        Format::Table => print(&describe(node, snapshot, &question, &who, &answer))?,
        Format::Json => print(&format!(
            "{:#}\n",
            entry(node, snapshot, &question, &who, &answer)
        ))?,
    }
    Ok(())
}

fn describe(node: &str, snapshot: &Snapshot, question: &Question, who: &str, answer: &Explanation) -> String {
    let target = SocketAddr::new(question.address, question.port);
    let title = bold(&format!(
        "{target}/{}, dialled by {who}, on {node}",
        question.protocol
    ));
    let mut text = format!("{title}\n");
    for (number, step) in (1..).zip(&answer.steps) {
        // Writing to a String does not fail.
        let _written = writeln!(text, "  {number}. {}", look_up(step));
    }
    if let Some((_, value)) = answer.frontend {
        let _written = writeln!(text, "  Service {}", service_line(snapshot, &value));
    }
    let _written = writeln!(text, "  {}", verdict(snapshot, answer));
    if let Outcome::Backends(shares) = &answer.outcome {
        let mut rows = table(&["BACKEND", "SHARE", "STATE"], &[1]);
        for share in shares {
            rows.add_row([
                words::end(&share.address, share.port),
                format!("{:.1} %", share.share * 100.0),
                share
                    .backend
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), words::state_column),
            ]);
        }
        let _written = writeln!(text, "{rows}");
    }
    text
}

fn look_up(step: &Step) -> String {
    match step {
        Step::Frontend(key, found) => {
            let whom = if key.scope == Scope::EXTERNAL {
                "frontend for clients outside"
            } else {
                "exact frontend"
            };
            let end = words::end(&key.address, key.port);
            match found {
                Some(value) => format!("{whom} {end}/{}: found, {}", key.protocol, words::kind(value)),
                None => format!("{whom} {end}/{}: none", key.protocol),
            }
        }
        Step::SourceRange(client, Some(prefix)) => {
            format!(
                "source ranges of the Service: {client} is in {}",
                words::prefix(prefix)
            )
        }
        Step::SourceRange(client, None) => format!("source ranges of the Service: {client} is in none"),
        Step::ServiceRange(address, Some(prefix)) => {
            let prefix = words::prefix(prefix);
            format!("service ranges: {address} is in {prefix}, where only Services are")
        }
        Step::ServiceRange(address, None) => format!("service ranges: {address} is in none"),
        Step::PodRange(address, range) => {
            let whose = if range.contains(PodRange::NODE) {
                "has pods of this node"
            } else if range.contains(PodRange::CLUSTER) {
                "has pods of another node"
            } else {
                "has no pods of the cluster"
            };
            format!("pod ranges: that of {address} {whose}")
        }
    }
}

fn service_line(snapshot: &Snapshot, value: &FrontendValue) -> String {
    let name = snapshot.name(value.service);
    let backends = snapshot.port(value.service).map_or(0, |port| port.backends.len());
    format!(
        "{} port {}, reach {}, {backends} backend(s)",
        words::service(name),
        words::port(name),
        words::reach(name)
    )
}

/// What becomes of it, in a sentence.
fn verdict(snapshot: &Snapshot, answer: &Explanation) -> String {
    let local = answer
        .frontend
        .is_some_and(|(_, value)| value.flags.contains(FrontendFlags::LOCAL_ONLY));
    let reason = |counter: Counter| match counter {
        Counter::DropNoBackend if local => {
            let rest = elsewhere(snapshot, answer);
            format!("externalTrafficPolicy is Local, and no ready endpoint is on this node{rest}")
        }
        counter => words::reason(counter).to_owned(),
    };
    match &answer.outcome {
        Outcome::Backends(_) => "A new connection goes to one of these backends:".to_owned(),
        Outcome::LeftAlone => {
            "It is no frontend: it goes to the address itself, as if there were no Skep".to_owned()
        }
        Outcome::LeftToNode(counter) => format!(
            "It is left to the node, which refuses it unless something listens there: {}",
            reason(*counter)
        ),
        Outcome::Refused(counter) => format!("It fails at once with ECONNREFUSED: {}", reason(*counter)),
        Outcome::Dropped(counter) => format!("It is dropped: {}", reason(*counter)),
        Outcome::NotHandled => {
            "It is not handled: this hook knows TCP and UDP, from and to addresses of one family".to_owned()
        }
    }
}

/// How many backends clients inside would have had, where clients outside have none.
fn elsewhere(snapshot: &Snapshot, answer: &Explanation) -> String {
    let inside = answer.steps.iter().find_map(|step| match step {
        Step::Frontend(key, Some(value)) if key.scope == Scope::ANY => Some(value.service),
        _ => None,
    });
    let outside = answer.frontend.map(|(_, value)| value.service);
    let count = inside
        .filter(|inside| Some(*inside) != outside)
        .and_then(|inside| snapshot.port(inside));
    match count.map_or(0, |port| port.backends.len()) {
        0 => String::new(),
        count => format!(" ({count} on other nodes, for clients inside the cluster)"),
    }
}

fn entry(node: &str, snapshot: &Snapshot, question: &Question, who: &str, answer: &Explanation) -> Value {
    let name = answer
        .frontend
        .and_then(|(_, value)| snapshot.name(value.service));
    let (outcome, reason) = match &answer.outcome {
        Outcome::Backends(_) => ("backends", None),
        Outcome::LeftAlone => ("left-alone", None),
        Outcome::LeftToNode(counter) => ("left-to-node", Some(counter.name())),
        Outcome::Refused(counter) => ("refused", Some(counter.name())),
        Outcome::Dropped(counter) => ("dropped", Some(counter.name())),
        Outcome::NotHandled => ("not-handled", None),
    };
    let shares: &[Share] = match &answer.outcome {
        Outcome::Backends(shares) => shares,
        _ => &[],
    };
    let backends = shares.iter().map(|share| {
        json!({
            "address": share.address.to_string(),
            "port": share.port.to_host(),
            "share": share.share,
            "state": share.backend.as_ref().map(words::state),
        })
    });
    json!({
        "node": node,
        "address": question.address.to_string(),
        "port": question.port,
        "protocol": question.protocol.to_string(),
        "client": who,
        "lookups": answer.steps.iter().map(look_up).collect::<Vec<_>>(),
        "service": name.map(|name| words::service(Some(name))),
        "portName": name.map(|name| name.port.as_str()),
        "reach": name.map(|name| words::reach(Some(name))),
        "outcome": outcome,
        "reason": reason,
        "explanation": verdict(snapshot, answer),
        "backends": backends.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use skep_loader::Client;

    use super::*;
    use crate::commands::services::samples::{self, ip};

    fn ask(to: &str, client: Client) -> (String, Value) {
        let snapshot = samples::snapshot();
        let target: Target = to.parse().unwrap();
        let question = Question {
            protocol: target.protocol,
            address: target.at.ip(),
            port: target.at.port(),
            client,
        };
        let answer = explain(&snapshot, &question);
        let text = describe("node1", &snapshot, &question, "somebody", &answer);
        (text, entry("node1", &snapshot, &question, "somebody", &answer))
    }

    #[test]
    fn targets_are_parsed_or_refused_with_an_example() {
        let target = |text: &str| text.parse::<Target>();
        let parsed = target("[fd00:64::a]:53/UDP").unwrap();
        assert_eq!((parsed.at.port(), parsed.protocol), (53, Protocol::UDP));
        assert_eq!(target("10.64.0.7:80").unwrap().protocol, Protocol::TCP);
        assert!(target("10.64.0.7").unwrap_err().contains("10.96.0.1:443"));
        assert!(target("10.64.0.7:80/icmp").unwrap_err().contains("icmp"));
    }

    #[test]
    fn a_socket_is_told_its_backends_and_their_shares() {
        let (text, value) = ask("10.64.0.7:80", Client::Pod(ip("10.128.1.5")));
        for part in [
            "1. exact frontend 10.64.0.7:80/TCP: found, ClusterIP",
            "Service default/web port http",
            "50.0 %",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(value["outcome"], "backends");
        assert_eq!(value["backends"][0]["share"], json!(0.5));
    }

    #[test]
    fn a_policy_without_local_backend_says_where_the_others_are() {
        let (text, value) = ask("172.29.0.11:30080", Client::Packet(ip("192.0.2.1")));
        for part in [
            "2. pod ranges: that of 192.0.2.1 has no pods of the cluster",
            "3. frontend for clients outside 172.29.0.11:30080/TCP: found",
            "It is dropped",
            "externalTrafficPolicy is Local",
            "2 on other nodes",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(
            (&value["outcome"], &value["reason"]),
            (&json!("dropped"), &json!("drop_no_backend"))
        );
    }

    #[test]
    fn an_address_of_the_range_that_nobody_has_is_refused() {
        let (text, value) = ask("10.64.9.9:80", Client::Node);
        assert!(
            text.contains("10.64.9.9 is in 10.64.0.0/16") && text.contains("ECONNREFUSED"),
            "{text}"
        );
        assert_eq!(
            (&value["service"], &value["reason"]),
            (&Value::Null, &json!("socket_no_service"))
        );
        let (text, _) = ask("192.0.2.9:80", Client::Node);
        assert!(text.contains("it goes to the address itself"), "{text}");
    }
}

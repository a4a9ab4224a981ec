//! Question to answer, over a [`Snapshot`].

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::Snapshot;
use crate::answer::{Answer, Outcome};
use crate::facts::parse_dashed;
use crate::reverse;
use crate::service::{PortRecords, ServiceRecords, Target};
use crate::zone::PodRecords;

/// The specification's version, as `dns-version.<zone>` tells it.
const DNS_VERSION: &str = "1.1.0";
/// Longest chain of CNAMEs within the zone.
const MAX_CHAIN: usize = 8;
/// The deepest name that exists is `_port._proto.service.namespace.svc`.
const MAX_DEPTH: usize = 5;
/// SOA timers in seconds; nobody transfers this zone, so they only have to be plausible.
const SOA_REFRESH_S: i32 = 7200;
const SOA_RETRY_S: i32 = 1800;
const SOA_EXPIRE_S: i32 = 86_400;
/// Sum of the weights of an SRV record set, spread evenly (CoreDNS does the same).
const SRV_WEIGHT_SUM: usize = 100;

/// What exists at a name.
enum Node<'a> {
    Missing,
    /// The name exists, without records of its own.
    Inner,
    Apex,
    Version,
    Addresses(&'a [IpAddr]),
    Address(IpAddr),
    Alias(&'a Name),
    Port(&'a ServiceRecords, &'a PortRecords),
}

impl Snapshot {
    /// Answers one question of class IN. Names compare without case.
    pub fn answer(&self, name: &Name, record_type: RecordType) -> Answer {
        if !self.shared.config.domain.zone_of(name) {
            return self.answer_reverse(name, record_type);
        }
        if matches!(record_type, RecordType::AXFR | RecordType::IXFR) {
            return Answer::empty(Outcome::Refused);
        }
        let mut answer = Answer::empty(Outcome::Found);
        let mut owner = name.clone();
        for _ in 0..MAX_CHAIN {
            match self.node(&owner) {
                Node::Alias(target) if record_type != RecordType::CNAME => {
                    answer
                        .answers
                        .push(self.record(&owner, RData::CNAME(CNAME(target.clone()))));
                    if !self.shared.config.domain.zone_of(target) {
                        answer.outcome = Outcome::Chase(target.clone());
                        return answer;
                    }
                    owner = target.clone();
                }
                Node::Missing => return self.negative(answer, Outcome::NxDomain),
                node => {
                    let before = answer.answers.len();
                    self.add_records(&mut answer, &owner, &node, record_type);
                    let found = answer.answers.len() > before;
                    return if found {
                        answer
                    } else {
                        self.negative(answer, Outcome::NoData)
                    };
                }
            }
        }
        answer
    }

    fn answer_reverse(&self, name: &Name, record_type: RecordType) -> Answer {
        let known = reverse::address_of(name).and_then(|address| self.reverse_names(address));
        let Some(targets) = known else {
            return Answer::empty(Outcome::NotInZone);
        };
        if record_type != RecordType::PTR || targets.is_empty() {
            // The SOA's owner must enclose the name: in-addr.arpa or ip6.arpa.
            return Answer::negative(Outcome::NoData, self.soa(&name.trim_to(2)));
        }
        let records = targets
            .into_iter()
            .map(|target| self.record(name, RData::PTR(PTR(target))));
        Answer {
            answers: records.collect(),
            ..Answer::empty(Outcome::Found)
        }
    }

    fn node(&self, name: &Name) -> Node<'_> {
        let depth = usize::from(name.num_labels()).saturating_sub(self.shared.labels);
        if depth > MAX_DEPTH {
            return Node::Missing;
        }
        let mut labels = [&[][..]; MAX_DEPTH];
        for (slot, label) in labels.iter_mut().zip(name.iter().take(depth)) {
            *slot = label;
        }
        let [above @ .., top] = &labels[..depth] else {
            return Node::Apex;
        };
        if top.eq_ignore_ascii_case(b"svc") {
            self.service_node(above)
        } else if top.eq_ignore_ascii_case(b"pod") {
            self.pod_node(above)
        } else if top.eq_ignore_ascii_case(b"dns") {
            match above {
                [] => Node::Inner,
                [ns] if ns.eq_ignore_ascii_case(b"ns") => Node::Addresses(&self.name_server),
                _ => Node::Missing,
            }
        } else if above.is_empty() && top.eq_ignore_ascii_case(b"dns-version") {
            Node::Version
        } else {
            Node::Missing
        }
    }

    fn service_node(&self, above: &[&[u8]]) -> Node<'_> {
        match above {
            [] => Node::Inner,
            [namespace] => self.namespace_node(namespace),
            [rest @ .., service, namespace] => {
                let Some(records) = self.service(namespace, service) else {
                    return Node::Missing;
                };
                records_node(records, rest)
            }
        }
    }

    fn pod_node(&self, above: &[&[u8]]) -> Node<'_> {
        match (self.shared.config.pods, above) {
            (PodRecords::Insecure, []) => Node::Inner,
            (PodRecords::Insecure, [namespace]) => self.namespace_node(namespace),
            (PodRecords::Insecure, [pod, namespace]) if self.namespace_exists(namespace) => {
                parse_dashed(pod, false).map_or(Node::Missing, Node::Address)
            }
            _ => Node::Missing,
        }
    }

    fn namespace_node(&self, namespace: &[u8]) -> Node<'_> {
        if self.namespace_exists(namespace) {
            Node::Inner
        } else {
            Node::Missing
        }
    }

    fn add_records(&self, answer: &mut Answer, owner: &Name, node: &Node<'_>, record_type: RecordType) {
        let answers = &mut answer.answers;
        match (node, record_type) {
            (Node::Addresses(addresses), _) => {
                self.add_addresses(answers, owner, addresses, Some(record_type))
            }
            (Node::Address(address), _) => self.add_addresses(answers, owner, &[*address], Some(record_type)),
            (Node::Alias(target), RecordType::CNAME) => {
                answers.push(self.record(owner, RData::CNAME(CNAME((*target).clone()))));
            }
            (Node::Version, RecordType::TXT) => {
                answers.push(self.record(owner, RData::TXT(TXT::new(vec![DNS_VERSION.to_owned()]))));
            }
            (Node::Apex, RecordType::SOA) => answers.push(self.soa(owner)),
            (Node::Apex, RecordType::NS) => {
                let name_server = &self.shared.name_server;
                answers.push(self.record(owner, RData::NS(NS(name_server.clone()))));
                self.add_addresses(&mut answer.additionals, name_server, &self.name_server, None);
            }
            (Node::Port(records, set), RecordType::SRV) => self.add_services(answer, owner, records, set),
            _ => {}
        }
    }

    /// SRV records and, once per host, its addresses as glue.
    fn add_services(&self, answer: &mut Answer, owner: &Name, records: &ServiceRecords, set: &PortRecords) {
        let weight = u16::try_from((SRV_WEIGHT_SUM / set.targets.len().max(1)).max(1)).unwrap_or(1);
        let mut glued = BTreeSet::new();
        for target in &set.targets {
            let Some(host) = records.host_name(target.host) else {
                continue;
            };
            if glued.insert(target.host) {
                self.add_addresses(
                    &mut answer.additionals,
                    &host,
                    records.host_addresses(&target.host),
                    None,
                );
            }
            answer
                .answers
                .push(self.record(owner, RData::SRV(SRV::new(0, weight, target.port, host))));
        }
    }

    /// A and AAAA records; `only` one type, or both.
    fn add_addresses(
        &self,
        to: &mut Vec<Record>,
        owner: &Name,
        addresses: &[IpAddr],
        only: Option<RecordType>,
    ) {
        let records = addresses.iter().map(|address| match address {
            IpAddr::V4(address) => RData::A((*address).into()),
            IpAddr::V6(address) => RData::AAAA((*address).into()),
        });
        let wanted = records.filter(|data| only.is_none_or(|only| data.record_type() == only));
        to.extend(wanted.map(|data| self.record(owner, data)));
    }

    fn negative(&self, answer: Answer, outcome: Outcome) -> Answer {
        Answer {
            answers: answer.answers,
            ..Answer::negative(outcome, self.soa(&self.shared.config.domain))
        }
    }

    fn soa(&self, owner: &Name) -> Record {
        let names = &self.shared;
        let data = SOA::new(
            names.name_server.clone(),
            names.hostmaster.clone(),
            self.serial,
            SOA_REFRESH_S,
            SOA_RETRY_S,
            SOA_EXPIRE_S,
            names.config.ttl_s,
        );
        self.record(owner, RData::SOA(data))
    }

    fn record(&self, owner: &Name, data: RData) -> Record {
        Record::from_rdata(owner.clone(), self.shared.config.ttl_s, data)
    }
}

/// `rest` are the labels before the Service's own, leftmost first.
fn records_node<'a>(records: &'a ServiceRecords, rest: &[&[u8]]) -> Node<'a> {
    match (rest, &records.target) {
        ([], Target::External(target)) => Node::Alias(target),
        ([], target) => Node::Addresses(target.addresses()),
        ([label], _) => match records.endpoint(label) {
            [] if records.has_protocol(label) => Node::Inner,
            [] => Node::Missing,
            addresses => Node::Addresses(addresses),
        },
        ([port, protocol], _) => records
            .port(port, protocol)
            .map_or(Node::Missing, |set| Node::Port(records, set)),
        _ => Node::Missing,
    }
}

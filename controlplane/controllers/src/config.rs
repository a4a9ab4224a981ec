//! What the controllers are told, and why they may refuse to run.

use ipnet::IpNet;
use skep_runtime::WorkQueueMetrics;
use std::time::Duration;

/// Everything that the controllers take from outside the API.
#[derive(Debug, Clone)]
pub struct ControllersConfig {
    /// Where nodes' pod ranges come from: at most one range per address family, the primary first. Empty:
    /// nodes get no range.
    pub cluster_cidrs: Vec<IpNet>,
    /// The size of one node's IPv4 range.
    pub node_cidr_mask_v4: u8,
    /// The size of one node's IPv6 range.
    pub node_cidr_mask_v6: u8,
    /// How long a node may be silent before it counts as unreachable.
    pub node_monitor_grace: Duration,
    /// The same for a node that has never reported.
    pub node_startup_grace: Duration,
    /// How long pods that say nothing about it stay on a node that is not ready or unreachable.
    pub default_toleration: Duration,
    /// How many ended pods are kept.
    pub terminated_pod_threshold: usize,
    /// The cluster's CA as PEM, published in every namespace.
    pub root_ca_pem: String,
    /// Where work queues report.
    pub metrics: Option<WorkQueueMetrics>,
}

impl Default for ControllersConfig {
    fn default() -> Self {
        Self {
            cluster_cidrs: Vec::new(),
            node_cidr_mask_v4: 24,
            node_cidr_mask_v6: 64,
            node_monitor_grace: Duration::from_secs(40),
            node_startup_grace: Duration::from_secs(60),
            default_toleration: Duration::from_secs(300),
            terminated_pod_threshold: 12_500,
            root_ca_pem: String::new(),
            metrics: None,
        }
    }
}

/// Why the controllers do not run.
#[derive(Debug, thiserror::Error)]
pub enum ControllersError {
    #[error("cluster range {cidr} cannot be cut into node ranges of /{mask}: the mask must be from {} to {max}", .cidr.prefix_len())]
    NodeMask { cidr: IpNet, mask: u8, max: u8 },
    #[error("cluster ranges {first} and {second} are of one address family: give at most one of each")]
    SameFamily { first: IpNet, second: IpNet },
    #[error("controller {controller} ended by itself")]
    Ended { controller: String },
}

impl ControllersConfig {
    /// The most node ranges are counted with this many bits, as upstream.
    const MAX_RANGE_BITS: u8 = 16;

    pub(crate) fn node_mask(&self, cidr: &IpNet) -> u8 {
        match cidr {
            IpNet::V4(_) => self.node_cidr_mask_v4,
            IpNet::V6(_) => self.node_cidr_mask_v6,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ControllersError> {
        for (place, cidr) in self.cluster_cidrs.iter().enumerate() {
            let mask = self.node_mask(cidr);
            let max = cidr
                .max_prefix_len()
                .min(cidr.prefix_len() + Self::MAX_RANGE_BITS);
            if mask < cidr.prefix_len() || mask > max {
                return Err(ControllersError::NodeMask {
                    cidr: *cidr,
                    mask,
                    max,
                });
            }
            let is_v4 = cidr.addr().is_ipv4();
            if let Some(first) = self.cluster_cidrs[..place]
                .iter()
                .find(|one| one.addr().is_ipv4() == is_v4)
            {
                return Err(ControllersError::SameFamily {
                    first: *first,
                    second: *cidr,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let with = |cidrs: &[&str], mask| ControllersConfig {
            cluster_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            node_cidr_mask_v4: mask,
            ..Default::default()
        };
        assert!(with(&["10.128.0.0/16", "fd00::/56"], 24).check().is_ok());
        assert!(with(&[], 24).check().is_ok());
        assert!(with(&["10.128.0.0/16"], 8).check().is_err());
        assert!(with(&["10.0.0.0/8"], 30).check().is_err(), "too many ranges");
        assert!(with(&["10.128.0.0/16", "10.129.0.0/16"], 24).check().is_err());
    }
}

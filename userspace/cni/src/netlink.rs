//! Devices, addresses, routes and neighbours of one network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::CniError;

/// Requests to the kernel about one network namespace.
pub(crate) struct Netlink {
    handle: Handle,
    _connection: AbortOnDropHandle<()>,
}

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) mac: Vec<u8>,
    pub(crate) up: bool,
}

/// A route to `destination`, over `gateway` or straight out of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: Ipv4Net,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) device: Option<u32>,
    /// Marks whose route it is (`ip route … proto N`).
    pub(crate) protocol: u8,
}

type Connected = (
    rtnetlink::proto::Connection<netlink_packet_route::RouteNetlinkMessage>,
    Handle,
);

impl Netlink {
    /// The namespace that the calling thread is in.
    pub(crate) fn here() -> Result<Self, CniError> {
        connect().map(Self::new).map_err(|source| CniError::Namespace {
            during: "speak about",
            source,
        })
    }

    /// The namespace behind the descriptor.
    pub(crate) async fn within(netns: &OwnedFd) -> Result<Self, CniError> {
        let failed = |source| CniError::Namespace {
            during: "enter",
            source,
        };
        let netns = netns.try_clone().map_err(failed)?;
        let runtime = tokio::runtime::Handle::current();
        let (connected, connection) = oneshot::channel();
        // A socket belongs to the namespace in which it was made; the thread that goes there is not used again.
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || {
                let _context = runtime.enter();
                let result = move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(io::Error::from)
                    .and_then(|()| connect());
                // Fails only when the caller has gone away.
                drop(connected.send(result));
            });
        thread.map_err(failed)?;
        let connection = connection
            .await
            .unwrap_or_else(|gone| Err(io::Error::other(gone)));
        connection.map(Self::new).map_err(failed)
    }

    fn new((connection, handle): Connected) -> Self {
        Self {
            handle,
            _connection: AbortOnDropHandle::new(tokio::spawn(connection)),
        }
    }

    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>, CniError> {
        let found = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute()
            .try_next()
            .await;
        match found {
            Ok(message) => Ok(message.map(|message| link_of(&message))),
            Err(error) if is_code(&error, libc::ENODEV) => Ok(None),
            Err(error) => Err(failed(format!("look for device {name}"), error)),
        }
    }

    pub(crate) async fn existing_link(&self, name: &str) -> Result<Link, CniError> {
        self.link(name).await?.ok_or_else(|| CniError::NoDevice {
            name: name.to_owned(),
        })
    }

    /// A veth pair: the end `host` here and up, the end `pod` in the other namespace.
    pub(crate) async fn add_veth(
        &self,
        host: &str,
        pod: &str,
        netns: BorrowedFd<'_>,
        mtu: u32,
    ) -> Result<(), CniError> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(pod)
            .mtu(mtu)
            .setns_by_fd(netns.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(host)
            .mtu(mtu)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let added = self.handle.link().add(pair).execute().await;
        added.map_err(|error| failed(format!("create the veth pair {host} and {pod}"), error))
    }

    pub(crate) async fn set_up(&self, index: u32) -> Result<(), CniError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| failed(format!("bring device {index} up"), error))
    }

    /// Removes the device and all that hangs on it; fine when it does not exist.
    pub(crate) async fn delete_link(&self, name: &str) -> Result<(), CniError> {
        let Some(link) = self.link(name).await? else {
            return Ok(());
        };
        match self.handle.link().del(link.index).execute().await {
            Err(error) if !is_code(&error, libc::ENODEV) => {
                Err(failed(format!("delete device {name}"), error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn add_address(&self, index: u32, address: Ipv4Addr) -> Result<(), CniError> {
        let added = self
            .handle
            .address()
            .add(index, address.into(), 32)
            .execute()
            .await;
        added.map_err(|error| failed(format!("add the address {address}"), error))
    }

    pub(crate) async fn has_address(&self, index: u32, address: Ipv4Addr) -> Result<bool, CniError> {
        let mut addresses = self.handle.address().get().set_link_index_filter(index).execute();
        let wanted = AddressAttribute::Local(address.into());
        let failed = |error| failed(format!("list the addresses of device {index}"), error);
        while let Some(message) = addresses.try_next().await.map_err(failed)? {
            if message.attributes.contains(&wanted) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A neighbour that is never asked for.
    pub(crate) async fn add_neighbour(
        &self,
        index: u32,
        address: Ipv4Addr,
        mac: &[u8],
    ) -> Result<(), CniError> {
        let neighbour = self
            .handle
            .neighbours()
            .add(index, IpAddr::V4(address))
            .link_layer_address(mac)
            .replace();
        neighbour
            .execute()
            .await
            .map_err(|error| failed(format!("add the neighbour {address}"), error))
    }

    pub(crate) async fn replace_route(&self, route: &Route) -> Result<(), CniError> {
        let replaced = self
            .handle
            .route()
            .add(message_of(route))
            .replace()
            .execute()
            .await;
        replaced.map_err(|error| failed(format!("set the route to {}", route.destination), error))
    }

    /// Fine when there is none.
    pub(crate) async fn delete_route(&self, route: &Route) -> Result<(), CniError> {
        match self.handle.route().del(message_of(route)).execute().await {
            Err(error) if !is_code(&error, libc::ESRCH) => Err(failed(
                format!("delete the route to {}", route.destination),
                error,
            )),
            _ => Ok(()),
        }
    }

    /// The IPv4 routes of the main table.
    pub(crate) async fn routes(&self) -> Result<Vec<Route>, CniError> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let failed = |error| failed("list the routes".to_owned(), error);
        let messages: Vec<_> = self
            .handle
            .route()
            .get(all)
            .execute()
            .try_collect()
            .await
            .map_err(failed)?;
        let main = RouteMessageBuilder::<Ipv4Addr>::new().build().header.table;
        Ok(messages
            .iter()
            .filter(|message| message.header.table == main)
            .filter_map(route_of)
            .collect())
    }
}

fn connect() -> io::Result<Connected> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    Ok((connection, handle))
}

fn failed(during: String, source: rtnetlink::Error) -> CniError {
    CniError::Netlink { during, source }
}

fn is_code(error: &rtnetlink::Error, code: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -code)
}

fn link_of(message: &LinkMessage) -> Link {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(mac) => Some(mac.clone()),
        _ => None,
    });
    Link {
        index: message.header.index,
        mac: mac.unwrap_or_default(),
        up: message.header.flags.contains(LinkFlags::Up),
    }
}

fn message_of(route: &Route) -> RouteMessage {
    let mut message = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.destination.network(), route.destination.prefix_len())
        .protocol(RouteProtocol::from(route.protocol));
    match route.gateway {
        Some(gateway) => message = message.gateway(gateway),
        None => message = message.scope(RouteScope::Link),
    }
    if let Some(device) = route.device {
        message = message.output_interface(device);
    }
    message.build()
}

fn route_of(message: &RouteMessage) -> Option<Route> {
    let (mut destination, mut gateway, mut device) = (Ipv4Addr::UNSPECIFIED, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            RouteAttribute::Oif(index) => device = Some(*index),
            _ => {}
        }
    }
    let destination = Ipv4Net::new(destination, message.header.destination_prefix_length).ok()?;
    Some(Route {
        destination,
        gateway,
        device,
        protocol: message.header.protocol.into(),
    })
}

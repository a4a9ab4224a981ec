//! What the programs count. The numbers are stable: a removed counter leaves its number unused.

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident = $number:expr, $text:expr;)+) => {
        /// Index into COUNTERS (per-CPU array of `u64`).
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Counter {
            $($(#[$meta])* $name = $number,)+
        }

        impl Counter {
            /// Every counter.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Name in metrics and status output.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

counters! {
    /// A connect was sent to a backend.
    SocketConnect = 0, "socket_connect";
    /// An unconnected datagram was sent to a backend.
    SocketSend = 1, "socket_send";
    /// A connect or send was refused: the frontend has no backend.
    SocketNoBackend = 2, "socket_no_backend";
    /// A connect or send was refused: an address in a service range that is no frontend.
    SocketNoService = 3, "socket_no_service";
    /// The reverse entry of a socket could not be stored.
    SocketStateFull = 4, "socket_state_full";
    /// The tables pointed to nothing (a slot without a backend); the connect was refused.
    SocketTableHole = 5, "socket_table_hole";
    /// A connect or send was refused: the client is in none of the frontend's source ranges.
    SocketSourceRange = 10, "socket_source_range";
    /// A bind was refused: the port is a node port.
    SocketNodePort = 11, "socket_node_port";
    /// A packet from outside opened a flow to a backend.
    PacketFlowOpened = 16, "packet_flow_opened";
    /// A pod's packet opened a masqueraded flow.
    PacketMasqueraded = 17, "packet_masqueraded";
    /// A packet to a frontend without a backend was left to the node, which refuses it.
    PacketNoBackend = 18, "packet_no_backend";
    /// Dropped: externalTrafficPolicy Local without a local backend, or no backend behind an address that is
    /// not the node's and the packet could not be answered.
    DropNoBackend = 19, "drop_no_backend";
    /// Dropped: a service address that packets may not use, or one that is no frontend.
    DropNoService = 20, "drop_no_service";
    /// Dropped: no free source port towards that remote.
    DropSourcePortsExhausted = 21, "drop_source_ports_exhausted";
    /// Dropped: the flow table refused an entry.
    DropFlowTable = 22, "drop_flow_table";
    /// Dropped: the flow's backend is gone.
    DropBackendDead = 23, "drop_backend_dead";
    /// Dropped: no route to the remote backend or client.
    DropNoRoute = 24, "drop_no_route";
    /// Dropped without an answer: the hop limit ran out on this node.
    DropHopLimit = 25, "drop_hop_limit";
    /// Dropped: the packet could not be rewritten.
    DropRewrite = 26, "drop_rewrite";
    /// A fragment whose first one was not seen was left alone.
    PacketFragment = 27, "packet_fragment";
    /// A malformed header was left to the node.
    PacketMalformed = 28, "packet_malformed";
    /// Dropped: the node has no address of that family to translate to.
    DropNoNodeAddress = 29, "drop_no_node_address";
    /// Dropped: the tables pointed to nothing (a slot without a backend).
    DropTableHole = 30, "drop_table_hole";
    /// A flow's missing partner entry was restored.
    PacketFlowRestored = 31, "packet_flow_restored";
    /// A TCP packet of no known connection to a node port was left to the node, which resets it.
    PacketStray = 32, "packet_stray";
    /// Dropped without an answer: a TCP packet of no known connection to a service address that is not the
    /// node's.
    DropStray = 33, "drop_stray";
    /// Dropped without an answer: too large for the way to the remote backend or client.
    DropTooBig = 34, "drop_too_big";
    /// A packet from a device with an end that no wire leads to (loopback, multicast, the node itself as
    /// source) was left to the node.
    PacketMartian = 35, "packet_martian";
    /// Dropped: the answers of this connection belong to another one by now.
    DropFlowConflict = 36, "drop_flow_conflict";
    /// An ICMP error about a packet of a translated flow was translated.
    PacketError = 40, "packet_error";
    /// A fragment followed its first one.
    PacketFragmentFollowed = 41, "packet_fragment_followed";
    /// A TCP packet that has no connection or backend was answered with RST: to an address that is not the node's.
    PacketReset = 42, "packet_reset";
    /// A datagram that has no backend was answered with "port unreachable": to an address that is not the node's.
    PacketUnreachable = 43, "packet_unreachable";
    /// A packet too large for the way to the remote backend or client was answered with "too big".
    PacketTooBig = 44, "packet_too_big";
    /// A packet whose hop limit ran out on this node was answered with "time exceeded".
    PacketHopLimit = 45, "packet_hop_limit";
    /// Dropped: the client is in none of the frontend's source ranges.
    DropSourceRange = 48, "drop_source_range";
}

/// Elements of COUNTERS: room for counters to come without a change of layout.
pub const COUNTER_SLOTS: u32 = 64;

//! Every measurement that crosswan makes. `docs/monitoring/README.md` lists them, and a test compares the two.

use super::{Metric, Type};

macro_rules! metrics {
    ($($constant:ident $is:ident $name:literal $help:literal)*) => {
        $(#[doc = $help] pub const $constant: Metric = Metric { name: $name, is: Type::$is, help: $help };)*
        /// All of them.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    BUILD_INFO Gauge "build_info" "Always 1: the version of crosswan, and the mode of the last refresh."
    LOOK Gauge "look_timestamp_seconds" "When all of this was looked at."
    UNASKED Gauge "unasked" "Things that this look could not ask. What depends on them is missing here."
    REFRESH_SUCCESS Gauge "refresh_last_success_timestamp_seconds" "When the last refresh ended after which everything was in force (exit code 0, 6 or 7), since boot."
    REFRESH_AT Gauge "refresh_last_timestamp_seconds" "When the last refresh began, or ended if it made no report, since boot."
    REFRESH_EXIT Gauge "refresh_last_exit_code" "The exit code of the last refresh."
    DISCOVERY_UP Gauge "discovery_up" "Whether EC2 in this region answered the last refresh."
    DISCOVERY_GATEWAYS Gauge "discovery_gateways" "Gateways in this region's answer, or in its last good one."
    DISCOVERY_ANSWERED Gauge "discovery_answer_timestamp_seconds" "When the answer of this region that is in use came."
    CHARON_UP Gauge "charon_up" "Whether charon answers."
    PEER_UP Gauge "peer_up" "Whether the whole tunnel to this peer is up."
    PEER_IN_USE Gauge "peer_in_use" "Whether routes lead through this peer's tunnel; 0 while it stands by."
    PEER_SEGMENT Gauge "peer_segment_info" "Always 1: the segment of this peer's VPC, where there are segments; empty if it is in none."
    PEER_CHILDREN Gauge "peer_children" "CHILD_SAs to this peer: those that should be there, and those that are installed."
    PEER_ESTABLISHED Gauge "peer_established_timestamp_seconds" "When the IKE_SA with this peer was established, to the second or two."
    PEER_RECEIVE_BYTES Counter "peer_receive_bytes_total" "Bytes of the packets that came through this peer's tunnel, with their inner IP headers."
    PEER_TRANSMIT_BYTES Counter "peer_transmit_bytes_total" "Bytes of the packets that went through this peer's tunnel, with their inner IP headers."
    PEER_RECEIVE_PACKETS Counter "peer_receive_packets_total" "Packets that came through this peer's tunnel."
    PEER_TRANSMIT_PACKETS Counter "peer_transmit_packets_total" "Packets that went through this peer's tunnel."
    TRAFFIC_AT Gauge "traffic_timestamp_seconds" "When crosswan watch last read the kernel's counters."
    TRAFFIC_MISSED Counter "traffic_missed_total" "Times that ends of SAs were lost; each can lack what these SAs carried within five seconds."
    PEERS_REFUSED Gauge "peers_refused" "Gateways, VPCs and CIDRs that the last refresh refused; crosswan status has the reasons."
    PEERS_KEPT Gauge "peers_kept" "Peers that stand although EC2 does not show them as it should."
    PEERS_HELD Gauge "peers_held" "Peers that would have left, and stay because they were too many at once."
    PEERS_FAILED Gauge "peers_failed" "Peers whose part of the last refresh failed."
    KEYS_AWAITED Gauge "keys_awaited" "New gateways whose key is awaited."
    RULES_IN_FORCE Gauge "rules_in_force" "Whether the rules, interfaces and routes of the last refresh are in force."
    PUT_BACK_AT Gauge "rules_put_back_timestamp_seconds" "When crosswan watch last put back what another program had taken away."
    PROBLEMS Gauge "forwarding_problems" "Things on this host, or in EC2, that stop packets; crosswan status names them."
    CONNTRACK_ENTRIES Gauge "nat_conntrack_entries" "Connections in the kernel's table."
    CONNTRACK_LIMIT Gauge "nat_conntrack_limit" "Connections for which the kernel's table has room."
    CONNTRACK_DROPPED Counter "nat_conntrack_dropped_total" "Packets dropped, and connections removed early, because the table was full."
    PAIR_UP Gauge "pair_member_up" "Whether the other member of the pair is heard and carries traffic, by crosswan pair here."
    PAIR_ACTIVE Gauge "pair_active" "Whether all routes of managed tables that lead to a member of the pair lead here."
    PAIR_TAKEN Gauge "pair_takeover_timestamp_seconds" "When this gateway took over the other member's routes last, since boot."
    PAIR_FOLLOWED Gauge "pair_followed_generation" "The takeover since which this gateway of a VPC at a far end is used, as it said itself, by crosswan pair here."
    PAIR_FOLLOWED_AT Gauge "pair_followed_timestamp_seconds" "When it was followed."
    ROUTE_OWNED Gauge "route_owned" "Whether this route of a tagged route table led here at the last refresh."
    ADDRESS_AWAITED Gauge "address_awaited" "Whether this gateway waited for its Elastic IP at the last refresh."
}

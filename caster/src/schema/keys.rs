//! The keys: the document itself, aws, vpc and nat. Those of elbs and apps are in `apps`.

use super::{
    Format,
    Kind::{self, Bool, List, Secret, Text, Whole},
    Need::{Ignored, New, Optional, Required},
    Object,
    apps::{APP, ELB, PORTS},
    key,
};

pub const DOCUMENT: Object = Object {
    name: "the document",
    help: "One document makes one VPC environment in one region of one account. Keys that begin with `_` are comments.",
    keys: &[
        key("aws", Kind::Object(&AWS), Required, "The account, the region and the names of the environment.", ""),
        key("vpc", Kind::Object(&VPC), Required, "The VPC, its subnets and its zones.", ""),
        key(
            "nat",
            Kind::Object(&NAT),
            Optional,
            "The NAT gateway instance: nat-hub in the hub's VPC, nat-vpn in a client's.",
            "a network interface that stays, an Elastic IP, and the instance on it",
        ),
        key("elbs", List(&Kind::Object(&ELB)), Required, "The load balancers. May be empty.", ""),
        key(
            "apps",
            List(&Kind::Object(&APP)),
            Required,
            "The services: instances, or Auto Scaling groups. May be empty.",
            "",
        ),
    ],
};

const AWS: Object = Object {
    name: "aws",
    help: "The account, the region and the names of the environment.",
    keys: &[
        key("region", Text(Format::Region), Required, "The region of everything in this document.", ""),
        key(
            "env",
            Text(Format::Label),
            Required,
            "The environment. Value of the environment's tag, and the ending of names: `NAME-ENV`.",
            "tags, names",
        ),
        key("envtag", Text(Format::TagKey), Required, "The key of the environment's tag, such as `env`.", "tag key"),
        key(
            "svctag",
            Text(Format::TagKey),
            Required,
            "The key of the service's tag, such as `service`. crosswan finds gateways by it.",
            "tag key",
        ),
        key(
            "privnet",
            Text(Format::Cidr),
            Required,
            "The private network that all VPCs share. Must contain `vpc.cidr`, and must be larger.",
            "route to the gateway in both route tables; source of ICMP; everything from it into gateways",
        ),
        key(
            "continent",
            Text(Format::Label),
            Required,
            "A part of DNS names: `NAME-ENV.PROVIDER-REGION.CONTINENT.ZONE`.",
            "",
        ),
        key("provider", Text(Format::Label), Required, "A part of DNS names, usually `ec2`.", ""),
        key(
            "zone",
            Text(Format::DnsZone),
            Required,
            "The hosted zone in Route 53 that gets the records, with its final dot.",
            "Route 53",
        ),
        key(
            "r53xacct",
            Text(Format::RoleArn),
            Optional,
            "The role to assume for Route 53 if the zone is in another account.",
            "sts:AssumeRole",
        ),
        key(
            "account",
            Text(Format::Account),
            New,
            "The account that the credentials must belong to. Anything else is refused before anything is tried.",
            "sts:GetCallerIdentity",
        ),
        key(
            "image_owners",
            List(&Text(Format::Owner)),
            New,
            "Whose images `aminame` may choose. Default: `self` only, because anybody may publish an image of any name.",
            "owners in DescribeImages",
        ),
        key(
            "privnet_via",
            Text(Format::Label),
            New,
            "The way to the private network: the name of an app, or `nat`. Default: the one app whose `svctag` is `vpn-hub`, else `nat`.",
            "target of the route `privnet`",
        ),
        key(
            "regions",
            List(&Text(Format::Region)),
            New,
            "Where a hub looks for its clients, and a client for its hub. Default: what the image says.",
            "crosswan's setting `regions`, of new gateways",
        ),
    ],
};

const VPC: Object = Object {
    name: "vpc",
    help: "The VPC, its subnets and its zones.",
    keys: &[
        key(
            "cidr",
            Text(Format::Cidr),
            Required,
            "The VPC's CIDR, /16 to /28. It identifies the VPC in the region.",
            "VPC",
        ),
        key(
            "subnets",
            List(&Text(Format::Cidr)),
            Optional,
            "The private subnets; the first lies in the first zone, and so on. Default: none.",
            "subnets of the main route table",
        ),
        key(
            "pubsubnets",
            List(&Text(Format::Cidr)),
            Required,
            "The public subnets, by zone as `subnets`.",
            "subnets of the public route table",
        ),
        key(
            "azs",
            List(&Text(Format::Zone)),
            Required,
            "The availability zones. At least as many as the longer list of subnets.",
            "",
        ),
        key(
            "name",
            Text(Format::TagValue),
            Optional,
            "Name of the VPC; subnets are called `NAME-private` and `NAME-public`.",
            "tag Name",
        ),
        key(
            "acls",
            List(&Kind::Object(&ACL)),
            Optional,
            "Entries of the default network ACL. In a new VPC they replace the entries that AWS makes. Default: the ACL is left alone.",
            "network ACL entries",
        ),
        key(
            "default_rules",
            List(&Kind::Object(&DEFAULT_RULE)),
            Optional,
            "Inbound rules of every app's group. Default: SSH from anywhere, ICMP from `privnet`; `[]` means none. The NAT group is not affected.",
            "security group rules",
        ),
    ],
};

const ACL: Object = Object {
    name: "ACL entry",
    help: "An entry of the default network ACL.",
    keys: &[
        key("rule_number", Whole(1, 32766), Required, "The entry's number. The lowest that matches decides.", ""),
        key("protocol", Whole(-1, 255), Required, "The protocol's number: 6 TCP, 17 UDP, 1 ICMP, -1 all.", ""),
        key("rule_action", Text(Format::Action), Required, "What happens to the packet.", ""),
        key("cidr_block", Text(Format::Cidr), Required, "The source, or for egress the destination.", ""),
        key("egress", Bool, Optional, "Whether the entry is for outgoing packets. Default: false.", ""),
        key("port_range_from", Whole(0, 65535), Optional, "The first port. Required for TCP and UDP.", ""),
        key("port_range_to", Whole(0, 65535), Optional, "The last port. Required for TCP and UDP.", ""),
        key("icmp_type", Whole(-1, 255), Optional, "The ICMP type, -1 for all. Required for ICMP.", ""),
        key("icmp_code", Whole(-1, 255), Optional, "The ICMP code, -1 for all. Required for ICMP.", ""),
    ],
};

const DEFAULT_RULE: Object = Object {
    name: "default rule",
    help: "An inbound rule of every app's security group.",
    keys: &[
        key("cidr_ip", Text(Format::Cidr), Required, "The source.", ""),
        key("from_port", Whole(-1, 65535), Required, "The first port; for ICMP the type, -1 for all.", ""),
        key("to_port", Whole(-1, 65535), Required, "The last port; for ICMP the code, -1 for all.", ""),
        key("ip_protocol", Text(Format::RawProtocol), Required, "The protocol.", ""),
    ],
};

const NAT: Object = Object {
    name: "nat",
    help: "The NAT gateway instance, in the first public subnet.",
    keys: &[
        key(
            "name",
            Text(Format::Label),
            Required,
            "Its name; instance, interface and DNS record are called `NAME-ENV`.",
            "tag Name, CNAME record",
        ),
        key(
            "group",
            Text(Format::Group),
            Required,
            "Its own security group: SSH, ICMP echo and traceroute from anywhere, `ports`, everything from the VPC and from `privnet`.",
            "security group",
        ),
        key("svctag", Text(Format::TagValue), Required, "Value of the service's tag, usually `nat`.", "tag"),
        key("type", Text(Format::InstanceType), Required, "The instance type.", ""),
        key("role", Text(Format::Name), Required, "The name of its instance profile.", "instance profile"),
        key("keypair", Text(Format::Name), Required, "The name of its key pair.", ""),
        key("ports", List(&Kind::Object(&PORTS)), Required, "Ports open to anywhere.", "security group rules"),
        key("ami", Text(Format::Image), Optional, "The image. Wins over `aminame`; one of the two is required.", ""),
        key(
            "aminame",
            Text(Format::Name),
            Optional,
            "The image by its name X: the newest of `ENV-X-YYYYMMDDHHMMSS`, else `all-X-…`, else `X-…`.",
            "owners: `aws.image_owners`",
        ),
        key(
            "addrs",
            List(&Text(Format::Address)),
            New,
            "Its Elastic IP, allocated before. Default: one is allocated.",
            "Elastic IP",
        ),
        key(
            "psk",
            Secret,
            Ignored,
            "The pre-shared key of 2014, which nothing ever read. Gateways make their own keys: remove it.",
            "",
        ),
    ],
};

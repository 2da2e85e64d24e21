//! The keys of elbs and apps.

use super::{
    Format, Key,
    Kind::{self, List, Present, Text, Whole},
    Need::{New, Optional, Required},
    Object, key,
};

pub(super) const PORTS: Object = Object {
    name: "ports",
    help: "A range of ports.",
    keys: &[
        key("from", Whole(-1, 65535), Required, "The first port; for ICMP the type, -1 for all.", ""),
        key("to", Whole(-1, 65535), Required, "The last port; for ICMP the code, -1 for all.", ""),
        key("prot", Text(Format::Protocol), Required, "The protocol. In 2014 a typing error here opened TCP.", ""),
    ],
};

pub(super) const ELB: Object = Object {
    name: "elb",
    help: "A load balancer. HTTP and HTTPS listeners make an application load balancer, TCP and SSL ones a network load balancer.",
    keys: &[
        key(
            "name",
            Text(Format::Label),
            Required,
            "Its name in the document. The load balancer is called `NAME-ENV`, 32 characters at most.",
            "load balancer, DNS record",
        ),
        key("group", Text(Format::Group), Required, "Its security group.", "security group"),
        key(
            "ports",
            List(&Kind::Object(&PORTS)),
            Required,
            "Ports open to anywhere, also for an internal one. May be empty.",
            "security group rules",
        ),
        key(
            "listeners",
            List(&Kind::Object(&LISTENER)),
            Required,
            "What it listens on and where it sends that.",
            "listeners and target groups",
        ),
        key(
            "target",
            Text(Format::Health),
            Required,
            "The health check: `HTTP:port/path`, `HTTPS:port/path`, `TCP:port` or `SSL:port`.",
            "target group. For an application load balancer TCP and SSL become HTTP and HTTPS with `/`; for a network one SSL becomes TCP",
        ),
        key("interval", Whole(5, 300), Required, "Seconds between health checks.", "target group"),
        key("healthy", Whole(2, 10), Required, "Good checks in a row that make a target healthy.", "target group"),
        key("unhealthy", Whole(2, 10), Required, "Bad checks in a row that make it unhealthy.", "target group"),
        key(
            "allow",
            List(&Kind::Object(&ALLOW)),
            Optional,
            "Further inbound rules of its group.",
            "security group rules",
        ),
        key(
            "internal",
            Present,
            Optional,
            "If present: for the inside only, in the private subnets if there are any.",
            "scheme internal",
        ),
        key(
            "nocrossaz",
            Present,
            Optional,
            "If present: no balancing across zones. An application load balancer always balances across zones.",
            "attribute of a network load balancer",
        ),
        key(
            "idle_timeout",
            Whole(1, 6000),
            Optional,
            "Seconds after which an idle connection is cut. 1 to 4000 for HTTP, 60 to 6000 for TCP. Default: AWS's own.",
            "attribute",
        ),
        key("type", Text(Format::BalancerType), New, "The kind of load balancer. Default: by the listeners.", ""),
    ],
};

const LISTENER: Object = Object {
    name: "listener",
    help: "A port of a load balancer.",
    keys: &[
        key("from", Whole(1, 65535), Required, "The port it listens on.", ""),
        key("from_prot", Text(Format::Listener), Required, "The protocol there.", "tcp: TCP, ssl: TLS"),
        key("to", Whole(1, 65535), Required, "The port of the instances.", "target group"),
        key("to_prot", Text(Format::Listener), Required, "The protocol to the instances.", "target group"),
        key(
            "cert",
            Text(Format::Name),
            Optional,
            "The certificate: the name of an IAM server certificate, else the domain or Name tag of the one issued in ACM. Required for https and ssl.",
            "",
        ),
    ],
};

const ALLOW: Object = Object {
    name: "allow rule",
    help: "A rule with a source. Exactly one of `cidr` and `group` must be there.",
    keys: &[
        key("cidr", Text(Format::Cidr), Optional, "The source (for egress: the destination) as a CIDR.", ""),
        key("group", Text(Format::Group), Optional, "The source as a security group's name.", ""),
        key("from", Whole(-1, 65535), Required, "The first port; for ICMP the type, -1 for all.", ""),
        key("to", Whole(-1, 65535), Required, "The last port; for ICMP the code, -1 for all.", ""),
        key("prot", Text(Format::Protocol), Required, "The protocol.", ""),
    ],
};

/// What an app's rules and its open ports have in common.
const APP_FROM: Key = key(
    "from",
    Whole(-1, 65535),
    Required,
    "The first port; for ICMP the type, -1 for all. With `all` it has no meaning.",
    "",
);
const APP_TO: Key = key(
    "to",
    Whole(-1, 65535),
    Required,
    "The last port; for ICMP the code, -1 for all. With `all` it has no meaning.",
    "",
);
const APP_PROT: Key = key("prot", Text(Format::ProtocolOrAll), Required, "The protocol.", "");

const APP_ALLOW: Object = Object {
    name: "allow rule",
    help: "A rule with a source or destination. Exactly one of `cidr` and `group` must be there.",
    keys: &[
        key("cidr", Text(Format::Cidr), Optional, "The source (for egress: the destination) as a CIDR.", ""),
        key(
            "group",
            Text(Format::Group),
            Optional,
            "The source (for egress: the destination) as a security group's name.",
            "",
        ),
        APP_FROM,
        APP_TO,
        APP_PROT,
    ],
};

const APP_PORTS: Object =
    Object { name: "ports", help: "A range of ports, or everything.", keys: &[APP_FROM, APP_TO, APP_PROT] };

const AUTOSCALE: Object = Object {
    name: "autoscale",
    help: "The bounds of an Auto Scaling group.",
    keys: &[
        key("min", Whole(0, 10000), Required, "The least number of instances.", "Auto Scaling group, at creation"),
        key("max", Whole(0, 10000), Required, "The greatest number of instances.", "Auto Scaling group, at creation"),
    ],
};

pub(super) const APP: Object = Object {
    name: "app",
    help: "A service: `count` instances, or with `autoscale` an Auto Scaling group.",
    keys: &[
        key(
            "name",
            Text(Format::Label),
            Required,
            "Its name; instances and Auto Scaling group are called `NAME-ENV`.",
            "tag Name, Auto Scaling group, launch template",
        ),
        key(
            "svctag",
            Text(Format::TagValue),
            Required,
            "Value of the service's tag. `vpn-hub` makes it crosswan's hub.",
            "tag",
        ),
        key("group", Text(Format::Group), Required, "Its own security group; made if missing.", "security group"),
        key("type", Text(Format::InstanceType), Required, "The instance type.", ""),
        key("role", Text(Format::Name), Required, "The name of its instance profile.", "instance profile"),
        key(
            "cluster",
            Text(Format::TagValue),
            Optional,
            "Value of the tag `cluster`. Required with `autoscale`.",
            "tag",
        ),
        key(
            "groups",
            List(&Text(Format::Group)),
            Optional,
            "Further security groups, made if missing and attached.",
            "security groups",
        ),
        key("ami", Text(Format::Image), Optional, "The image. Wins over `aminame`.", ""),
        key(
            "aminame",
            Text(Format::Name),
            Optional,
            "The image by its name X: the newest of `ENV-X-YYYYMMDDHHMMSS`, else `all-X-…`, else `X-…`.",
            "owners: `aws.image_owners`",
        ),
        key("keypair", Text(Format::Name), Optional, "The name of the key pair. Default: none.", ""),
        key(
            "count",
            Whole(0, 1000),
            Optional,
            "How many should run. Required without `autoscale`; with it, the desired capacity at creation.",
            "",
        ),
        key(
            "autoscale",
            Kind::Object(&AUTOSCALE),
            Optional,
            "If present: an Auto Scaling group.",
            "launch template and Auto Scaling group",
        ),
        key("public", Present, Optional, "If present: in the public subnets, with a public address.", ""),
        key("azlimit", Text(Format::Zone), Optional, "The one zone of `vpc.azs` to use.", ""),
        key("elb", Text(Format::Label), Optional, "The load balancer to register with.", "target groups"),
        key("elbs", List(&Text(Format::Label)), Optional, "Further load balancers to register with.", "target groups"),
        key(
            "ports",
            List(&Kind::Object(&APP_PORTS)),
            Optional,
            "Ports open within the group itself.",
            "security group rules",
        ),
        key(
            "pubports",
            List(&Kind::Object(&PORTS)),
            Optional,
            "Ports open to anywhere, also without `public`.",
            "security group rules",
        ),
        key("allow", List(&Kind::Object(&APP_ALLOW)), Optional, "Further inbound rules.", "security group rules"),
        key(
            "egress",
            List(&Kind::Object(&APP_ALLOW)),
            Optional,
            "Outbound rules. If present, the rule that allows everything outbound is revoked.",
            "security group rules",
        ),
        key(
            "addrs",
            List(&Text(Format::Address)),
            Optional,
            "Elastic IPs, allocated before, one for each running instance. The hub's first one is its address.",
            "Elastic IP",
        ),
        key(
            "intaddrs",
            List(&Text(Format::Address)),
            Optional,
            "Private addresses, each a secondary address of one member. With `autoscale` only.",
            "secondary private address",
        ),
        key(
            "extports",
            List(&Kind::Object(&PORTS)),
            Optional,
            "Ports open to each member's public address, in the last of the app's groups. With `autoscale` only.",
            "security group rules",
        ),
        key(
            "userdata",
            Kind::Secret,
            Optional,
            "User data of new instances, never printed: `check` and `plan` show its length and digest. `ssm:NAME` and `secretsmanager:NAME` name a parameter or a secret that holds it.",
            "user data",
        ),
        key("userdata_file", Text(Format::Path), New, "A file with the user data, beside the document.", "user data"),
    ],
};

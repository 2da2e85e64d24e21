//! EC2's XML for gateways by number, with every element a real answer has: parsing it is part of a pass's cost.

use std::fmt::Write;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The tag by which an instance announces its key.
pub const KEY_TAG: &str = "crosswan-key";

/// `vpc-…` of gateway `n`, as long as real ones.
pub fn vpc_id(n: usize) -> String {
    format!("vpc-{n:017x}")
}

/// `i-…` of gateway `n`.
pub fn instance_id(n: usize) -> String {
    format!("i-{n:017x}")
}

/// Its IKE identity.
pub fn ike_id(n: usize) -> String {
    format!("{}/{}", vpc_id(n), instance_id(n))
}

/// The one CIDR of gateway `n`'s VPC: a /24 each, from 10.1.0.0 on.
pub fn cidr(n: usize) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_bits(0x0a01_0000 + ((n as u32) << 8)), 24)
}

/// Its Elastic IP, out of 198.18.0.0/15 (RFC 2544, benchmarks); the other half is where it is once it has moved.
pub fn public(n: usize, moved: bool) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc612_0000 + u32::from(moved) * 0x1_0000 + n as u32 + 1)
}

/// One page of DescribeInstances: gateways by number, whether they have moved, and what they announce.
pub fn instances<'k>(
    region: &str,
    gateways: impl Iterator<Item = (usize, bool, &'k str)>,
    next: Option<usize>,
) -> String {
    let mut set = String::new();
    for (n, moved, key) in gateways {
        let (private, public) = (Ipv4Addr::from_bits(cidr(n).network().to_bits() + 10), public(n, moved));
        let id = format!("{n:017x}");
        let groups =
            format!("<groupSet><item><groupId>sg-{id}</groupId><groupName>gateway</groupName></item></groupSet>");
        let association = format!(
            "<association><publicIp>{public}</publicIp><publicDnsName/><ipOwnerId>123456789012</ipOwnerId></association>"
        );
        // Writing to a String cannot fail.
        let _ = write!(
            set,
            "<item><reservationId>r-{id}</reservationId><ownerId>123456789012</ownerId><groupSet/><instancesSet><item>\
             <instanceId>i-{id}</instanceId><imageId>ami-{id}</imageId>\
             <instanceState><code>16</code><name>running</name></instanceState>\
             <privateDnsName>ip-{dashed}.{region}.compute.internal</privateDnsName><dnsName/><reason/>\
             <keyName>ops</keyName><amiLaunchIndex>0</amiLaunchIndex><productCodes/>\
             <instanceType>t3.small</instanceType><launchTime>2026-01-02T03:04:05.000Z</launchTime>\
             <placement><availabilityZone>{region}a</availabilityZone><groupName/><tenancy>default</tenancy></placement>\
             <monitoring><state>disabled</state></monitoring><subnetId>subnet-{id}</subnetId><vpcId>{vpc}</vpcId>\
             <privateIpAddress>{private}</privateIpAddress><ipAddress>{public}</ipAddress>\
             <sourceDestCheck>false</sourceDestCheck>{groups}<architecture>x86_64</architecture>\
             <rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping><item>\
             <deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-{id}</volumeId><status>attached</status>\
             <attachTime>2026-01-02T03:04:06.000Z</attachTime><deleteOnTermination>true</deleteOnTermination></ebs>\
             </item></blockDeviceMapping><virtualizationType>hvm</virtualizationType><clientToken>{id}</clientToken>\
             <tagSet><item><key>service</key><value>nat</value></item><item><key>env</key><value>prod</value></item>\
             <item><key>Name</key><value>client-{n}/nat-vpn</value></item>\
             <item><key>owner</key><value>platform</value></item>\
             <item><key>{KEY_TAG}</key><value>{key}</value></item></tagSet><hypervisor>xen</hypervisor>\
             <networkInterfaceSet><item><networkInterfaceId>eni-{id}</networkInterfaceId>\
             <subnetId>subnet-{id}</subnetId><vpcId>{vpc}</vpcId><description/><ownerId>123456789012</ownerId>\
             <status>in-use</status><macAddress>06:00:00:00:00:01</macAddress>\
             <privateIpAddress>{private}</privateIpAddress><sourceDestCheck>false</sourceDestCheck>{groups}\
             <attachment><attachmentId>eni-attach-{id}</attachmentId><deviceIndex>0</deviceIndex>\
             <status>attached</status><attachTime>2026-01-02T03:04:05.000Z</attachTime>\
             <deleteOnTermination>true</deleteOnTermination><networkCardIndex>0</networkCardIndex></attachment>\
             {association}<privateIpAddressesSet><item><privateIpAddress>{private}</privateIpAddress>\
             <primary>true</primary>{association}</item></privateIpAddressesSet><ipv6AddressesSet/>\
             <interfaceType>interface</interfaceType></item></networkInterfaceSet><iamInstanceProfile>\
             <arn>arn:aws:iam::123456789012:instance-profile/nat-vpn</arn><id>AIPA{id}</id></iamInstanceProfile>\
             <ebsOptimized>false</ebsOptimized><enaSupport>true</enaSupport>\
             <cpuOptions><coreCount>1</coreCount><threadsPerCore>2</threadsPerCore></cpuOptions>\
             <capacityReservationSpecification><capacityReservationPreference>open</capacityReservationPreference>\
             </capacityReservationSpecification><hibernationOptions><configured>false</configured></hibernationOptions>\
             <enclaveOptions><enabled>false</enabled></enclaveOptions><metadataOptions><state>applied</state>\
             <httpTokens>required</httpTokens><httpPutResponseHopLimit>2</httpPutResponseHopLimit>\
             <httpEndpoint>enabled</httpEndpoint><httpProtocolIpv6>disabled</httpProtocolIpv6>\
             <instanceMetadataTags>disabled</instanceMetadataTags></metadataOptions>\
             <maintenanceOptions><autoRecovery>default</autoRecovery></maintenanceOptions>\
             <currentInstanceBootMode>legacy-bios</currentInstanceBootMode><platformDetails>Linux/UNIX</platformDetails>\
             <usageOperation>RunInstances</usageOperation>\
             <usageOperationUpdateTime>2026-01-02T03:04:05.000Z</usageOperationUpdateTime>\
             </item></instancesSet></item>",
            dashed = private.to_string().replace('.', "-"),
            vpc = vpc_id(n),
        );
    }
    let next = next.map(|token| format!("<nextToken>{token}</nextToken>")).unwrap_or_default();
    answer("DescribeInstances", &format!("<reservationSet>{set}</reservationSet>{next}"))
}

/// DescribeInstances for the hub by its id, with what it announces.
pub fn own(id: &str, key: Option<&String>) -> String {
    let tag = key.map(|key| format!("<item><key>{KEY_TAG}</key><value>{key}</value></item>")).unwrap_or_default();
    let instance = format!("<item><instanceId>{id}</instanceId><tagSet>{tag}</tagSet></item>");
    let set = format!("<item><reservationId>r-hub</reservationId><instancesSet>{instance}</instancesSet></item>");
    answer("DescribeInstances", &format!("<reservationSet>{set}</reservationSet>"))
}

/// CreateTags was taken.
pub fn written() -> String {
    answer("CreateTags", "<return>true</return>")
}

/// The account that everything belongs to, if no other one asks.
pub const ACCOUNT: &str = "123456789012";

/// STS's answer to AssumeRole: the access key has the account's number.
pub fn session(account: &str) -> String {
    format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA{account}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
         <SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

/// How many segments the VPCs are in, where the hub's settings have any.
pub const SEGMENTS: usize = 50;

/// The segment of a VPC's tag.
pub fn segment(number: usize) -> String {
    format!("unit-{}", number % SEGMENTS)
}

/// DescribeVpcs for the ids that were asked for, as the account shows them that owns them.
pub fn vpcs<'a>(ids: impl Iterator<Item = &'a str>, owner: &str) -> String {
    let mut set = String::new();
    for id in ids {
        // The hub's own id, which the lab made, is too large a number. Of its VPC only the segment is asked for.
        let number = id.strip_prefix("vpc-").and_then(|hex| usize::from_str_radix(hex, 16).ok()).unwrap_or_default();
        let (cidr, segment) = (cidr(number), segment(number));
        let _ = write!(
            set,
            "<item><vpcId>{id}</vpcId><ownerId>{owner}</ownerId><state>available</state><cidrBlock>{cidr}</cidrBlock>\
             <cidrBlockAssociationSet><item><associationId>vpc-cidr-assoc-{id}</associationId>\
             <cidrBlock>{cidr}</cidrBlock><cidrBlockState><state>associated</state></cidrBlockState></item>\
             </cidrBlockAssociationSet><dhcpOptionsId>dopt-1</dhcpOptionsId><instanceTenancy>default</instanceTenancy>\
             <isDefault>false</isDefault><tagSet><item><key>crosswan-segment</key><value>{segment}</value></item></tagSet></item>"
        );
    }
    answer("DescribeVpcs", &format!("<vpcSet>{set}</vpcSet>"))
}

/// EC2's own form of an error.
pub fn error(code: &str) -> String {
    format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>canned</Message></Error></Errors>\
         <RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>"
    )
}

fn answer(action: &str, content: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>00000000-0000-0000-0000-000000000000</requestId>{content}</{action}Response>"
    )
}

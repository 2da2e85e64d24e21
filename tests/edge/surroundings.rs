//! What is around the own interface: EC2's answers become the model's, whatever else is in them, and half an answer is none.

use crosswan::observe::ec2::surroundings;
use crosswan_core::{
    doctor::Surroundings,
    model::{Carries, FarEnd, Identity, May, OwnInterface, Timestamp, Way},
    settings::Tag,
};

use crate::{
    ec2::{TIMEOUT, access, within},
    server::{Reply, Server},
    xml::{answer, instances},
};

const INSTANCE: &str = "<item><instanceId>i-000000ff</instanceId><networkInterfaceSet>\
    <item><groupSet><item><groupId>sg-second</groupId></item></groupSet><attachment><deviceIndex>1</deviceIndex></attachment></item>\
    <item><groupSet><item><groupId>sg-b</groupId></item><item><groupId>sg-a</groupId></item></groupSet>\
    <attachment><deviceIndex>0</deviceIndex></attachment></item></networkInterfaceSet></item>";
const GROUPS: &str = "<securityGroupInfo><item><groupId>sg-a</groupId><ipPermissions>\
    <item><ipProtocol>udp</ipProtocol><fromPort>500</fromPort><toPort>500</toPort><ipRanges><item><cidrIp>198.51.100.0/24</cidrIp></item></ipRanges></item>\
    <item><ipProtocol>tcp</ipProtocol><fromPort>0</fromPort><toPort>65535</toPort><groups><item><groupId>sg-c</groupId></item></groups></item>\
    <item><ipProtocol>50</ipProtocol><prefixListIds><item><prefixListId>pl-1</prefixListId></item></prefixListIds></item>\
    <item><ipProtocol>-1</ipProtocol><ipv6Ranges><item><cidrIpv6>::/0</cidrIpv6></item></ipv6Ranges></item>\
    <item><ipProtocol>icmpv6</ipProtocol><fromPort>-1</fromPort><toPort>-1</toPort><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item>\
    <item><ipProtocol>-1</ipProtocol><ipRanges><item><cidrIp>no network</cidrIp></item></ipRanges></item></ipPermissions></item>\
    <item><groupId>sg-b</groupId><ipPermissionsEgress><item><ipProtocol>-1</ipProtocol><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item>\
    </ipPermissionsEgress></item></securityGroupInfo>";
const ACLS: &str = "<networkAclSet><item><networkAclId>acl-1</networkAclId><entrySet>\
    <item><ruleNumber>100</ruleNumber><protocol>-1</protocol><ruleAction>allow</ruleAction><egress>false</egress><cidrBlock>0.0.0.0/0</cidrBlock></item>\
    <item><ruleNumber>90</ruleNumber><protocol>17</protocol><ruleAction>deny</ruleAction><egress>false</egress><cidrBlock>0.0.0.0/0</cidrBlock>\
    <portRange><from>500</from><to>500</to></portRange></item>\
    <item><ruleNumber>80</ruleNumber><protocol>1</protocol><ruleAction>deny</ruleAction><egress>false</egress><cidrBlock>0.0.0.0/0</cidrBlock>\
    <icmpTypeCode><type>8</type><code>-1</code></icmpTypeCode></item>\
    <item><ruleNumber>1</ruleNumber><protocol>-1</protocol><ruleAction>deny</ruleAction><egress>false</egress><ipv6CidrBlock>::/0</ipv6CidrBlock></item>\
    </entrySet></item></networkAclSet>";
const TABLES: &str = "<routeTableSet><item><routeTableId>rtb-00000001</routeTableId>\
    <associationSet><item><main>true</main></item></associationSet></item>\
    <item><routeTableId>rtb-00000002</routeTableId><associationSet><item><subnetId>subnet-00000002</subnetId><main>false</main></item></associationSet>\
    <tagSet><item><key>crosswan-routes</key><value>managed</value></item></tagSet>\
    <routeSet><item><destinationCidrBlock>10.0.0.0/8</destinationCidrBlock><networkInterfaceId>eni-000000ff</networkInterfaceId></item></routeSet></item></routeTableSet>";
const SUBNETS: &str = "<subnetSet><item><subnetId>subnet-00000001</subnetId><cidrBlock>10.1.1.0/24</cidrBlock></item>\
    <item><subnetId>subnet-00000002</subnetId><cidrBlock>10.1.2.0/24</cidrBlock></item>\
    <item><subnetId>subnet-00000006</subnetId></item></subnetSet>";

/// Asks EC2, which answers as above, but to `action` with this.
fn ask(action: &'static str, content: &'static str) -> Surroundings {
    let server = Server::start(move |request, _| {
        let usual = match request.action() {
            "DescribeInstances" => return Reply::ok(instances(&[INSTANCE.to_owned()], None)),
            "DescribeSecurityGroups" => GROUPS,
            "DescribeNetworkAcls" => ACLS,
            "DescribeRouteTables" => TABLES,
            _ => SUBNETS,
        };
        let content = if request.action() == action { content } else { usual };
        Reply::ok(answer(request.action(), content, None))
    });
    let me: Identity = serde_json::from_value(serde_json::json!({
        "instance": "i-000000ff", "region": "xx-own-1", "vpc": "vpc-000000ff", "cidrs": ["10.1.0.0/16"],
        "private": "10.1.0.5", "public": null
    }))
    .unwrap();
    let own = OwnInterface {
        id: "eni-000000ff".parse().unwrap(),
        subnet: "subnet-000000ff".parse().unwrap(),
        launched: Timestamp(1),
    };
    let tag = Tag { key: "crosswan-routes".into(), value: "managed".into() };
    within(TIMEOUT, surroundings(&access(&server.endpoint), &me, &own, &tag, TIMEOUT))
}

#[test]
fn groups_acl_and_subnets_are_read_and_what_is_not_ipv4_is_left_out() {
    let around = ask("", "");
    let groups = around.groups.unwrap();
    assert_eq!(groups.ids, ["sg-a", "sg-b"], "of the first interface alone");
    let ends: Vec<FarEnd> = groups.rules.iter().map(|(_, _, end)| *end).collect();
    let net = |text: &str| FarEnd::Net(text.parse().unwrap());
    assert_eq!(ends, [net("198.51.100.0/24"), FarEnd::Group, FarEnd::PrefixList, net("0.0.0.0/0")]);
    let peer = "198.51.100.7".parse().unwrap();
    assert_eq!(groups.let_pass(Way::In, peer, Carries::Udp(500)), May::Pass);
    assert_eq!(groups.let_pass(Way::In, peer, Carries::Udp(4500)), May::Not);
    let acl = around.acl.unwrap();
    assert_eq!((acl.id.as_str(), acl.entries.len()), ("acl-1", 3));
    let denied = |carries| acl.denied(Way::In, peer, carries);
    assert_eq!(
        [Carries::Udp(500), Carries::Icmp(8), Carries::Icmp(0), Carries::Tcp(500)].map(denied),
        [Some(90), Some(80), None, None]
    );
    let subnets = around.subnets.unwrap();
    let of: Vec<_> = subnets.iter().map(|(id, s)| (id.as_str(), s.table.as_str(), s.tagged, s.routes.len())).collect();
    assert_eq!(of, [("subnet-00000001", "rtb-00000001", false, 0), ("subnet-00000002", "rtb-00000002", true, 1)]);
}

#[test]
fn half_an_answer_about_what_is_around_is_none() {
    for (action, content, said) in [
        ("DescribeSecurityGroups", "", "securityGroupInfo"),
        ("DescribeNetworkAcls", "<networkAclSet></networkAclSet>", "0 network ACLs for subnet-000000ff"),
        ("DescribeRouteTables", "<routeTableSet></routeTableSet>", "subnet-00000001 has no route table"),
        ("DescribeSubnets", "", "subnetSet"),
        ("DescribeSubnets", "<subnetSet><item><subnetId>x; reboot</subnetId></item></subnetSet>", "subnet-0a1b2c3d"),
    ] {
        let around = ask(action, content);
        let why: Vec<String> = [around.groups.err(), around.acl.err(), around.subnets.err()]
            .into_iter()
            .flatten()
            .map(|why| why.to_string())
            .collect();
        assert!(why.len() == 1 && why[0].contains(said), "{action}: {why:?}");
    }
}

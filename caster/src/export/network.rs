//! VPC, subnets, tables, ACL, groups, interfaces, addresses and routes as CloudFormation's resources.

use serde_json::{Value, json};

use super::{Template, id_of, logical, tags};
use crate::{
    part::{Part, Ref},
    plan::Step,
    rule::{Peer, Rule},
};

impl Template<'_> {
    /// An ACL of the template's own, since it cannot change the default one.
    pub(super) fn acl(&mut self) {
        let Some(entries) = &self.desired.acl else { return };
        let id = id_of(&Part::acl());
        self.add(&id, "AWS::EC2::NetworkAcl", json!({ "VpcId": { "Ref": id_of(&Part::vpc()) } }));
        for entry in entries {
            let mut properties = json!({
                "NetworkAclId": { "Ref": id },
                "RuleNumber": entry.number,
                "Protocol": entry.protocol,
                "RuleAction": if entry.allow { "allow" } else { "deny" },
                "Egress": entry.egress,
                "CidrBlock": entry.cidr.to_string(),
            });
            if let Some((from, to)) = entry.ports {
                properties["PortRange"] = json!({ "From": from, "To": to });
            }
            if let Some((kind, code)) = entry.icmp {
                properties["Icmp"] = json!({ "Type": kind, "Code": code });
            }
            self.add(&logical(&format!("acl {}", entry.place())), "AWS::EC2::NetworkAclEntry", properties);
        }
        for subnet in &self.desired.subnets {
            let subnet = id_of(&Part::subnet(subnet.cidr));
            let properties = json!({ "NetworkAclId": { "Ref": id }, "SubnetId": { "Ref": subnet } });
            self.add(&format!("{subnet}Acl"), "AWS::EC2::SubnetNetworkAclAssociation", properties);
        }
    }

    pub(super) fn network(&mut self, step: &Step) {
        match step {
            Step::CreateVpc { part, cidr, tags: own } => {
                let properties = json!({
                    "CidrBlock": cidr.to_string(),
                    "EnableDnsHostnames": true,
                    "EnableDnsSupport": true,
                    "Tags": tags(own),
                });
                self.add(&id_of(part), "AWS::EC2::VPC", properties);
            }
            Step::CreateInternetGateway { part, tags: own } => {
                self.add(&id_of(part), "AWS::EC2::InternetGateway", json!({ "Tags": tags(own) }));
            }
            Step::AttachInternetGateway { gateway, vpc } => {
                let properties = json!({ "InternetGatewayId": self.refer(gateway), "VpcId": self.refer(vpc) });
                self.add("InternetGatewayAttachment", "AWS::EC2::VPCGatewayAttachment", properties);
            }
            Step::CreateSubnet { part, vpc, cidr, zone, tags: own, .. } => {
                let properties = json!({
                    "VpcId": self.refer(vpc),
                    "CidrBlock": cidr.to_string(),
                    "AvailabilityZone": self.zone(zone),
                    "Tags": tags(own),
                });
                self.add(&id_of(part), "AWS::EC2::Subnet", properties);
            }
            Step::CreateRouteTable { part, vpc, tags: own } => {
                let properties = json!({ "VpcId": self.refer(vpc), "Tags": tags(own) });
                self.add(&id_of(part), "AWS::EC2::RouteTable", properties);
            }
            // The main table, which a template cannot name, is one of its own here.
            Step::Adopt { what: Ref::New(_), part, tags: own, .. } => {
                let properties = json!({ "VpcId": { "Ref": id_of(&Part::vpc()) }, "Tags": tags(own) });
                self.add(&id_of(part), "AWS::EC2::RouteTable", properties);
            }
            Step::Associate { table, subnet, .. } => {
                let properties = json!({ "RouteTableId": self.refer(table), "SubnetId": self.refer(subnet) });
                let id = format!("{}Table", logical(&reference_name(subnet)));
                self.add(&id, "AWS::EC2::SubnetRouteTableAssociation", properties);
            }
            Step::CreateGroup { part, vpc, name, tags: own } => {
                let properties = json!({
                    "GroupName": name,
                    "GroupDescription": name,
                    "VpcId": self.refer(vpc),
                    "Tags": tags(own),
                });
                self.add(&id_of(part), "AWS::EC2::SecurityGroup", properties);
            }
            Step::Allow { group, rule, .. } => self.allow(group, rule),
            Step::CreateInterface { part, subnet, groups, tags: own } => {
                let groups: Vec<Value> = groups.iter().map(|g| self.attribute(g, "GroupId")).collect();
                let properties = json!({
                    "SubnetId": self.refer(subnet),
                    "GroupSet": groups,
                    "SourceDestCheck": false,
                    "Tags": tags(own),
                });
                self.add(&id_of(part), "AWS::EC2::NetworkInterface", properties);
            }
            Step::AllocateAddress { part, tags: own } => {
                self.add(&id_of(part), "AWS::EC2::EIP", json!({ "Domain": "vpc", "Tags": tags(own) }));
                self.after(&id_of(part), "InternetGatewayAttachment");
            }
            Step::AssociateAddress { address, to, .. } => {
                let allocation = self.attribute(address, "AllocationId");
                let key = if reference_name(to).ends_with("/interface") { "NetworkInterfaceId" } else { "InstanceId" };
                let mut properties = json!({ "AllocationId": allocation });
                properties[key] = self.refer(to);
                let id = format!("{}Association", logical(&reference_name(to)));
                self.add(&id, "AWS::EC2::EIPAssociation", properties);
                self.after(&id, "InternetGatewayAttachment");
            }
            Step::CreateRoute { table, to, target, .. } => {
                let mut properties =
                    json!({ "RouteTableId": self.refer(table), "DestinationCidrBlock": to.to_string() });
                let internet = *target == Ref::New(Part::internet_gateway());
                properties[if internet { "GatewayId" } else { "NetworkInterfaceId" }] = self.refer(target);
                let id = logical(&format!("route {} {to}", reference_name(table)));
                self.add(&id, "AWS::EC2::Route", properties);
                if internet {
                    self.after(&id, "InternetGatewayAttachment");
                }
            }
            // Part of their resources here, or not needed in a VPC that is new.
            _ => {}
        }
    }

    fn allow(&mut self, group: &Ref, rule: &Rule) {
        let mut properties = json!({ "GroupId": self.attribute(group, "GroupId"), "IpProtocol": rule.protocol });
        if rule.protocol != "-1" {
            properties["FromPort"] = json!(rule.from);
            properties["ToPort"] = json!(rule.to);
        }
        let peer = match &rule.peer {
            Peer::Cidr(net) => ("CidrIp", json!(net.to_string())),
            Peer::Group(name) => {
                let other = self.attribute(&Ref::New(Part::group(name)), "GroupId");
                (if rule.egress { "DestinationSecurityGroupId" } else { "SourceSecurityGroupId" }, other)
            }
        };
        properties[peer.0] = peer.1;
        let kind = if rule.egress { "AWS::EC2::SecurityGroupEgress" } else { "AWS::EC2::SecurityGroupIngress" };
        self.add(&logical(&format!("{} {rule}", reference_name(group))), kind, properties);
    }
}

/// What a reference is called.
pub(super) fn reference_name(reference: &Ref) -> String {
    match reference {
        Ref::New(part) => part.as_str().to_owned(),
        Ref::Id(id) => id.clone(),
    }
}

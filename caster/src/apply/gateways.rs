//! Interfaces and Elastic IPs: what of a gateway stays when its instance goes.

use std::net::Ipv4Addr;

use aws_sdk_ec2::types::{AttributeBooleanValue, DomainType, ResourceType};

use super::{
    call::{once, send},
    context::Apply,
    tags::{specification, token},
};
use crate::{
    aws::{Failure, Kind, listed},
    part::{Part, Ref, Tags},
    plan::Step,
};

impl Apply<'_> {
    /// With the source/destination check off.
    pub(super) async fn create_interface(
        &self,
        part: &Part,
        subnet: &Ref,
        groups: &[Ref],
        tags: &Tags,
    ) -> Result<String, Failure> {
        let subnet = self.id(subnet)?;
        let call = self.aws.ec2.create_network_interface().subnet_id(&subnet);
        let call = call.set_groups(Some(self.ids(groups)?)).client_token(token(tags, &subnet));
        let name = tags.get("Name").map(String::as_str).unwrap_or_default();
        let call = call.description(format!("{name}, the gateway's place"));
        let call = call.tag_specifications(specification(ResourceType::NetworkInterface, tags));
        let id = self
            .persist(|| async {
                let answer = send!("ec2:CreateNetworkInterface", call.clone()).await?;
                let id = answer.network_interface.and_then(|e| e.network_interface_id);
                id.ok_or_else(|| Failure::misfit("ec2:CreateNetworkInterface", "networkInterfaceId"))
            })
            .await?;
        self.ledger.note(part, &id);
        self.disable_source_dest_check(&Ref::Id(id.clone())).await?;
        Ok(id)
    }

    /// Of an interface, or of an instance's own flag.
    pub(super) async fn disable_source_dest_check(&self, what: &Ref) -> Result<(), Failure> {
        let (id, off) = (self.id(what)?, AttributeBooleanValue::builder().value(false).build());
        if id.starts_with("i-") {
            let call = self.aws.ec2.modify_instance_attribute().instance_id(id).source_dest_check(off);
            return self.persist(|| send!("ec2:ModifyInstanceAttribute", call.clone())).await.map(drop);
        }
        let call = self.aws.ec2.modify_network_interface_attribute().network_interface_id(id).source_dest_check(off);
        self.persist(|| send!("ec2:ModifyNetworkInterfaceAttribute", call.clone())).await.map(drop)
    }

    /// The groups of a unit, all for one interface: EC2 replaces its whole list.
    pub(super) async fn add_groups(&self, interface: &Ref, unit: &[&Step]) -> Result<(), Failure> {
        let id = self.id(interface)?;
        let call = self.aws.ec2.describe_network_interfaces().network_interface_ids(&id);
        let found = self.persist(|| listed!("ec2:DescribeNetworkInterfaces", call.clone(), network_interfaces)).await?;
        let there = found.into_iter().flat_map(|e| e.groups.unwrap_or_default());
        let mut groups: Vec<String> = there.filter_map(|g| g.group_id).collect();
        for step in unit {
            let Step::AddGroup { group, .. } = step else { continue };
            let group = self.id(group)?;
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let call = self.aws.ec2.modify_network_interface_attribute().network_interface_id(id);
        let call = call.set_groups(Some(groups));
        self.persist(|| send!("ec2:ModifyNetworkInterfaceAttribute", call.clone())).await.map(drop)
    }

    pub(super) async fn allocate_address(&self, part: &Part, tags: &Tags) -> Result<String, Failure> {
        let call = self.aws.ec2.allocate_address().domain(DomainType::Vpc);
        let call = call.tag_specifications(specification(ResourceType::ElasticIp, tags));
        self.make(part, tags, || async {
            let answer = send!("ec2:AllocateAddress", call.clone().customize().config_override(once())).await?;
            answer.allocation_id.ok_or_else(|| Failure::misfit("ec2:AllocateAddress", "allocationId"))
        })
        .await
    }

    /// Never takes an address from something else.
    pub(super) async fn associate_address(&self, address: &Ref, to: &Ref) -> Result<(), Failure> {
        let (address, to) = (self.id(address)?, self.id(to)?);
        let call = self.aws.ec2.associate_address().allocation_id(address).allow_reassociation(false);
        let call = match to.starts_with("i-") {
            true => call.instance_id(to),
            false => call.network_interface_id(to),
        };
        match self.persist(|| send!("ec2:AssociateAddress", call.clone())).await {
            // Verify tells whether it is on this interface.
            Err(failure) if failure.kind == Kind::Exists => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn assign_private_address(&self, interface: &Ref, address: Ipv4Addr) -> Result<(), Failure> {
        let call = self.aws.ec2.assign_private_ip_addresses().network_interface_id(self.id(interface)?);
        let call = call.private_ip_addresses(address.to_string()).allow_reassignment(false);
        self.persist(|| send!("ec2:AssignPrivateIpAddresses", call.clone())).await.map(drop)
    }
}

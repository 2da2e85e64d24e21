//! VPC, internet gateway, subnets, route tables, routes, and the network ACL.

use std::time::Duration;

use aws_sdk_ec2::types::{AttributeBooleanValue, IcmpTypeCode, PortRange, ResourceType, RuleAction, VpcState};
use ipnet::Ipv4Net;
use tokio::time::Instant;

use super::{
    call::{filter, once, send},
    context::Apply,
    patience::Pauses,
    tags::{specification, token},
};
use crate::{
    aws::{Failure, Kind, listed},
    part::{CAST, PART, Part, Ref, Tags},
    rule::AclEntry,
};

/// How long another cast may take to give way: some calls.
const GIVES_WAY: Duration = Duration::from_secs(5);
const AVAILABLE: Duration = Duration::from_secs(60);

impl Apply<'_> {
    pub(super) async fn create_vpc(&self, part: &Part, cidr: Ipv4Net, tags: &Tags) -> Result<String, Failure> {
        let ec2 = &self.aws.ec2;
        let id = self
            .make(part, tags, || async {
                let call = ec2.create_vpc().cidr_block(cidr.to_string());
                let call = call.tag_specifications(specification(ResourceType::Vpc, tags));
                let answer = send!("ec2:CreateVpc", call.customize().config_override(once())).await?;
                let id = answer.vpc.and_then(|v| v.vpc_id);
                id.ok_or_else(|| Failure::misfit("ec2:CreateVpc", "vpcId"))
            })
            .await?;
        self.alone(&id, tags).await?;
        self.wait_for(&format!("{id} to become available"), AVAILABLE, || async {
            let found = listed!("ec2:DescribeVpcs", ec2.describe_vpcs().vpc_ids(&id), vpcs).await?;
            Ok(found.into_iter().find(|v| v.state == Some(VpcState::Available)).map(|_| ()))
        })
        .await?;
        self.come_with(&id).await?;
        Ok(id)
    }

    /// EC2 takes no client token for a VPC, so two casts from two machines may make one each, and the later one sees the other's. It
    /// gives way: it takes its VPC out of the cast, where the other would stumble over it, and stops. Where both see each other the
    /// one with the larger id gives way at once, and the other one waits for that.
    async fn alone(&self, id: &str, tags: &Tags) -> Result<(), Failure> {
        let (started, mut pauses) = (Instant::now(), Pauses::new());
        let other = loop {
            let others = self.tagged(tags).await?;
            match others.into_iter().find(|other| other != id) {
                None => return Ok(()),
                // It was there before, or does not give way.
                Some(other) if other.as_str() < id || started.elapsed() > GIVES_WAY => break other,
                Some(_) => pauses.pause().await,
            }
        };
        let cast = tags.get(CAST).cloned().unwrap_or_default();
        let spare = [(CAST.to_owned(), format!("spare of {cast}")), (PART.to_owned(), "vpc/spare".to_owned())];
        self.tag(&Ref::Id(id.to_owned()), "", &spare.into()).await?;
        Err(Failure::waited(format!(
            "another cast of {cast} runs at the same time and has made {other}; {id} is empty and not needed, delete it. Cast again when the other has ended"
        )))
    }

    /// The main route table and the default ACL come with a VPC.
    async fn come_with(&self, vpc: &str) -> Result<(), Failure> {
        let ec2 = &self.aws.ec2;
        let table = self
            .wait_for(&format!("the main route table of {vpc}"), AVAILABLE, || async {
                let call = ec2.describe_route_tables().filters(filter("vpc-id", vpc));
                let found = listed!("ec2:DescribeRouteTables", call, route_tables).await?;
                Ok(found.into_iter().find_map(|t| {
                    let main = t.associations.iter().flatten().any(|a| a.main == Some(true));
                    t.route_table_id.filter(|_| main)
                }))
            })
            .await?;
        self.ledger.note(&Part::private_table(), &table);
        let acl = self
            .wait_for(&format!("the default ACL of {vpc}"), AVAILABLE, || async {
                let call = ec2.describe_network_acls().filters(filter("vpc-id", vpc));
                let found = listed!("ec2:DescribeNetworkAcls", call, network_acls).await?;
                Ok(found.into_iter().find(|a| a.is_default == Some(true)).and_then(|a| a.network_acl_id))
            })
            .await?;
        self.ledger.note(&Part::acl(), &acl);
        Ok(())
    }

    pub(super) async fn enable_dns_hostnames(&self, vpc: &Ref) -> Result<(), Failure> {
        let on = AttributeBooleanValue::builder().value(true).build();
        let call = self.aws.ec2.modify_vpc_attribute().vpc_id(self.id(vpc)?).enable_dns_hostnames(on);
        self.persist(|| send!("ec2:ModifyVpcAttribute", call.clone())).await.map(drop)
    }

    pub(super) async fn create_internet_gateway(&self, part: &Part, tags: &Tags) -> Result<String, Failure> {
        let call = self.aws.ec2.create_internet_gateway();
        let call = call.tag_specifications(specification(ResourceType::InternetGateway, tags));
        self.make(part, tags, || async {
            let once = call.clone().customize().config_override(once());
            let answer = send!("ec2:CreateInternetGateway", once).await?;
            let id = answer.internet_gateway.and_then(|g| g.internet_gateway_id);
            id.ok_or_else(|| Failure::misfit("ec2:CreateInternetGateway", "internetGatewayId"))
        })
        .await
    }

    pub(super) async fn attach(&self, gateway: &Ref, vpc: &Ref) -> Result<(), Failure> {
        let (gateway, vpc) = (self.id(gateway)?, self.id(vpc)?);
        let call = self.aws.ec2.attach_internet_gateway().internet_gateway_id(&gateway).vpc_id(&vpc);
        match self.persist(|| send!("ec2:AttachInternetGateway", call.clone())).await {
            // An attempt before this one was not answered; verify tells whether it is this gateway.
            Err(failure) if failure.kind == Kind::Exists => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn create_subnet(
        &self,
        part: &Part,
        vpc: &Ref,
        cidr: Ipv4Net,
        zone: &str,
        tags: &Tags,
    ) -> Result<String, Failure> {
        let vpc = self.id(vpc)?;
        let call = self.aws.ec2.create_subnet().vpc_id(&vpc).cidr_block(cidr.to_string()).availability_zone(zone);
        let call = call.tag_specifications(specification(ResourceType::Subnet, tags));
        let made = self
            .persist(|| async {
                let answer = send!("ec2:CreateSubnet", call.clone()).await?;
                let id = answer.subnet.and_then(|s| s.subnet_id);
                id.ok_or_else(|| Failure::misfit("ec2:CreateSubnet", "subnetId"))
            })
            .await;
        let id = match made {
            // Another cast, or an attempt before this one, has made it; else something overlaps with it.
            Err(failure) if failure.kind == Kind::Exists => {
                let call = self.aws.ec2.describe_subnets().filters(filter("vpc-id", &vpc));
                let call = call.filters(filter("cidr-block", &cidr.to_string()));
                let found = listed!("ec2:DescribeSubnets", call, subnets).await?;
                found.into_iter().find_map(|s| s.subnet_id).ok_or(failure)?
            }
            other => other?,
        };
        self.ledger.note(part, &id);
        Ok(id)
    }

    pub(super) async fn create_route_table(&self, part: &Part, vpc: &Ref, tags: &Tags) -> Result<String, Failure> {
        let vpc = self.id(vpc)?;
        let call = self.aws.ec2.create_route_table().client_token(token(tags, &vpc)).vpc_id(vpc);
        let call = call.tag_specifications(specification(ResourceType::RouteTable, tags));
        let id = self
            .persist(|| async {
                let answer = send!("ec2:CreateRouteTable", call.clone()).await?;
                let id = answer.route_table.and_then(|t| t.route_table_id);
                id.ok_or_else(|| Failure::misfit("ec2:CreateRouteTable", "routeTableId"))
            })
            .await?;
        self.ledger.note(part, &id);
        Ok(id)
    }

    pub(super) async fn associate(&self, table: &Ref, subnet: &Ref) -> Result<(), Failure> {
        let call = self.aws.ec2.associate_route_table().route_table_id(self.id(table)?).subnet_id(self.id(subnet)?);
        match self.persist(|| send!("ec2:AssociateRouteTable", call.clone())).await {
            // Verify tells whether it is this table.
            Err(failure) if failure.kind == Kind::Exists => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn move_association(&self, subnet: &Ref, old: &Ref, table: &Ref) -> Result<(), Failure> {
        let (subnet, old, table) = (self.id(subnet)?, self.id(old)?, self.id(table)?);
        let call = self.aws.ec2.describe_route_tables().route_table_ids(&old);
        let found = self.persist(|| listed!("ec2:DescribeRouteTables", call.clone(), route_tables)).await?;
        let mut associations = found.into_iter().flat_map(|t| t.associations.unwrap_or_default());
        let this = associations.find(|a| a.subnet_id.as_deref() == Some(&subnet));
        let id = this.and_then(|a| a.route_table_association_id);
        let id =
            id.ok_or_else(|| Failure::waited(format!("{subnet} is not associated with {old} any more; cast again")))?;
        let call = self.aws.ec2.replace_route_table_association().association_id(id).route_table_id(table);
        self.persist(|| send!("ec2:ReplaceRouteTableAssociation", call.clone())).await.map(drop)
    }

    pub(super) async fn create_route(&self, table: &Ref, to: Ipv4Net, target: &Ref) -> Result<(), Failure> {
        let (table, target) = (self.id(table)?, self.id(target)?);
        let call = self.aws.ec2.create_route().route_table_id(table).destination_cidr_block(to.to_string());
        let call = match target.starts_with("igw-") {
            true => call.gateway_id(target),
            false => call.network_interface_id(target),
        };
        match self.persist(|| send!("ec2:CreateRoute", call.clone())).await {
            // Verify tells whether it goes there.
            Err(failure) if failure.kind == Kind::Exists => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn replace_route(&self, table: &Ref, to: Ipv4Net, target: &Ref) -> Result<(), Failure> {
        let (table, target) = (self.id(table)?, self.id(target)?);
        let call = self.aws.ec2.replace_route().route_table_id(table).destination_cidr_block(to.to_string());
        let call = match target.starts_with("igw-") {
            true => call.gateway_id(target),
            false => call.network_interface_id(target),
        };
        self.persist(|| send!("ec2:ReplaceRoute", call.clone())).await.map(drop)
    }

    pub(super) async fn create_acl_entry(&self, acl: &Ref, entry: &AclEntry) -> Result<(), Failure> {
        let call = self
            .aws
            .ec2
            .create_network_acl_entry()
            .network_acl_id(self.id(acl)?)
            .egress(entry.egress)
            .rule_number(entry.number.into())
            .protocol(entry.protocol.to_string())
            .rule_action(action(entry))
            .cidr_block(entry.cidr.to_string())
            .set_port_range(ports(entry))
            .set_icmp_type_code(icmp(entry));
        match self.persist(|| send!("ec2:CreateNetworkAclEntry", call.clone())).await {
            Err(failure) if failure.kind == Kind::Exists => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn replace_acl_entry(&self, acl: &Ref, entry: &AclEntry) -> Result<(), Failure> {
        let call = self
            .aws
            .ec2
            .replace_network_acl_entry()
            .network_acl_id(self.id(acl)?)
            .egress(entry.egress)
            .rule_number(entry.number.into())
            .protocol(entry.protocol.to_string())
            .rule_action(action(entry))
            .cidr_block(entry.cidr.to_string())
            .set_port_range(ports(entry))
            .set_icmp_type_code(icmp(entry));
        self.persist(|| send!("ec2:ReplaceNetworkAclEntry", call.clone())).await.map(drop)
    }

    pub(super) async fn remove_acl_entry(&self, acl: &Ref, entry: &AclEntry) -> Result<(), Failure> {
        let call = self.aws.ec2.delete_network_acl_entry().network_acl_id(self.id(acl)?);
        let call = call.egress(entry.egress).rule_number(entry.number.into());
        match self.persist(|| send!("ec2:DeleteNetworkAclEntry", call.clone())).await {
            Err(failure) if failure.kind == Kind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }
}

fn action(entry: &AclEntry) -> RuleAction {
    if entry.allow { RuleAction::Allow } else { RuleAction::Deny }
}

fn ports(entry: &AclEntry) -> Option<PortRange> {
    entry.ports.map(|(from, to)| PortRange::builder().from(from.into()).to(to.into()).build())
}

fn icmp(entry: &AclEntry) -> Option<IcmpTypeCode> {
    entry.icmp.map(|(kind, code)| IcmpTypeCode::builder().r#type(kind.into()).code(code.into()).build())
}

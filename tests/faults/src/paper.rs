//! Gateways that exist only in EC2: enough for everything that the hub decides, without a network.

use anyhow::Result;
use crosswan_lab::Lab;

/// A VPC with one running gateway tagged as one, and nobody in it.
pub struct Paper {
    pub region: String,
    pub vpc: String,
    pub instance: String,
    /// Association and allocation of its Elastic IP.
    elastic: Option<(String, String)>,
}

/// A VPC to be put on paper.
#[derive(Clone, Copy)]
pub struct Spec<'a> {
    pub region: &'a str,
    pub cidrs: &'a [&'a str],
    /// Last byte of its public address; `None` for a gateway without one. The lab's own start at 100.
    pub address: Option<u8>,
    /// Of its instance.
    pub tags: &'a [(&'a str, &'a str)],
}

pub const NAT: &[(&str, &str)] = &[("service", "nat")];

impl Paper {
    /// A client VPC as any other.
    pub fn client(lab: &Lab, region: &str, cidr: &str, address: u8) -> Result<Paper> {
        Paper::new(lab, Spec { region, cidrs: &[cidr], address: Some(address), tags: NAT })
    }

    pub fn new(lab: &Lab, spec: Spec) -> Result<Paper> {
        let Spec { region, cidrs, address, tags } = spec;
        let call = |action, parameters: &[(&str, &str)], element| lab.ec2().get(region, action, parameters, element);
        let vpc = call("CreateVpc", &[("CidrBlock", cidrs[0])], "vpcId")?;
        for cidr in &cidrs[1..] {
            lab.ec2().call(region, "AssociateVpcCidrBlock", &[("VpcId", &vpc), ("CidrBlock", cidr)])?;
        }
        let subnet = call("CreateSubnet", &[("VpcId", &vpc), ("CidrBlock", cidrs[0])], "subnetId")?;
        let instance = Paper::launch(lab, region, &subnet, tags)?;
        let mut paper = Paper { region: region.into(), vpc, instance, elastic: None };
        if let Some(address) = address {
            paper.associate(lab, address)?;
        }
        Ok(paper)
    }

    /// Runs an instance in a subnet.
    pub fn launch(lab: &Lab, region: &str, subnet: &str, tags: &[(&str, &str)]) -> Result<String> {
        let mut parameters = vec![
            ("ImageId".to_string(), "ami-00000000000000000"),
            ("InstanceType".into(), "t3.small"),
            ("MinCount".into(), "1"),
            ("MaxCount".into(), "1"),
            ("SubnetId".into(), subnet),
            ("TagSpecification.1.ResourceType".into(), "instance"),
        ];
        for (n, (key, value)) in tags.iter().enumerate() {
            parameters.push((format!("TagSpecification.1.Tag.{}.Key", n + 1), key));
            parameters.push((format!("TagSpecification.1.Tag.{}.Value", n + 1), value));
        }
        let parameters: Vec<_> = parameters.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        lab.ec2().get(region, "RunInstances", &parameters, "instanceId")
    }

    /// Gives its gateway 198.51.100.`address`.
    pub fn associate(&mut self, lab: &Lab, address: u8) -> Result<()> {
        let address = format!("198.51.100.{address}");
        let call =
            |action, parameters: &[(&str, &str)], element| lab.ec2().get(&self.region, action, parameters, element);
        let allocation = call("AllocateAddress", &[("Domain", "vpc"), ("Address", &address)], "allocationId")?;
        let parameters = [("AllocationId", allocation.as_str()), ("InstanceId", &self.instance)];
        self.elastic = Some((call("AssociateAddress", &parameters, "associationId")?, allocation));
        Ok(())
    }

    /// Removes its public address, and returns it.
    pub fn disassociate(&mut self, lab: &Lab) -> Result<()> {
        if let Some((association, allocation)) = self.elastic.take() {
            lab.ec2().call(&self.region, "DisassociateAddress", &[("AssociationId", &association)])?;
            lab.ec2().call(&self.region, "ReleaseAddress", &[("AllocationId", &allocation)])?;
        }
        Ok(())
    }

    /// Sets a tag of its gateway, or with `None` removes it.
    pub fn tag(&self, lab: &Lab, key: &str, value: Option<&str>) -> Result<()> {
        lab.ec2().tag(&self.region, &self.instance, key, value)
    }

    /// Sets a tag of its VPC, or with `None` removes it.
    pub fn tag_vpc(&self, lab: &Lab, key: &str, value: Option<&str>) -> Result<()> {
        lab.ec2().tag(&self.region, &self.vpc, key, value)
    }

    /// Associates a secondary CIDR with its VPC; the association's id.
    pub fn add_cidr(&self, lab: &Lab, cidr: &str) -> Result<String> {
        let parameters = [("VpcId", self.vpc.as_str()), ("CidrBlock", cidr)];
        lab.ec2().get(&self.region, "AssociateVpcCidrBlock", &parameters, "associationId")
    }

    /// Ends such an association.
    pub fn remove_cidr(&self, lab: &Lab, association: &str) -> Result<()> {
        lab.ec2().call(&self.region, "DisassociateVpcCidrBlock", &[("AssociationId", association)]).map(drop)
    }

    /// Terminates its gateway.
    pub fn terminate(&self, lab: &Lab) -> Result<()> {
        lab.ec2().call(&self.region, "TerminateInstances", &[("InstanceId.1", &self.instance)]).map(drop)
    }
}

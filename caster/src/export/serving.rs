//! Instances, launch templates, Auto Scaling groups, load balancers and records as CloudFormation's resources.

use serde_json::{Value, json};

use super::{Template, id_of, logical, network::reference_name, tags};
use crate::{
    document::BalancerKind,
    health::Check,
    part::{Part, Ref},
    plan::{
        Step,
        resource::{Balancer, Launch, Listener, Place, RecordKind, ScalingGroup, Template as Data},
    },
};

impl Template<'_> {
    pub(super) fn serving(&mut self, step: &Step) {
        match step {
            Step::Launch(launch) => self.instance(launch),
            Step::CreateTemplate { part, name, data, .. } => {
                let data = self.data(data, name);
                let properties = json!({ "LaunchTemplateName": name, "LaunchTemplateData": data });
                self.add(&id_of(part), "AWS::EC2::LaunchTemplate", properties);
            }
            Step::CreateScalingGroup(group) => self.scaling_group(group),
            Step::CreateTargetGroup { part, vpc, name, protocol, port, health, tags: own } => {
                let mut properties = json!({
                    "Name": name,
                    "Protocol": protocol,
                    "Port": port,
                    "VpcId": self.refer(vpc),
                    "TargetType": "instance",
                    "Tags": tags(own),
                });
                if let Some(check) = Check::parse(health) {
                    properties["HealthCheckProtocol"] = json!(check.protocol);
                    properties["HealthCheckPort"] = json!(check.port.to_string());
                    properties["HealthCheckIntervalSeconds"] = json!(check.interval);
                    properties["HealthyThresholdCount"] = json!(check.healthy);
                    properties["UnhealthyThresholdCount"] = json!(check.unhealthy);
                    if let Some(path) = check.path {
                        properties["HealthCheckPath"] = json!(path);
                    }
                }
                self.add(&id_of(part), "AWS::ElasticLoadBalancingV2::TargetGroup", properties);
            }
            Step::Register { target, with } => {
                let target = json!({ "Id": self.refer(target) });
                let Some(group) = self.resources.get_mut(&logical(&reference_name(with))) else { return };
                match group["Properties"]["Targets"].as_array_mut() {
                    Some(targets) => targets.push(target),
                    None => group["Properties"]["Targets"] = json!([target]),
                }
            }
            Step::CreateBalancer(balancer) => self.balancer(balancer),
            Step::CreateListener { balancer, listener } => self.listener(balancer, listener),
            Step::SetRecord { name, kind, target, .. } => self.record(name, *kind, target),
            _ => {}
        }
    }

    /// An image of the document's own, or a parameter for the newest of a name.
    fn image(&mut self, id: &str) -> Value {
        if id.starts_with("ami-parameter/") { self.parameter(id) } else { json!(id) }
    }

    /// Metadata with tokens only, which an instance gets from a launch template.
    fn data(&mut self, data: &Data, whose: &str) -> Value {
        let groups: Vec<Value> = data.groups.iter().map(|g| self.attribute(g, "GroupId")).collect();
        let mut out = json!({
            "ImageId": self.image(&data.image.image),
            "InstanceType": data.instance_type,
            "IamInstanceProfile": { "Name": data.profile },
            "MetadataOptions": { "HttpTokens": "required", "HttpPutResponseHopLimit": 1 },
            "NetworkInterfaces": [
                { "DeviceIndex": 0, "AssociatePublicIpAddress": data.public, "Groups": groups }
            ],
            "TagSpecifications": [{ "ResourceType": "instance", "Tags": tags(&data.instance_tags) }],
        });
        if let Some(key) = &data.key_pair {
            out["KeyName"] = json!(key);
        }
        if let Some(digest) = &data.user_data {
            out["UserData"] = self.user_data(digest, whose);
        }
        out
    }

    fn instance(&mut self, launch: &Launch) {
        let spec = &launch.spec;
        let interface = match &launch.place {
            Place::Interface(interface) => json!({ "DeviceIndex": "0", "NetworkInterfaceId": self.refer(interface) }),
            Place::Subnet(subnet) => {
                let groups: Vec<Value> = spec.groups.iter().map(|g| self.attribute(g, "GroupId")).collect();
                json!({
                    "DeviceIndex": "0",
                    "SubnetId": self.refer(subnet),
                    "GroupSet": groups,
                    "AssociatePublicIpAddress": spec.public,
                })
            }
        };
        let mut properties = json!({
            "ImageId": self.image(&spec.image.image),
            "InstanceType": spec.instance_type,
            "IamInstanceProfile": spec.profile,
            "NetworkInterfaces": [interface],
            "MetadataOptions": { "HttpTokens": "required", "HttpPutResponseHopLimit": 1 },
            "Tags": tags(&launch.tags),
        });
        if let Some(key) = &spec.key_pair {
            properties["KeyName"] = json!(key);
        }
        if let Some(digest) = &spec.user_data {
            properties["UserData"] = self.user_data(digest, &launch.name);
        }
        self.add(&id_of(&launch.part), "AWS::EC2::Instance", properties);
    }

    fn scaling_group(&mut self, group: &ScalingGroup) {
        let template = self.refer(&group.template);
        let version = json!({ "Fn::GetAtt": [logical(&reference_name(&group.template)), "LatestVersionNumber"] });
        let own: Vec<Value> = group
            .tags
            .iter()
            .map(|(key, value)| json!({ "Key": key, "Value": value, "PropagateAtLaunch": true }))
            .collect();
        let mut properties = json!({
            "AutoScalingGroupName": group.name,
            "MinSize": group.min.to_string(),
            "MaxSize": group.max.to_string(),
            "DesiredCapacity": group.desired.to_string(),
            "LaunchTemplate": { "LaunchTemplateId": template, "Version": version },
            "VPCZoneIdentifier": group.subnets.iter().map(|s| self.refer(s)).collect::<Vec<_>>(),
            "Tags": own,
        });
        if !group.target_groups.is_empty() {
            let groups = group.target_groups.iter().map(|g| self.refer(g));
            properties["TargetGroupARNs"] = groups.collect();
        }
        self.add(&id_of(&group.part), "AWS::AutoScaling::AutoScalingGroup", properties);
    }

    fn balancer(&mut self, balancer: &Balancer) {
        let network = balancer.kind == BalancerKind::Network;
        let mut attributes = Vec::new();
        if let Some(idle) = balancer.idle_timeout.filter(|_| !network) {
            attributes.push(json!({ "Key": "idle_timeout.timeout_seconds", "Value": idle.to_string() }));
        }
        if network {
            let value = balancer.cross_zone.to_string();
            attributes.push(json!({ "Key": "load_balancing.cross_zone.enabled", "Value": value }));
        }
        let properties = json!({
            "Name": balancer.name,
            "Type": if network { "network" } else { "application" },
            "Scheme": if balancer.internal { "internal" } else { "internet-facing" },
            "Subnets": balancer.subnets.iter().map(|s| self.refer(s)).collect::<Vec<_>>(),
            "SecurityGroups": [self.attribute(&balancer.group, "GroupId")],
            "LoadBalancerAttributes": attributes,
            "Tags": tags(&balancer.tags),
        });
        self.add(&id_of(&balancer.part), "AWS::ElasticLoadBalancingV2::LoadBalancer", properties);
        self.after(&id_of(&balancer.part), "InternetGatewayAttachment");
    }

    fn listener(&mut self, balancer: &Ref, listener: &Listener) {
        let mut properties = json!({
            "LoadBalancerArn": self.refer(balancer),
            "Port": listener.port,
            "Protocol": listener.protocol,
            "DefaultActions": [{ "Type": "forward", "TargetGroupArn": self.refer(&listener.to) }],
        });
        if let Some(arn) = &listener.certificate {
            properties["Certificates"] = json!([{ "CertificateArn": self.parameter(arn) }]);
        }
        let id = format!("{}Listener{}", logical(&reference_name(balancer)), listener.port);
        self.add(&id, "AWS::ElasticLoadBalancingV2::Listener", properties);
    }

    fn record(&mut self, name: &str, kind: RecordKind, target: &Ref) {
        let id = format!("Record{}", logical(name));
        let mut properties = json!({ "HostedZoneName": self.desired.zone, "Name": name });
        match kind {
            RecordKind::Alias => {
                let zone = self.attribute(target, "CanonicalHostedZoneID");
                properties["Type"] = json!("A");
                properties["AliasTarget"] =
                    json!({ "DNSName": self.attribute(target, "DNSName"), "HostedZoneId": zone });
            }
            RecordKind::Cname => {
                // The name that AWS gives the address is known to the instance on the interface.
                let part = Part::nat();
                properties["Type"] = json!("CNAME");
                properties["TTL"] = json!("60");
                properties["ResourceRecords"] = json!([{ "Fn::GetAtt": [id_of(&part), "PublicDnsName"] }]);
            }
        }
        self.add(&id, "AWS::Route53::RecordSet", properties);
        if kind == RecordKind::Cname {
            self.after(&id, &format!("{}Association", logical(&reference_name(target))));
        }
    }
}

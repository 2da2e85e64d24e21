//! An account for one test: what the documents of 2014 take for granted in it, and cloudcaster run against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use crosswan_lab::{Lab, Output, Process, account};

/// Of all documents here.
pub const REGION: &str = "us-west-2";
const PROGRAM: &str = env!("CARGO_BIN_EXE_cloudcaster");

/// See the module.
pub struct Cloud {
    pub lab: Lab,
}

/// The documents of 2014, byte for byte.
pub fn document(name: &str) -> String {
    format!("{}/tests/documents/{name}.json", env!("CARGO_MANIFEST_DIR"))
}

impl Cloud {
    pub fn new() -> Result<Cloud> {
        let lab = Lab::builder("/bin/true").images(&account::images()).build()?;
        lab.prepare_account()?;
        Ok(Cloud { lab })
    }

    /// Runs cloudcaster to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.lab.cloudcaster(Path::new(PROGRAM), "run", arguments)
    }

    /// Starts it on a machine of that name, and returns the file with what it says.
    pub fn start(&self, machine: &str, arguments: &[&str]) -> Result<(Process, PathBuf)> {
        self.lab.start_cloudcaster(Path::new(PROGRAM), machine, arguments)
    }

    /// A cast that must succeed.
    pub fn cast(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.run(&[&["cast", "--yes"], arguments].concat())?;
        ensure!(output.code == 0, "exit {}\n{}{}", output.code, output.stdout, output.stderr);
        Ok(output)
    }

    /// How many there are of everything that a cast makes, terminated instances aside.
    pub fn census(&self) -> Result<BTreeMap<&'static str, usize>> {
        let kinds = [
            ("DescribeVpcs", "<vpcId>vpc-"),
            ("DescribeInternetGateways", "<internetGatewayId>"),
            ("DescribeSubnets", "<subnetId>"),
            ("DescribeRouteTables", "<routeTableAssociationId>"),
            ("DescribeSecurityGroups", "<groupName>"),
            ("DescribeNetworkInterfaces", "<networkInterfaceId>"),
            ("DescribeAddresses", "<allocationId>"),
            ("DescribeLaunchTemplates", "<launchTemplateId>"),
        ];
        let mut census = BTreeMap::new();
        for (action, mark) in kinds {
            let answer = self.lab.ec2().call(REGION, action, &[])?.0;
            census.insert(action, answer.matches(mark).count());
        }
        let running = [("Filter.1.Name", "instance-state-name"), ("Filter.1.Value.1", "running")];
        let instances = self.lab.ec2().call(REGION, "DescribeInstances", &running)?.0;
        census.insert("DescribeInstances", instances.matches("<instanceId>").count());
        let balancing = |action: &str| self.lab.ec2().query("elasticloadbalancing", "2015-12-01", REGION, action, &[]);
        let of = |answer: String, mark: &str| answer.matches(mark).count();
        census.insert("DescribeLoadBalancers", of(balancing("DescribeLoadBalancers")?.0, "<LoadBalancerArn>"));
        census.insert("DescribeTargetGroups", of(balancing("DescribeTargetGroups")?.0, "<TargetGroupArn>"));
        let groups = self.lab.ec2().query("autoscaling", "2011-01-01", REGION, "DescribeAutoScalingGroups", &[])?.0;
        census.insert("DescribeAutoScalingGroups", of(groups, "<AutoScalingGroupARN>"));
        Ok(census)
    }

    /// The id of the one resource with this part's tag.
    pub fn part(&self, part: &str) -> Result<String> {
        let filters = [
            ("Filter.1.Name", "key"),
            ("Filter.1.Value.1", "crosswan-part"),
            ("Filter.2.Name", "value"),
            ("Filter.2.Value.1", part),
        ];
        let answer = self.lab.ec2().call(REGION, "DescribeTags", &filters)?;
        ensure!(answer.0.matches("<resourceId>").count() == 1, "not one {part}: {}", answer.0);
        answer.first("resourceId").with_context(|| format!("no {part}"))
    }
}

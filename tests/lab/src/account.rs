//! What cloudcaster's documents take for granted in an account, and cloudcaster itself run against the lab's AWS.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::image::MachineImage;
use crate::internet::EC2;
use crate::lab::Lab;
use crate::spawn::{Output, Process};

/// Of the documents of 2014.
pub const REGION: &str = "us-west-2";
/// They themselves, byte for byte.
const HUB: &str = include_str!("../../../caster/tests/documents/hub.json");
const CLIENT: &str = include_str!("../../../caster/tests/documents/client.json");
const KEY_PAIRS: [&str; 3] = ["yourkeyhere", "wrathofchris-201401", "wrathofchris-201404"];
const LIMIT: Duration = Duration::from_secs(120);

/// Images with the ids and names of the documents of 2014, and one for hosts.
pub fn images() -> Vec<MachineImage> {
    vec![
        MachineImage::new("ami-f032acc0", "amzn-ami-vpc-nat-pv-2013.09.0.x86_64-ebs"),
        MachineImage::new("ami-ccf297fc", "an-application"),
        MachineImage::new("ami-00000101", "nat-hub-20260101000000"),
        MachineImage::new("ami-00000102", "nat-vpn-20260101000000"),
        MachineImage::new("ami-00000103", "vpn-hub-20260101000000"),
        MachineImage::new("ami-00000104", "host-20260101000000"),
    ]
}

impl Lab {
    /// Key pairs, the instance profile, the hosted zone, the certificate and the hub's Elastic IP of the documents of 2014.
    pub fn prepare_account(&self) -> Result<()> {
        let ec2 = self.ec2();
        for name in KEY_PAIRS {
            ec2.call(REGION, "CreateKeyPair", &[("KeyName", name)])?;
        }
        let iam =
            |action: &str, parameters: &[(&str, &str)]| ec2.query("iam", "2010-05-08", "us-east-1", action, parameters);
        iam("CreateInstanceProfile", &[("InstanceProfileName", "discovery")])?;
        let certificate = ("ServerCertificateName", "wrathofchris-example-2014");
        iam("UploadServerCertificate", &[certificate, ("CertificateBody", "x"), ("PrivateKey", "x")])?;
        ec2.hosted_zone("example.wrathofchris.com.")?;
        // 198.51.100.100, the first that the lab gives out.
        self.allocate(REGION, None)?;
        Ok(())
    }

    /// Writes a document of 2014 into the lab's folder, with one private host more, and returns the file: the hub as `hub`, every other
    /// name as a client with the /26 from `203.0.113.BASE` on.
    pub fn document(&self, name: &str, base: u8) -> Result<PathBuf> {
        let mut document: Value = serde_json::from_str(if name == "hub" { HUB } else { CLIENT })?;
        let net = |at: u8, length: u8| json!(format!("203.0.113.{at}/{length}"));
        document["vpc"]["cidr"] = net(base, 26);
        document["vpc"]["pubsubnets"] = json!([net(base, 28)]);
        document["vpc"]["subnets"] = json!([net(base + 16, 28)]);
        // Of two clients in one environment the names in DNS would be the same.
        if name != "hub" && name != "a" {
            document["nat"]["name"] = json!(format!("nat-vpn-{name}"));
        }
        let host = json!({
            "name": "host", "svctag": "host", "group": "host", "aminame": "host", "type": "t3.micro",
            "role": "discovery", "keypair": "yourkeyhere", "count": 1,
        });
        document["apps"].as_array_mut().context("no apps")?.push(host);
        let path = self.dir().join(format!("{name}.json"));
        fs::write(&path, serde_json::to_string_pretty(&document)?)?;
        Ok(path)
    }

    /// Wires the VPC of that CIDR, as EC2 has it now, under a name of the lab's.
    pub fn adopt_cidr(&self, name: &str, cidr: &str) -> Result<()> {
        let filters = [("Filter.1.Name", "cidr"), ("Filter.1.Value.1", cidr)];
        let id = self.ec2().get(REGION, "DescribeVpcs", &filters, "vpcId")?;
        self.adopt(name, REGION, &id)
    }

    /// Runs cloudcaster to its end, on the internet. `machine` names the folder of its locks: one machine's.
    pub fn cloudcaster(&self, program: &Path, machine: &str, arguments: &[&str]) -> Result<Output> {
        let all = self.with_environment(program, machine, arguments)?;
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.internet.ns.command("env", &all, "", LIMIT)
    }

    /// Starts it. What it says is added to the file that is returned.
    pub fn start_cloudcaster(&self, program: &Path, machine: &str, arguments: &[&str]) -> Result<(Process, PathBuf)> {
        let all = self.with_environment(program, machine, arguments)?;
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let path = self.dir().join(format!("{machine}.log"));
        let log = File::options().create(true).append(true).open(&path)?;
        Ok((self.internet.ns.start("env", &all, log)?, path))
    }

    /// Arguments of env(1): nothing of the caller's own environment, credentials above all.
    fn with_environment(&self, program: &Path, machine: &str, arguments: &[&str]) -> Result<Vec<String>> {
        let runtime = self.dir().join(machine);
        fs::create_dir_all(&runtime)?;
        let mut all: Vec<String> = vec![
            "-i".into(),
            format!("AWS_ENDPOINT_URL=http://{EC2}"),
            "AWS_ACCESS_KEY_ID=lab".into(),
            "AWS_SECRET_ACCESS_KEY=lab".into(),
            "AWS_EC2_METADATA_DISABLED=true".into(),
            format!("XDG_RUNTIME_DIR={}", runtime.display()),
            program.display().to_string(),
        ];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Ok(all)
    }
}

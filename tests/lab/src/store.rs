//! Keys in SSM Parameter Store and Secrets Manager, put there by the lab's own hand on moto.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::ec2::{Ec2, authorization};
use crate::http;

impl Ec2 {
    /// Makes or replaces a SecureString in a region.
    pub fn put_parameter(&self, region: &str, name: &str, value: &str) -> Result<()> {
        let body = json!({ "Name": name, "Value": value, "Type": "SecureString", "Overwrite": true });
        self.json(region, "ssm", "AmazonSSM.PutParameter", &body)
    }

    /// Makes or replaces a secret in a region.
    pub fn put_secret(&self, region: &str, name: &str, value: &str) -> Result<()> {
        let make = json!({ "Name": name, "SecretString": value, "ClientRequestToken": token(value) });
        if self.json(region, "secretsmanager", "secretsmanager.CreateSecret", &make).is_ok() {
            return Ok(());
        }
        let replace = json!({ "SecretId": name, "SecretString": value, "ClientRequestToken": token(value) });
        self.json(region, "secretsmanager", "secretsmanager.PutSecretValue", &replace)
    }

    /// One call of a service that speaks JSON.
    pub fn json(&self, region: &str, service: &str, target: &str, body: &Value) -> Result<()> {
        let headers = format!("{}X-Amz-Target: {target}\r\n", authorization(region, service));
        let (status, text) =
            http::post(&self.ns, self.address, "application/x-amz-json-1.1", &headers, &body.to_string())
                .context(target.to_string())?;
        if status != 200 {
            bail!("{target} in {region}: {status} {text}");
        }
        Ok(())
    }
}

/// 32 to 64 characters, another for another value.
fn token(value: &str) -> String {
    let bytes: String = value.bytes().map(|b| format!("{b:02x}")).collect();
    format!("{bytes:0<64.64}")
}

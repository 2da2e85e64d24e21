//! Machine images with ids of one's own, as documents name them: EC2's calls would give them other ids.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// An image of the lab's account, 64 bit and HVM.
#[derive(Clone, Debug)]
pub struct MachineImage {
    /// `ami-…`
    pub id: String,
    /// Its name, by which documents find it.
    pub name: String,
}

impl MachineImage {
    /// One of that id and name.
    pub fn new(id: &str, name: &str) -> MachineImage {
        MachineImage { id: id.into(), name: name.into() }
    }
}

/// Writes them as moto reads them, and returns the file.
pub(crate) fn write(dir: &Path, images: &[MachineImage]) -> Result<PathBuf> {
    let path = dir.join("images.json");
    let all: Vec<Value> = images.iter().map(as_moto).collect();
    fs::write(&path, serde_json::to_string(&all)?).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

fn as_moto(image: &MachineImage) -> Value {
    json!({
        "ami_id": image.id,
        "name": image.name,
        "description": image.name,
        "owner_id": "123456789012",
        "public": false,
        "virtualization_type": "hvm",
        "architecture": "x86_64",
        "state": "available",
        "platform": null,
        "image_type": "machine",
        "hypervisor": "xen",
        "root_device_name": "/dev/xvda",
        "root_device_type": "ebs",
        "sriov": "simple",
    })
}

//! What stays the same over all inputs: a folder in place of `/`, a gateway, the settings of each mode, other VPCs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use crosswan::settings;
use crosswan_core::{
    model::{
        Answers, AskError, Gateway, Holder, Identity, InstanceId, KeyTags, PrivateKey, RegionView, Timestamp, VpcId,
    },
    settings::{Flags, Settings},
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

static ROOT: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().unwrap());

/// The folder that stands for `/`.
pub fn root() -> &'static Path {
    ROOT.path()
}

/// Writes a file below [`root`], or removes it.
pub fn put(path: &str, content: Option<&[u8]>) -> PathBuf {
    let path = root().join(path);
    match content {
        Some(content) => {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
        }
        None => drop(fs::remove_file(&path)),
    }
    path
}

/// One input that stands for several texts, between NUL bytes; what is not there is empty.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |b| *b == 0);
    [(); N].map(|()| parts.next().unwrap_or_default())
}

/// The settings of every kind of gateway that has peers: a hub, a spoke that knows its hub, one that looks for it.
pub static KINDS: LazyLock<Vec<Settings>> = LazyLock::new(|| {
    let hub = "mode = \"vpn-hub\"\nregions = [\"eu-west-1\", \"ap-southeast-2\"]";
    let spoke = "mode = \"nat-vpn\"\nhub = \"198.51.100.100\"\nauth.method = \"psk\"";
    let looking = "mode = \"nat-vpn\"\nregions = [\"eu-west-1\"]";
    let settings = |text: &str| {
        let root = TempDir::new().unwrap();
        fs::create_dir_all(root.path().join("etc/crosswan")).unwrap();
        let text =
            format!("private_net = [\"10.0.0.0/8\"]\n{text}\n[removal]\nafter_misses = 1\nhold_above = \"100%\"");
        fs::write(root.path().join("etc/crosswan/crosswan.toml"), text).unwrap();
        settings::load(root.path(), &BTreeMap::new(), &Flags::default()).unwrap()
    };
    [hub, spoke, looking].map(settings).into()
});

/// This gateway.
pub fn me() -> Identity {
    Identity {
        instance: "i-0000ffff".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        vpc: "vpc-0000ffff".parse().unwrap(),
        cidrs: ["10.0.0.0/16", "10.100.0.0/16"].map(|c| c.parse().unwrap()).into(),
        private: [10, 0, 0, 5].into(),
        public: Some([198, 51, 100, 254].into()),
    }
}

/// Key pair `n`, always the same.
pub fn key_pair(n: u8, instance: &InstanceId) -> PrivateKey {
    PrivateKey::from_seed(&[n; 32], instance, Timestamp(0)).unwrap()
}

/// A gateway of another VPC, by its number.
pub fn gateway(n: u8) -> Gateway {
    let (instance, vpc): (InstanceId, VpcId) =
        (format!("i-{n:08x}").parse().unwrap(), format!("vpc-{n:08x}").parse().unwrap());
    let key = key_pair(n, &instance).proven(&Holder { vpc: &vpc, instance: &instance }).unwrap();
    Gateway {
        instance,
        region: "eu-west-1".parse().unwrap(),
        account: None,
        vpc,
        public: Some([198, 51, 100, n].into()),
        address: None,
        launched: Timestamp(1_400_000_000 + i64::from(n)),
        cidrs: [format!("10.{n}.0.0/16").parse().unwrap()].into(),
        segment: None,
        tags: KeyTags::of(Some(&key.to_string()), None),
    }
}

/// One region that shows two gateways, and one that could not be asked.
pub fn answers() -> Answers {
    let view = RegionView { gateways: vec![gateway(1), gateway(2)], ..RegionView::default() };
    [
        ("eu-west-1".parse().unwrap(), Ok(view)),
        ("ap-southeast-2".parse().unwrap(), Err(AskError::TimedOut { after: Duration::from_secs(60) })),
    ]
    .into()
}

/// For the targets that speak over sockets.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

//! Settings and keys over real files below a temporary root. What the texts mean is tested where they are parsed.

#![allow(clippy::disallowed_methods, reason = "settings come from real files")]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use crosswan_core::{
    error::Kind,
    model::Mode,
    settings::{AuthMethod, AuthSettings, Flags, PskSource, Settings},
};

use super::load;

mod psk;

/// The files of one machine, each `(path, content)`.
struct Host(TempDir);

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let host = Host(TempDir::new().unwrap());
        for (path, content) in files {
            host.write(path, content.as_bytes(), 0o600);
        }
        host
    }
    fn root(&self) -> &Path {
        self.0.path()
    }
    fn write(&self, path: &str, content: &[u8], mode: u32) {
        let path = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    /// The settings, or the error's whole chain, which must be one line, without the temporary root.
    fn load(&self, env: &[(&str, &str)], flags: &Flags) -> Result<Settings, String> {
        let env: BTreeMap<String, String> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        load(self.root(), &env, flags).map_err(|e| {
            assert_eq!(e.kind(), Kind::Settings);
            self.line(&e.chain())
        })
    }
    fn line(&self, text: &str) -> String {
        assert!(!text.contains('\n') && !text.contains('\r'), "{text:?} is more than one line");
        text.replace(self.root().to_str().unwrap(), "")
    }
}

const TOML: &str = "/etc/crosswan/crosswan.toml";
/// All that nat-hub needs.
const NAT_HUB: &str = "mode = \"nat-hub\"\nprivate_net = [\"10.0.0.0/8\"]\n";

#[test]
fn the_toml_files_of_a_folder_are_read_in_byte_order_and_others_are_not() {
    let host = Host::new(&[
        (TOML, NAT_HUB),
        ("/etc/crosswan/conf.d/a.toml", "private_net = [\"10.2.0.0/16\"]\n"),
        ("/etc/crosswan/conf.d/B.toml", "private_net = [\"10.1.0.0/16\"]\nmasquerade = false\n"),
        ("/etc/crosswan/conf.d/.hidden.toml", "nonsense"),
        ("/etc/crosswan/conf.d/README", "nonsense"),
        ("/etc/default/vpn-hub", "nonsense of another mode"),
    ]);
    let settings = host.load(&[], &Flags::default()).unwrap();
    // a.toml comes last, and B.toml was read, too.
    assert_eq!((settings.private_net, settings.masquerade), (["10.2.0.0/16".parse().unwrap()].into(), false));
}

#[test]
fn a_2014_file_that_others_can_read_is_a_warning_if_it_holds_a_key() {
    let host = Host::new(&[]);
    for (mode, warns) in [(0o600, false), (0o644, true)] {
        host.write("/etc/default/nat-hub", b"VPN_NET=10.0.0.0/8\nVPN_PSK='x9#kd0-Qm77812'\n", mode);
        let warnings = host.load(&[], &Flags::default()).unwrap().warnings;
        let want = "/etc/default/nat-hub:2: VPN_PSK: other users can read this pre-shared key: move it to /etc/crosswan/psk and chmod 600 \
                    that file";
        assert_eq!(warnings.iter().map(|w| host.line(w)).collect::<Vec<_>>(), [want][..usize::from(warns)]);
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name_and_utf_16_is_named() {
    let nat_hub = Host::new(&[("/etc/default/nat-hub", "\u{feff}VPN_NET=10.0.0.0/8\r\n")]);
    assert_eq!(nat_hub.load(&[], &Flags::default()).unwrap().private_net.len(), 1);
    for file in [TOML, "/etc/crosswan/conf.d/10-site.toml"] {
        let toml = Host::new(&[(file, &format!("\u{feff}{}", NAT_HUB.replace('\n', "\r\n")))]);
        assert_eq!(toml.load(&[], &Flags::default()).unwrap().mode, Mode::NatHub, "{file}");
    }
    let host = Host::new(&[]);
    host.write(TOML, b"\xff\xfem\x00o\x00", 0o600);
    let error = host.load(&[], &Flags::default()).unwrap_err();
    assert_eq!(error, format!("{TOML}: expected UTF-8 text, found UTF-16; save it as UTF-8"));
}

#[test]
fn files_that_cannot_be_settings() {
    let refusal = |spoil: &dyn Fn(&Path)| {
        let host = Host::new(&[("/etc/crosswan/conf.d/more.toml", NAT_HUB)]);
        spoil(&host.root().join("etc/crosswan"));
        host.load(&[], &Flags::default()).unwrap_err()
    };
    assert_eq!(
        refusal(&|etc| fs::write(etc.join("crosswan.toml"), b"# \n# caf\xe9").unwrap()),
        "/etc/crosswan/crosswan.toml:2: expected UTF-8 text, found other bytes"
    );
    assert_eq!(
        refusal(&|etc| fs::create_dir(etc.join("conf.d/d.toml")).unwrap()),
        "read /etc/crosswan/conf.d/d.toml: not a regular file"
    );
    let fifo = |etc: &Path| nix::unistd::mkfifo(&etc.join("crosswan.toml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_eq!(refusal(&fifo), "read /etc/crosswan/crosswan.toml: not a regular file");
    assert_eq!(
        refusal(&|etc| fs::write(etc.join("crosswan.toml"), vec![b'#'; (1 << 20) + 1]).unwrap()),
        "read /etc/crosswan/crosswan.toml: larger than 1 MiB"
    );
    let nowhere = |etc: &Path| std::os::unix::fs::symlink("/nowhere", etc.join("crosswan.toml")).unwrap();
    assert_eq!(refusal(&nowhere), "read /etc/crosswan/crosswan.toml: No such file or directory (os error 2)");
    // A hostile name cannot forge a second line.
    let forged = |etc: &Path| fs::write(etc.join("conf.d/a\nb.toml"), "x = 1").unwrap();
    assert!(refusal(&forged).contains("/conf.d/a\\nb.toml\":1: x: unknown setting"), "{}", refusal(&forged));
}

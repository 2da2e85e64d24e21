//! The 2014 files.

use super::*;

const FILE: &str = "/etc/default/nat-vpn";
/// A file as the tool's users have it.
const NAT_VPN: &str = "# our hub\n\nVPN_NET=\"203.0.113.0/24\"\nexport VPN_PSK='x$;`\"9#kd0-Qm'  # keep\n\
                       VPN_HUB=198.51.100.\"100\"\nVPN_SERVICE=nat\nVPN_REGIONS=\"us-west-2 eu-west-1\"\n";

#[test]
fn a_file_is_taken_over() {
    let host = Host(&[(FILE, NAT_VPN)]);
    let got = host.load(&[], &Flags::default()).unwrap();
    assert_eq!(got.mode, Mode::NatVpn);
    assert_eq!(got.private_net.first().unwrap().to_string(), "203.0.113.0/24");
    assert_eq!(got.hub, [Ipv4Addr::new(198, 51, 100, 100)]);
    // VPN_SERVICE beside VPN_HUB is no second way to name the hub.
    assert_eq!(got.gateway_tag, Tag { key: "service".into(), value: "nat".into() });
    let psk = &got.auth.psk;
    assert_eq!(psk.inline.as_ref().unwrap().secret, Secret::new("x$;`\"9#kd0-Qm"));
    assert_eq!(got.warnings, [""; 0], "the file is nobody else's to read");
    assert!(!format!("{got:?}").contains("kd0"), "Debug shows the key");
}

#[test]
fn which_file_counts() {
    let hub = ("/etc/default/vpn-hub", "VPN_NET=10.0.0.0/8\nVPN_REGIONS=us-west-2,eu-west-1");
    let nat = ("/etc/default/nat-hub", "VPN_NET=172.16.0.0/12");
    let none = Flags::default();
    assert_eq!(Host(&[hub]).load(&[], &none).unwrap().regions.len(), 2);
    let both = Host(&[hub, nat]);
    assert_eq!(
        both.load(&[], &none).unwrap_err(),
        "/etc/default/vpn-hub and /etc/default/nat-hub: mode: expected one such file, found two and no mode \
         to choose by; set CROSSWAN_MODE"
    );
    let chosen = both.load(&[("CROSSWAN_MODE", "nat-hub")], &none).unwrap();
    assert_eq!((chosen.mode, chosen.regions.len()), (Mode::NatHub, 0));
    // Another mode's file is not even read.
    let other = Host(&[("/etc/default/vpn-hub", "nonsense"), (TOML, NAT_HUB)]);
    assert!(other.load(&[], &none).is_ok());
}

#[test]
fn each_wrong_line() {
    let shell = "outside single quotes; the shell is not run";
    #[rustfmt::skip]
    let table: Vec<(&str, String)> = vec![
        ("VPN_NET=10.0.0.1/8", "VPN_NET: expected a list of one or more networks such as 10.0.0.0/8, none overlapping another, found \"10.0.0.1/8\" (bits are set in its host part: 10.0.0.0/8 was probably meant)".into()),
        ("VPN_PSK=$(cat /key)", format!("VPN_PSK: expected plain text, found $ {shell}")),
        ("VPN_PSK=\"a`b`\"", format!("VPN_PSK: expected plain text, found ` {shell}")),
        ("VPN_PSK=\"a\\\"b\"", format!("VPN_PSK: expected plain text, found \\ {shell}")),
        ("VPN_HUB=198.51.100.1;reboot", format!("VPN_HUB: expected plain text, found ; {shell}")),
        ("VPN_HUB=~root", format!("VPN_HUB: expected plain text, found ~ {shell}")),
        ("VPN_PSK=\"two words", "VPN_PSK: expected a closing \", found the end of the line".into()),
        ("VPN_PSK='it''s", "VPN_PSK: expected a closing ', found the end of the line".into()),
        ("VPN_REGIONS=us-west-2 eu-west-1", "VPN_REGIONS: expected one value, found more after it; quote a value with spaces".into()),
        ("VPN_SERVICE=a*", "VPN_SERVICE: expected a tag { key = \"…\", value = \"…\" } or \"key=value\", key of 1 to 128 and value of up to 256 characters, without control characters and EC2's filter characters * ? \\, found the value \"a*\"".into()),
        ("VPN_PSK = theKeyItself", "VPN_PSK: expected NAME=value without spaces around =, found something else".into()),
    ];
    for (line, want) in table {
        let got = Host(&[(FILE, &format!("VPN_NET=10.0.0.0/8\n{line}\n"))]).load(&[], &Flags::default());
        assert_eq!(got.unwrap_err(), format!("{FILE}:2: {want}"), "for {line:?}");
    }
}

/// The gateway does its NAT all the same; who reads the report finds the line.
#[test]
fn a_line_that_is_not_understood_is_a_warning_and_the_known_names_count() {
    let known = "known are VPN_NET, VPN_PSK, VPN_HUB, VPN_SERVICE, VPN_REGIONS";
    let no_name = "not NAME=value, the line is ignored; no shell runs this file";
    for (line, want) in [
        ("VPN_NETS=10.0.0.0/8", "VPN_NETS: unknown name, the line is ignored; did you mean VPN_NET?".to_owned()),
        ("FOO=1", format!("FOO: unknown name, the line is ignored; {known}")),
        ("export DEBIAN_FRONTEND='a b' x", format!("DEBIAN_FRONTEND: unknown name, the line is ignored; {known}")),
        ("exportVPN_NET=1", format!("exportVPN_NET: unknown name, the line is ignored; {known}")),
        ("if true; then", no_name.into()),
        ("=10.0.0.0/8", no_name.into()),
        ("[ -e /etc/x ] && VPN_HUB=1.2.3.4", no_name.into()),
        ("\u{1b}]0;x\u{7}=1", no_name.into()),
    ] {
        let host = Host(&[("/etc/default/nat-hub", &format!("{line}\r\nVPN_NET=10.0.0.0/8\r\n"))]);
        let settings = host.load(&[], &Flags::default()).unwrap();
        assert_eq!((settings.mode, settings.private_net.len()), (Mode::NatHub, 1));
        let warnings: Vec<String> = settings.warnings;
        assert_eq!(warnings, [format!("/etc/default/nat-hub:1: {want}")]);
    }
    // Where something is missing then, the error says which lines did not count.
    let error = Host(&[("/etc/default/nat-hub", "VPN_NETS=10.0.0.0/8")]).load(&[], &Flags::default()).unwrap_err();
    assert!(
        error.starts_with("/etc/default/nat-hub: private_net: expected one for mode nat-hub, found none; set ")
            && error.ends_with(
                ": /etc/default/nat-hub:1: VPN_NETS: unknown name, the line is ignored; did you mean VPN_NET?"
            ),
        "{error}"
    );
}

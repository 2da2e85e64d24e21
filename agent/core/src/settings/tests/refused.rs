//! What is refused, each with its exact line.

use super::*;

const MORE: &str = "/etc/crosswan/conf.d/50-more.toml";
const NETS: &str = "expected a list of one or more networks such as 10.0.0.0/8, none overlapping another";
const HUB: &str = "expected the hub's Elastic IP, a plain unicast IPv4 address such as 198.51.100.100, or a list of two different ones";
const HUB_KEY: &str = "expected the hub's Ed25519 public key (SPKI in base64, 60 characters), or a list of two during its rotation; or a table of such by address, { \"198.51.100.100\" = [\"KEY\"] }, or a list such as 198.51.100.100=KEY";
/// A key.
const KEY: &str = "MCowBQYDK2VwAyEAAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const TAG: &str = "expected a tag { key = \"…\", value = \"…\" } or \"key=value\", key of 1 to 128 and value of up to 256 \
                   characters, without control characters and EC2's filter characters * ? \\";
const SEGMENTS: &str = "expected a table of segments, each with a list of those that it may initiate to, such as { prod = [\"shared\"], dev = [] }, or a list such as prod=shared, dev";
const ACCOUNTS: &str = "expected tables [[accounts]] with role_arn and perhaps external_id, regions, allow, segments and name, or a list of role ARNs";
const EACH: &str = "expected each account once, with regions";
const PARAMETER: &str = "expected an SSM parameter's full name such as /crosswan/psk or /crosswan/{vpc}, or its ARN";
const SECRET: &str = "expected a Secrets Manager secret's name such as crosswan/psk or crosswan/{vpc}, or its ARN";
const HIDDEN: &str = "found something else (not shown: it may be a pre-shared key)";
const ONE: &str = "expected one of auth.psk_file, auth.psk_parameter and auth.psk_secret";

/// `(content of conf.d/50-more.toml, the error after its path)`, over a good crosswan.toml.
#[test]
fn each_wrong_key_in_toml() {
    let long = "k".repeat(129);
    let deep = format!("x={}", "[".repeat(500));
    #[rustfmt::skip]
    let table: Vec<(&str, String)> = vec![
        ("mode = 'hub'", ":1: mode: expected vpn-hub, nat-hub or nat-vpn, found \"hub\"".into()),
        ("# why\n\nmode = 3", ":3: mode: expected vpn-hub, nat-hub or nat-vpn, found 3".into()),
        ("private_net = '10.0.0.0/8'", format!(":1: private_net: {NETS}, found \"10.0.0.0/8\"")),
        ("private_net = []", format!(":1: private_net: {NETS}, found none")),
        ("private_net = [1.5]", format!(":1: private_net: {NETS}, found 1.5")),
        ("private_net = ['10.0.0.0']", format!(":1: private_net: {NETS}, found \"10.0.0.0\"")),
        ("private_net = ['fd00::/8']", format!(":1: private_net: {NETS}, found \"fd00::/8\"")),
        ("private_net = ['10.1.2.3/8']", format!(":1: private_net: {NETS}, found \"10.1.2.3/8\" (bits are set in its host part: 10.0.0.0/8 was probably meant)")),
        ("private_net = ['0.0.0.0/0']", format!(":1: private_net: {NETS}, found \"0.0.0.0/0\" (that is the whole internet)")),
        ("private_net = ['0.0.0.0/1']", format!(":1: private_net: {NETS}, found \"0.0.0.0/1\" (it overlaps 0.0.0.0/8, \"this network\")")),
        ("private_net = ['127.0.0.0/16']", format!(":1: private_net: {NETS}, found \"127.0.0.0/16\" (it overlaps 127.0.0.0/8, loopback)")),
        ("private_net = ['169.254.169.254/32']", format!(":1: private_net: {NETS}, found \"169.254.169.254/32\" (it overlaps 169.254.0.0/16, link-local)")),
        ("private_net = ['224.0.0.0/3']", format!(":1: private_net: {NETS}, found \"224.0.0.0/3\" (it overlaps 224.0.0.0/4, multicast)")),
        ("private_net = ['10.0.0.0/8', '172.16.0.0/12', '10.1.0.0/16']", format!(":1: private_net: {NETS}, found 10.0.0.0/8 and 10.1.0.0/16, which overlap")),
        ("private_net = ['10.0.0.0/8', '10.0.0.0/8']", format!(":1: private_net: {NETS}, found 10.0.0.0/8 twice")),
        ("hub = '10.0.0.300'", format!(":1: hub: {HUB}, found \"10.0.0.300\"")),
        ("hub = '198.51.100.1/32'", format!(":1: hub: {HUB}, found \"198.51.100.1/32\"")),
        ("hub = '0.0.0.0'", format!(":1: hub: {HUB}, found \"0.0.0.0\" (it lies in 0.0.0.0/8, \"this network\")")),
        ("hub = '127.0.0.1'", format!(":1: hub: {HUB}, found \"127.0.0.1\" (it lies in 127.0.0.0/8, loopback)")),
        ("hub = '224.0.0.1'", format!(":1: hub: {HUB}, found \"224.0.0.1\" (it lies in 224.0.0.0/4, multicast)")),
        ("hub = '240.0.0.1'", format!(":1: hub: {HUB}, found \"240.0.0.1\" (reserved)")),
        ("hub = '255.255.255.255'", format!(":1: hub: {HUB}, found \"255.255.255.255\" (reserved)")),
        ("regions = ['us-west-2', 'Frankfurt']", ":1: regions: expected a list of regions such as eu-west-1, found \"Frankfurt\"".into()),
        ("gateway_tag = 'nat'", format!(":1: gateway_tag: {TAG}, found \"nat\"")),
        ("hub_tag = { key = 'a' }", format!(":1: hub_tag: {TAG}, found a table of \"key\"")),
        ("[hub_tag]\nkey = 'a'\nvalue = 'b'\nx = 1", format!(":1: hub_tag: {TAG}, found a table of \"key\", \"value\", \"x\"")),
        ("hub_tag = {}", format!(":1: hub_tag: {TAG}, found an empty table")),
        ("hub_tag = '=v'", format!(":1: hub_tag: {TAG}, found the key \"\"")),
        ("hub_tag = 'service=vpn-*'", format!(":1: hub_tag: {TAG}, found the value \"vpn-*\"")),
        ("hub_tag = 'serv?ce=vpn'", format!(":1: hub_tag: {TAG}, found the key \"serv?ce\"")),
        ("hub_tag = 'service=vpn\\hub'", format!(":1: hub_tag: {TAG}, found the value \"vpn\\\\hub\"")),
        ("environment_tag = \"env=a\\nb\"", format!(":1: environment_tag: {TAG}, found the value \"a\\nb\"")),
        ("[address]\nallocation = '198.51.100.1'", ":2: address.allocation: expected an Elastic IP's allocation id such as eipalloc-0a1b2c3d, found \"198.51.100.1\"".into()),
        ("[address]\ntag = 'pool'", format!(":2: address.tag: {TAG}, found \"pool\"")),
        ("[address]\ntag = 'pool=a'\nallocation = 'eipalloc-0a1b2c3d'", format!(":2: address.tag: expected address.allocation or address.tag, found both (address.allocation is set in {MORE}:3)")),
        ("masquerade = 'true'", ":1: masquerade: expected true or false, found \"true\"".into()),
        ("[guard]\ninput = ['22']", ":2: guard.input: expected a list of ports such as tcp/22 or udp/53, found \"22\"".into()),
        ("[guard]\ninput = ['tcp/0']", ":2: guard.input: expected a list of ports such as tcp/22 or udp/53, found \"tcp/0\"".into()),
        ("[guard]\ninput = ['tcp/+22']", ":2: guard.input: expected a list of ports such as tcp/22 or udp/53, found \"tcp/+22\"".into()),
        ("[guard]\ninput = ['icmp/8']", ":2: guard.input: expected a list of ports such as tcp/22 or udp/53, found \"icmp/8\"".into()),
        ("[guard]\nexclude = ['192.0.2.0/24']", ":2: guard.exclude: expected networks inside private_net (10.0.0.0/8), found 192.0.2.0/24, which the guard lets pass anyway".into()),
        ("[nat]\nsources = ['0.0.0.0/0']", ":2: nat.sources: expected a list of networks such as 10.2.0.0/16, none overlapping another, found \"0.0.0.0/0\" (that is the whole internet)".into()),
        ("nat = '10.2.0.0/16'", ":1: nat: expected a table [nat], found a single value".into()),
        ("auth = 'Ahs3theKeyItself'", ":1: auth: expected a table [auth], found a single value".into()),
        ("[auth]\nmethod = 'pubkey'", ":2: auth.method: expected key or psk, found \"pubkey\"".into()),
        ("hub = []", format!(":1: hub: {HUB}, found none")),
        ("hub = ['198.51.100.1', '198.51.100.1']", format!(":1: hub: {HUB}, found 198.51.100.1 twice")),
        ("hub = ['198.51.100.1', '198.51.100.2', '198.51.100.3']", format!(":1: hub: {HUB}, found 3 addresses")),
        ("hub = ['198.51.100.1', '224.0.0.1']", format!(":1: hub: {HUB}, found \"224.0.0.1\" (it lies in 224.0.0.0/4, multicast)")),
        ("hub = '198.51.100.1,198.51.100.2'", format!(":1: hub: {HUB}, found \"198.51.100.1,198.51.100.2\"")),
        ("[auth]\nhub_key = 'MCowBQYDK2VwAyEA'", format!(":2: auth.hub_key: {HUB_KEY}, found \"MCowBQYDK2VwAyEA\"")),
        ("[auth]\nhub_key = []", format!(":2: auth.hub_key: {HUB_KEY}, found 0 keys")),
        ("[auth]\nhub_key = {}", format!(":2: auth.hub_key: {HUB_KEY}, found an empty table")),
        ("[auth.hub_key]\n'198.51.100.1' = []", format!(":1: auth.hub_key: {HUB_KEY}, found 0 keys for 198.51.100.1")),
        ("[auth.hub_key]\n198.51.100.1 = 'a'", format!(":1: auth.hub_key: {HUB_KEY}, found the address \"198\", which is none between quotes")),
        ("[auth.hub_key]\n'198.51.100.1' = 'a'", format!(":1: auth.hub_key: {HUB_KEY}, found \"a\"")),
        ("[auth]\nmax_key_age = '1h'", ":2: auth.max_key_age: expected a duration from \"1day\" to \"10years\", found \"1h\"".into()),
        ("[auth]\npsk_file = 'Ahs3theKeyItself'", ":2: auth.psk_file: expected an absolute path, found text without a leading / (not shown: it may be a pre-shared key)".into()),
        ("[auth]\npsk_dir = \"/a\\tb\"", ":2: auth.psk_dir: expected an absolute path, found \"/a\\tb\"".into()),
        ("[auth]\npsk_parameter = 'Ahs3theKeyItself'", format!(":2: auth.psk_parameter: {PARAMETER}, {HIDDEN}")),
        ("[auth]\npsk_parameter = '/crosswan/psk key'", format!(":2: auth.psk_parameter: {PARAMETER}, {HIDDEN}")),
        ("[auth]\npsk_parameter = '/crosswan/{VPC}'", format!(":2: auth.psk_parameter: {PARAMETER}, {HIDDEN}")),
        ("[auth]\npsk_parameter = '/crosswan:1'", format!(":2: auth.psk_parameter: {PARAMETER}, {HIDDEN}")),
        ("[auth]\npsk_parameter = 'arn:aws:secretsmanager:us-west-2:1:secret:psk'", format!(":2: auth.psk_parameter: {PARAMETER}, {HIDDEN}")),
        ("[auth]\npsk_parameter = 'arn:aws:ssm:Oregon:1:parameter/psk'", format!(":2: auth.psk_parameter: {PARAMETER}, {HIDDEN}")),
        ("[auth]\npsk_parameter = ''", format!(":2: auth.psk_parameter: {PARAMETER}, {HIDDEN}")),
        ("[auth]\npsk_parameter = 7", format!(":2: auth.psk_parameter: {PARAMETER}, found 7")),
        ("[auth]\npsk_secret = 'c2VsZG9tIGFueXRoaW5nIGxpa2UgYSBrZXk='", format!(":2: auth.psk_secret: {SECRET}, {HIDDEN}")),
        ("[auth]\npsk_secret = ''", format!(":2: auth.psk_secret: {SECRET}, {HIDDEN}")),
        ("[auth]\npsk_secret = \"crosswan\\n\"", format!(":2: auth.psk_secret: {SECRET}, {HIDDEN}")),
        ("[auth]\npsk_region = 'Oregon'", ":2: auth.psk_region: expected a region such as eu-west-1, found \"Oregon\"".into()),
        ("[auth]\npsk_file = '/a'\npsk_secret = 'b'", format!(":2: auth.psk_file: {ONE}, found two (auth.psk_secret is set in {MORE}:3)")),
        ("[auth]\npsk_secret = 'b'\npsk_parameter = '/a'", format!(":3: auth.psk_parameter: {ONE}, found two (auth.psk_secret is set in {MORE}:2)")),
        ("[auth]\npsk_parameter = 'arn:aws:ssm:us-west-2:1:parameter/psk'\npsk_region = 'eu-west-1'", format!(":3: auth.psk_region: expected us-west-2 of the ARN in {MORE}:2, found eu-west-1")),
        ("[auth]\npsk = 'Ahs3theKeyItself'", ":2: auth.psk: unknown setting; did you mean auth.psk_dir?".into()),
        ("[removal]\nafter_misses = 0", ":2: removal.after_misses: expected a whole number from 1 to 1000, found 0".into()),
        ("[removal]\nafter_misses = 1001", ":2: removal.after_misses: expected a whole number from 1 to 1000, found 1001".into()),
        ("[removal]\nafter_misses = '2'", ":2: removal.after_misses: expected a whole number from 1 to 1000, found \"2\"".into()),
        ("[removal]\nspacing = '86401s'", ":2: removal.spacing: expected a duration from \"0s\" to \"1day\", found \"86401s\"".into()),
        ("[removal]\nafter_misses = 2.5", ":2: removal.after_misses: expected a whole number from 1 to 1000, found 2.5".into()),
        ("[removal]\nhold_above = 50", ":2: removal.hold_above: expected a percentage from \"0%\" to \"100%\", found 50".into()),
        ("[removal]\nhold_above = '101%'", ":2: removal.hold_above: expected a percentage from \"0%\" to \"100%\", found \"101%\"".into()),
        ("[keep]\ninterval = '999ms'", ":2: keep.interval: expected a duration from \"1s\" to \"1min\", found \"999ms\"".into()),
        ("[pair]\nport = 80", ":2: pair.port: expected a whole number from 1024 to 65535, found 80".into()),
        ("[pair]\ninterval = '10ms'", ":2: pair.interval: expected a duration from \"50ms\" to \"5s\", found \"10ms\"".into()),
        ("[pair]\nmisses = 2", ":2: pair.misses: expected a whole number from 3 to 50, found 2".into()),
        ("[pair]\nenabled = 'off'", ":2: pair.enabled: expected true or false, found \"off\"".into()),
        ("[keep]\ninterval = '61s'", ":2: keep.interval: expected a duration from \"1s\" to \"1min\", found \"61s\"".into()),
        ("[keep]\ninterval = 15", ":2: keep.interval: expected a duration from \"1s\" to \"1min\", found 15".into()),
        ("[ec2]\ntimeout = 'soon'", ":2: ec2.timeout: expected a duration from \"1s\" to \"10min\", found \"soon\"".into()),
        ("segments = 'prod'", format!(":1: segments: {SEGMENTS}, found \"prod\"")),
        ("segments = []", format!(":1: segments: {SEGMENTS}, found a list")),
        ("[segments]\n'a b' = []", format!(":1: segments: {SEGMENTS}, found the name \"a b\", which is not of 1 to 64 letters, digits, . _ -")),
        ("segments = { prod = 'shared' }", format!(":1: segments: {SEGMENTS}, found for \"prod\" \"shared\"")),
        ("segments = { prod = ['a b'] }", format!(":1: segments: {SEGMENTS}, found for \"prod\" \"a b\"")),
        ("mode = 'vpn-hub'\nregions = ['eu-west-1']\nsegments = { s46 = ['s92'] }", ":3: segments: expected names with a realm each, found s46 and s92, which both have realm 0x9650: rename one of them".to_owned()),
        ("segment_tag = 'a*'", ":1: segment_tag: expected the key of a tag, of 1 to 128 characters, without control characters and EC2's filter characters * ? \\, found \"a*\"".to_owned()),
        ("accounts = 'arn'", format!(":1: accounts: {ACCOUNTS}, found \"arn\"")),
        ("accounts = ['arn']", format!(":1: accounts: {ACCOUNTS}, found \"arn\"")),
        ("[accounts]\nrole_arn = 'arn:aws:iam::111122223333:role/a'", format!(":1: accounts: {ACCOUNTS}, found a table of \"role_arn\"")),
        ("[[accounts]]\nname = 'a'", format!(":1: accounts: {ACCOUNTS}, found an account without role_arn")),
        ("[[accounts]]\nrole_arn = 'arn:aws:iam::111122223333:user/a'", format!(":1: accounts: {ACCOUNTS}, found the role_arn \"arn:aws:iam::111122223333:user/a\"")),
        ("[[accounts]]\nrole_arn = 'arn:aws:iam::1111:role/a'", format!(":1: accounts: {ACCOUNTS}, found the role_arn \"arn:aws:iam::1111:role/a\"")),
        ("[[accounts]]\nrole = 'arn:aws:iam::111122223333:role/a'", format!(":1: accounts: {ACCOUNTS}, found an account with \"role\", which is none of role_arn, external_id, regions, allow, segments and name")),
        ("[[accounts]]\nrole_arn = 'arn:aws:iam::111122223333:role/a'\nexternal_id = 'Ahs3 theIdItself'", format!(":1: accounts: {ACCOUNTS}, found for account 111122223333 the external_id that STS does not accept (not shown: it is a secret)")),
        ("[[accounts]]\nrole_arn = 'arn:aws:iam::111122223333:role/a'\nallow = []", format!(":1: accounts: {ACCOUNTS}, found for account 111122223333 the allow none")),
        ("[[accounts]]\nrole_arn = 'arn:aws:iam::111122223333:role/a'\nname = 'the team'", format!(":1: accounts: {ACCOUNTS}, found for account 111122223333 the name \"the team\"")),
        ("mode = 'vpn-hub'\naccounts = ['arn:aws:iam::111122223333:role/a']", format!(":2: accounts: {EACH}, found no regions for account 111122223333, and no regions beside the accounts")),
        ("mode = 'vpn-hub'\nregions = ['eu-west-1']\naccounts = ['arn:aws:iam::111122223333:role/a', 'arn:aws:iam::111122223333:role/b']", format!(":3: accounts: {EACH}, found account 111122223333 twice")),
        ("privat_net = []", ":1: privat_net: unknown setting; did you mean private_net?".into()),
        ("after_misses = 3", ":1: after_misses: unknown setting; did you mean removal.after_misses?".into()),
        ("[remove]\nafter_misses = 3", ":1: remove: unknown setting; did you mean removal?".into()),
        ("\"a\\n\\u001bb\" = 1", ":1: \"a\\n\\u{1b}b\": unknown setting; known are mode, private_net, hub, hub_tag, regions, own_account, accounts, gateway_tag, environment_tag, segments, segment_tag, routes.tag, routes.overrule, address.allocation, address.tag, masquerade, nat.sources, guard.input, guard.exclude, auth.method, auth.hub_key, auth.max_key_age, auth.psk_file, auth.psk_dir, auth.psk_parameter, auth.psk_secret, auth.psk_region, removal.after_misses, removal.spacing, removal.hold_above, removal.hold_floor, removal.confirmed_after, keep.interval, pair.enabled, pair.port, pair.interval, pair.misses, pair.newcomer_replaces, ec2.timeout, routes, address, nat, guard, auth, removal, keep, pair, ec2".into()),
        // The first of two, by line and not by name.
        ("regions = 1\nmode = 2", ":1: regions: expected a list of regions such as eu-west-1, found 1".into()),
        ("mode = ", ":1:8: expected TOML, found: string values must be quoted, expected literal string".into()),
        ("mode = \u{201c}nat-hub\u{201d}", ":1:8: expected TOML, found: string values must be quoted, expected literal string (there is the character \"\\u{201c}\")".into()),
        ("mode = 'nat-hub'\u{a0}", ":1:17: expected TOML, found: unexpected key or value, expected newline, `#` (there is the character \"\\u{a0}\")".into()),
        ("hub = 'a'\n  hub = 'b'", ":2:3: expected TOML, found: duplicate key".into()),
    ];
    for (toml, want) in &table {
        let got = Host(&[(TOML, NAT_HUB), (MORE, toml)]).load(&[], &Flags::default());
        assert_eq!(got.unwrap_err(), format!("{MORE}{want}"), "for {toml}");
    }
    for toml in [&format!("hub_tag = '{long}=v'"), &format!("hub_tag = 'k={long}{long}'"), &deep] {
        let got = Host(&[(TOML, NAT_HUB), (MORE, toml)]).load(&[], &Flags::default()).unwrap_err();
        assert!(got.starts_with(&format!("{MORE}:1:")) && got.len() < 350, "{got}");
    }
}

#[test]
fn each_wrong_variable_and_flag() {
    #[rustfmt::skip]
    let table = [
        ("CROSSWAN_MODE", "", "CROSSWAN_MODE: mode: expected vpn-hub, nat-hub or nat-vpn, found \"\""),
        ("CROSSWAN_REGIONS", "us-west-2;eu-west-1", "CROSSWAN_REGIONS: regions: expected a list of regions such as eu-west-1, found \"us-west-2;eu-west-1\""),
        ("CROSSWAN_MASQUERADE", "yes", "CROSSWAN_MASQUERADE: masquerade: expected true or false, found \"yes\""),
        ("CROSSWAN_AFTER_MISSES", "two", "CROSSWAN_AFTER_MISSES: removal.after_misses: expected a whole number from 1 to 1000, found \"two\""),
        ("CROSSWAN_PSK_FILE", "theKeyItself", "CROSSWAN_PSK_FILE: auth.psk_file: expected an absolute path, found text without a leading / (not shown: it may be a pre-shared key)"),
        ("CROSSWAN_PSK_SECRET", "the+Key=Itself", "CROSSWAN_PSK_SECRET: auth.psk_secret: expected a Secrets Manager secret's name such as crosswan/psk or crosswan/{vpc}, or its ARN, found something else (not shown: it may be a pre-shared key)"),
        ("CROSSWAN_REGION", "us-west-2", "environment: CROSSWAN_REGION: unknown variable; did you mean CROSSWAN_REGIONS?"),
        ("CROSSWAN_PSK", "theKeyItself", "environment: CROSSWAN_PSK: unknown variable; did you mean CROSSWAN_PSK_DIR?"),
        ("CROSSWAN_WHATEVER", "/", "environment: CROSSWAN_WHATEVER: unknown variable; known are CROSSWAN_MODE, CROSSWAN_PRIVATE_NET, CROSSWAN_HUB, CROSSWAN_HUB_TAG, CROSSWAN_REGIONS, CROSSWAN_OWN_ACCOUNT, CROSSWAN_ACCOUNTS, CROSSWAN_GATEWAY_TAG, CROSSWAN_ENVIRONMENT_TAG, CROSSWAN_SEGMENTS, CROSSWAN_SEGMENT_TAG, CROSSWAN_ROUTES_TAG, CROSSWAN_ROUTES_OVERRULE, CROSSWAN_ADDRESS_ALLOCATION, CROSSWAN_ADDRESS_TAG, CROSSWAN_MASQUERADE, CROSSWAN_NAT_SOURCES, CROSSWAN_GUARD_INPUT, CROSSWAN_GUARD_EXCLUDE, CROSSWAN_AUTH_METHOD, CROSSWAN_HUB_KEY, CROSSWAN_MAX_KEY_AGE, CROSSWAN_PSK_FILE, CROSSWAN_PSK_DIR, CROSSWAN_PSK_PARAMETER, CROSSWAN_PSK_SECRET, CROSSWAN_PSK_REGION, CROSSWAN_AFTER_MISSES, CROSSWAN_SPACING, CROSSWAN_HOLD_ABOVE, CROSSWAN_HOLD_FLOOR, CROSSWAN_CONFIRMED_AFTER, CROSSWAN_KEEP_INTERVAL, CROSSWAN_PAIR_ENABLED, CROSSWAN_PAIR_PORT, CROSSWAN_PAIR_INTERVAL, CROSSWAN_PAIR_MISSES, CROSSWAN_PAIR_NEWCOMER_REPLACES, CROSSWAN_EC2_TIMEOUT"),
    ];
    for (name, value, want) in table {
        let got = Host(&[(TOML, NAT_HUB)]).load(&[(name, value)], &Flags::default());
        assert_eq!(got.unwrap_err(), want);
    }
    let flags = Flags { hub: Some("hub".into()), ..Flags::default() };
    let got = Host(&[(TOML, NAT_HUB)]).load(&[], &flags).unwrap_err();
    assert_eq!(got, format!("--hub: hub: {HUB}, found \"hub\""));
}

#[test]
fn what_a_mode_needs() {
    #[rustfmt::skip]
    let table = [
        ("", ": mode: expected one in any source, found none; set mode = \"vpn-hub\", \"nat-hub\" or \"nat-vpn\" there, CROSSWAN_MODE or --mode"),
        ("mode = 'nat-hub'", ":1: private_net: expected one for mode nat-hub, found none; set private_net = [\"10.0.0.0/8\"] in /etc/crosswan/crosswan.toml, or CROSSWAN_PRIVATE_NET"),
        ("private_net = ['10.0.0.0/8']\nmode = 'vpn-hub'", ":2: regions: expected one for mode vpn-hub, found none; set regions = [\"us-west-2\"] in /etc/crosswan/crosswan.toml, or CROSSWAN_REGIONS"),
        ("private_net = ['10.0.0.0/8']\nmode = 'nat-vpn'\nhub_tag='a=b'", ":2: hub: expected one for mode nat-vpn, found none; set hub = \"198.51.100.100\" (or regions in which to find it by hub_tag) in /etc/crosswan/crosswan.toml, or CROSSWAN_HUB"),
        ("private_net = ['10.0.0.0/8']\nmode = 'nat-vpn'\nhub='198.51.100.100'\nhub_tag='a=b'\n[auth]\nmethod='psk'", ":3: hub: expected hub or hub_tag, found both (hub_tag is set in /etc/crosswan/crosswan.toml:4)"),
        ("private_net = ['10.0.0.0/8']\nmode = 'nat-vpn'\nhub='10.0.0.5'", ":3: hub: expected the hub's Elastic IP, found 10.0.0.5, which lies in private_net 10.0.0.0/8"),
        ("private_net = ['10.0.0.0/8']\nmode = 'nat-vpn'\nhub=['198.51.100.100', '10.0.0.5']", ":3: hub: expected the hub's Elastic IP, found 10.0.0.5, which lies in private_net 10.0.0.0/8"),
        ("private_net = ['10.0.0.0/8']\nmode = 'nat-vpn'\nhub=['198.51.100.100', '198.51.100.101']", ":3: hub: expected a way to find its key, found none; set regions (those in which to look up the hub's tag), auth.hub_key, or auth.method = \"psk\" in /etc/crosswan/crosswan.toml"),
        ("private_net = ['10.0.0.0/8']\nmode = 'nat-vpn'\nhub='198.51.100.100'", ":3: hub: expected a way to find its key, found none; set regions (those in which to look up the hub's tag), auth.hub_key, or auth.method = \"psk\" in /etc/crosswan/crosswan.toml"),
    ];
    for (toml, want) in table {
        assert_eq!(only(toml).unwrap_err(), format!("{TOML}{want}"), "for {toml}");
    }
}

#[test]
fn keys_that_are_not_those_of_the_hubs() {
    let two = "hub = ['198.51.100.1', '198.51.100.2']\n";
    let table = |address: &str| format!("[auth.hub_key]\n'198.51.100.1' = '{KEY}'\n'{address}' = ['{KEY}']\n");
    let regions = "regions = ['us-west-2']\n";
    for (toml, want) in [
        (
            format!("{two}{regions}[auth]\nhub_key = '{KEY}'"),
            ":6: auth.hub_key: expected the keys of each hub by its address, found keys without an address; set \"198.51.100.1\" = [\"KEY\"] \
             and \"198.51.100.2\" = [\"KEY\"] below [auth.hub_key], or CROSSWAN_HUB_KEY=198.51.100.1=KEY,198.51.100.2=KEY",
        ),
        (
            format!("{two}[auth]\nhub_key = {{ '198.51.100.2' = '{KEY}' }}"),
            ":5: auth.hub_key: expected keys of each hub, found none for 198.51.100.1; add \"198.51.100.1\" = [\"KEY\"] below \
             [auth.hub_key], or 198.51.100.1=KEY to CROSSWAN_HUB_KEY",
        ),
        (
            format!("hub = '198.51.100.1'\n{}", table("198.51.100.3")),
            ":4: auth.hub_key: expected keys of the addresses in hub, found some for 198.51.100.3; add 198.51.100.3 to hub, which takes up \
             to two addresses, or take its keys away",
        ),
        (
            format!("{regions}{}", table("198.51.100.2")),
            ":4: auth.hub_key: expected keys of the addresses in hub, found some for 198.51.100.1; add 198.51.100.1 to hub, which takes up \
             to two addresses, or take its keys away",
        ),
    ] {
        let got = only(&format!("mode = 'nat-vpn'\nprivate_net = ['10.0.0.0/8']\n{toml}"));
        assert_eq!(got.unwrap_err(), format!("{TOML}{want}"), "for {toml}");
    }
    let env = |keys: &str| Host(&[(TOML, NAT_HUB)]).load(&[("CROSSWAN_HUB_KEY", keys)], &Flags::default()).unwrap_err();
    let found = |found: &str| format!("CROSSWAN_HUB_KEY: auth.hub_key: {HUB_KEY}, found {found}");
    assert_eq!(
        env(&format!("198.51.100.1={KEY},{KEY}")),
        found(&format!("{KEY} without an address beside one that has one"))
    );
    assert_eq!(env("198.51.100.1="), found("\"\""));
    assert_eq!(env(&vec![format!("198.51.100.1={KEY}"); 3].join(",")), found("3 keys for 198.51.100.1"));
}

/// A value that a stronger source overrides must be right all the same: the operator will take that source away.
#[test]
fn an_overridden_value_is_checked() {
    let host = Host(&[(TOML, "mode = 'nat'\nprivate_net = ['10.0.0.0/8']")]);
    let error = host.load(&[("CROSSWAN_MODE", "nat-hub")], &Flags::default()).unwrap_err();
    assert_eq!(error, "/etc/crosswan/crosswan.toml:1: mode: expected vpn-hub, nat-hub or nat-vpn, found \"nat\"");
}

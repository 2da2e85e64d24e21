//! The command line. It needs clap alone, because the build script includes this file to make the man page and completions.

use std::{net::Ipv4Addr, path::PathBuf};

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing to do
  1  an error that is not listed below: a bug, or a broken host
  2  a setting or an argument is wrong, and nothing was tried; or the pre-shared key is missing,
     and NAT was set up without it
  3  something could not be asked (IMDS, EC2, SSM, charon, ...), this gateway's key could not be
     announced, or a new gateway's key is awaited; what worked was kept
  4  a step failed, or the system did not read back as planned. The report names each peer that
     failed and says whether its former tunnel is in force again; everything else was done. If
     something shared failed (rules, files, this gateway's key), the whole old state was
     restored, or the report says that it was not
  5  another refresh holds the lock, or keep or watch holds charon's lock: try again later
  6  everything is in force, but a gateway waits to replace another (REPLACING), or too many peers
     would be removed at once (HELD). Another try changes nothing; the peer, time or an operator
     does
  7  everything is as planned, but this host stops packets, or will: a sysctl, the policy of
     FORWARD, other rules, EC2's source/destination check, or a swanctl.conf without its include.
     The PROBLEM lines say which, with the remedy

Files:
  /etc/crosswan/crosswan.toml               the settings; then conf.d/*.toml beside it
  /etc/swanctl/private/crosswan.pem         this gateway's private key, made by refresh; the public
                                            half is in the instance's tag crosswan-key. During a
                                            rotation the next key is in crosswan-next.pem
  /etc/crosswan/psk                         the pre-shared key (mode 0600), if one is used and the
                                            settings name no other place
  /etc/swanctl/conf.d/crosswan*.conf        the connections and secrets that refresh wrote
  /var/lib/crosswan/                        the last good answers, and the rules in force
  /run/crosswan/status.json                 the last report
  /run/crosswan/crosswan.prom               the last measurements";

const STATUS_CODES: &str = "\
Exit codes of status, the worst first:
  9  the rules of the last refresh are not in force
  8  a tunnel is down
  7  tunnels and rules are as they should be, but this host stops packets
  3  something could not be asked and is shown as unknown; only root may ask charon and iptables
  0  all is well";

const DOCTOR_CODES: &str = "\
Exit codes of doctor, the worst first:
  2  a setting is wrong, unknown or missing
  9  the rules, interfaces or routes of the last refresh are not in force
  8  a tunnel is down
  7  something stops packets: a sysctl, a full table of connections, other programs' rules or routes,
     EC2's source/destination check, a missing public address; of why also what segments or EC2 do not let pass
  4  something is not as a refresh leaves it: the key or its tag, or the last refresh itself
  3  something could not be asked: IMDS, EC2, charon, iptables; or this is not root
  6  all works, but there is a warning
  0  all is well

Example:
  crosswan doctor --json | jq -r '.checks[] | select(.state == \"failure\") | .remedy'";

const WHY_CODES: &str = "\
Exit codes of why:
  0  it reaches, as far as this gateway sees
  3  not known: something that could stop it could not be asked; or this is not root
  2, 4, 7, 8, 9
     it does not reach, as doctor has them";

const HANDOVER_CODES: &str = "\
Exit codes of handover:
  0  no route leads here, and nothing passes this gateway: it can be stopped
  2  settings make no pair of this gateway, or an argument is wrong
  3  nothing was tried: there is no second gateway, or none to make way for, crosswan pair does not run, or EC2 does not answer
  4  not in time: routes lead here still, packets pass still, or nobody takes this one's place; the text says which, and why
  5  another handover is under way

Example, an upgrade of both gateways of a pair:
  crosswan handover && apt-get install --only-upgrade crosswan strongswan-swanctl";

const ACCOUNTS_EXAMPLE: &str = "\
Example, on the hub; an output that is redirected with > would leave an empty file if it fails:
  crosswan accounts --organization --external-id ID --output /etc/crosswan/conf.d/accounts.toml
  crosswan refresh --dry-run";

/// The heading of the flags that are settings.
const SETTINGS: &str = "Settings (these override files and CROSSWAN_* variables)";

/// Joins the private networks of many VPCs through one IPsec hub, and gives each VPC its NAT on the way.
///
/// One pass of `crosswan refresh` observes (IMDS, EC2, charon, iptables), decides which tunnels and rules should
/// exist, changes only what differs, and reads everything back. `crosswan keep` holds the tunnels up in between, and
/// `crosswan status` shows what is in force.
#[derive(Debug, Parser)]
#[command(name = "crosswan", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
    /// Log as JSON lines, for a machine
    #[arg(long, global = true)]
    pub log_json: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What this gateway is: vpn-hub, nat-hub or nat-vpn
    #[arg(long, global = true, value_name = "MODE", help_heading = SETTINGS)]
    pub mode: Option<String>,
    /// The private network: CIDRs, separated by commas
    #[arg(long, global = true, value_name = "CIDRS", help_heading = SETTINGS)]
    pub private_net: Option<String>,
    /// The regions in which to look for gateways, separated by commas
    #[arg(long, global = true, value_name = "REGIONS", help_heading = SETTINGS)]
    pub regions: Option<String>,
    /// The hub's Elastic IP, or those of two hubs separated by a comma, for a nat-vpn
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = SETTINGS)]
    pub hub: Option<String>,
}

/// A command with its own options.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make one pass: observe, decide, change what differs, read it back
    ///
    /// Asks IMDSv2 who this gateway is and, as its mode needs, asks EC2 in every listed region for its peers. Fetches the
    /// pre-shared key if the settings name one in SSM or Secrets Manager. Loads only the connections that changed, and
    /// touches only its own iptables chains. Where the system does not read back as planned, it restores what was there
    /// before: for the one peer that failed, or for all if what failed is shared. A region that cannot be asked keeps its
    /// tunnels. systemd runs this command at boot and hourly.
    ///
    /// Unless auth.method is psk, the first pass makes this gateway's key and announces the public half in its
    /// instance's tag. Peers are known by the keys that their tags announce. A new peer that has not announced its key yet
    /// is awaited (exit code 3, so that systemd runs this again soon). An instance that announces another key than before
    /// is refused, and the report shows the fingerprints of both keys.
    Refresh {
        /// Stop after the plan and print it; change nothing
        #[arg(long)]
        dry_run: bool,
        /// Remove more peers in one pass than removal.hold_above allows, and a hub in use that settings no longer name
        #[arg(long)]
        force: bool,
        /// Accept the key with this fingerprint for the gateway of this VPC, although another key is known; repeatable
        ///
        /// For instance --accept-key vpc-0a1b2c3d=SHA256:…, with the fingerprint that `crosswan status` shows as `own
        /// key` on that gateway. If the gateway's tag holds any other key at that moment, that key is still refused.
        #[arg(long, value_name = "VPC=FINGERPRINT")]
        accept_key: Vec<String>,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make this gateway's next key and announce it beside the current one
    ///
    /// Makes one pass of refresh, in which the next key is made. A later pass uses that key as soon as IKE has proved that
    /// every peer accepts it. Until then both keys are valid, and no tunnel is touched. With the setting
    /// auth.max_key_age, refresh rotates keys by age.
    RotateKey {
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep the tunnels of the last refresh up, until stopped
    ///
    /// Speaks only to charon. Initiates children that should be up and are not, and deletes childless and duplicate
    /// IKE_SAs. When a child stays down for minutes it asks for a refresh, by writing /run/crosswan/refresh-wanted. It also asks
    /// when a gateway wants a tunnel that charon does not know by its address and key, as EC2 may know it by now: a hub at once, a
    /// nat-vpn within minutes, and neither more than once a minute.
    Keep,
    /// Put this gateway's rules back when another program removes them, until stopped
    ///
    /// Speaks only to the kernel's firewall. Between two refreshes it compares the loaded rules with those that the last
    /// refresh loaded (/var/lib/crosswan/iptables.rules), at each change of nft's rules and every three seconds, and puts
    /// back what is missing. Stop it before you remove rules by hand. While this gateway waits for its Elastic IP, it also asks
    /// for a refresh every three minutes.
    Watch,
    /// Watch the other gateway of this one's pair, and take its routes when it is dead, until stopped
    ///
    /// Two gateways of one mode in one VPC are a pair, unless pair.enabled is false. Each sends a signed beat ten times a second to the other
    /// one's pair.port. When beats stop, the other one's kernel is asked: if it answers, only its `crosswan pair` is dead, and
    /// nothing moves. If it does not, the routes of managed tables that lead to it are led here. Nothing is ever taken
    /// back. `crosswan status` shows what is heard. Without a second gateway it waits for one; where pair.enabled is false it
    /// ends at once.
    ///
    /// Through the tunnels it hears which member of a pair at the far end has taken over, of two gateways of a VPC or of two hubs, and has
    /// `crosswan watch` lead the route there; and it says there what this gateway has taken over.
    Pair,
    /// Have the other gateway of this one's pair take the routes that lead here, before this one is stopped or upgraded
    ///
    /// Asks the resident `crosswan pair` to tell the other member that this gateway hands over. That one takes all routes at once if
    /// it is well, with a tunnel up, although less than a minute may have passed since the last move; a fourth move within ten minutes it
    /// refuses. This gateway keeps its tunnels, rules and NAT, and forwards what still comes.
    ///
    /// Ends well only once EC2 shows that no route of a managed table leads here, and this gateway's kernel has forwarded no packet
    /// for three seconds (ForwDatagrams of /proc/net/snmp, which counts what tunnels bring and take, and what is masqueraded). Where
    /// no route leads here it only waits for that. Otherwise it says what stands; nothing is moved back, and it can be run again. The order ends
    /// with this command, however that ends. Nothing ever leads the routes back but a handover of the other member, or its death.
    ///
    /// `crosswan pair` also hands over by itself, for ten minutes at most, when IMDS tells that a spot instance is interrupted or should be
    /// replaced, that maintenance begins within a quarter of an hour, or that its Auto Scaling group terminates the instance; and
    /// crosswan-pair.service when the machine shuts down.
    #[command(after_help = HANDOVER_CODES)]
    Handover {
        /// Give up after so long, from 1s to 10m
        #[arg(long, value_name = "DURATION", default_value = "60s", conflicts_with = "cancel")]
        timeout: String,
        /// Stay, although EC2 has told that this instance ends soon
        #[arg(long)]
        cancel: bool,
        /// Once all is handed over, leave the place in the pair to the gateway that waits beside it, before this one is ended
        ///
        /// It writes the tag crosswan-makes-way-for of this instance, which counts as long as EC2 shows that gateway running. So the new
        /// one is a member, which can be looked at while this one is still there, and if the new one is ended, this one is a member again.
        /// It asks for a refresh first, which sees who waits. Without an order the older member in the zone of a new gateway does so by
        /// itself, once that works and asks for its place (pair.newcomer_replaces).
        #[arg(long, conflicts_with = "cancel")]
        make_way: bool,
        /// What the journal and status show as the reason, in place of "crosswan handover orders it"
        #[arg(long, value_name = "TEXT", conflicts_with = "cancel")]
        reason: Option<String>,
        /// Print what came of it as JSON; what happens meanwhile goes to standard error, as without this
        #[arg(long)]
        json: bool,
    },
    /// Write the files of a pass to another folder, for review
    ///
    /// Observes and decides as refresh does, then writes the files below DIR and changes nothing else. The secrets file
    /// holds the real keys, so its mode is 0600.
    Render {
        /// The folder to write to; it is created if it is missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Show tunnels, NAT, the last refresh, and what was refused and why
    ///
    /// Reads tunnels and rules from charon and iptables at this moment, and checks sysctls and other programs' rules for
    /// whatever stops packets. The rest comes from the last refresh's report.
    #[command(after_help = STATUS_CODES)]
    Status {
        /// Print as JSON
        #[arg(long)]
        json: bool,
        /// Show again every two seconds, until interrupted; on a terminal what is down first, then what is busiest
        #[arg(long)]
        watch: bool,
    },
    /// Check everything that this gateway depends on, and print the command that mends what is wrong
    ///
    /// One line per check: its id, what was found and, unless all is well, what is wanted and what mends it. Asks IMDS,
    /// EC2, charon, iptables and the kernel at this moment, ends within ten seconds and changes nothing. A check that
    /// depends on one that fails is not looked at (`-`), so that one cause is one failure: mend the first failure, then run
    /// doctor again. Run it as root.
    ///
    /// The ids are stable; docs/operating.md has a table of them.
    #[command(after_help = DOCTOR_CODES)]
    Doctor {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell why one address reaches another, or does not
    ///
    /// Follows packets from FROM to TO and their answers, as far as they pass this gateway: what the two addresses are, the
    /// VPC's route, the kernel's route, the tunnel; and everything that doctor finds to stop packets. Ask on the hub about two
    /// VPCs, and on a VPC's own gateway about its hosts. Run it as root.
    #[command(after_help = WHY_CODES)]
    Why {
        /// The address that begins, such as a private host's
        from: Ipv4Addr,
        /// The address that it wants to reach
        to: Ipv4Addr,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the further accounts, with what the last refresh said of each
    ///
    /// Exit code 3 says that a region of one did not answer the last refresh. With --organization it prints settings instead: an
    /// [[accounts]] for each active account that AWS Organizations lists, without the one that the hub is in, and to standard error
    /// what is not printed and why. It prints all of them or nothing.
    ///
    /// Nothing else of crosswan asks Organizations, so no gateway's role needs organizations:ListAccounts. Ask where you are somebody
    /// who may, in the organization's management account or one that is a delegated administrator, by AWS_ACCESS_KEY_ID and its
    /// like or AWS_PROFILE; it need not be a gateway. Whoever may tag instances in a printed account becomes trusted for the networks in
    /// its `allow`, so read the list before a hub does.
    #[command(after_help = ACCOUNTS_EXAMPLE)]
    Accounts {
        /// Print the accounts of an organization as settings; with --regions, each with these regions
        #[arg(long)]
        organization: bool,
        /// The name of the role in each account that the hub assumes
        #[arg(long, value_name = "NAME", default_value = "crosswan-discover", requires = "organization")]
        role: String,
        /// What the trust policies of these roles demand as sts:ExternalId
        #[arg(long, value_name = "ID", requires = "organization")]
        external_id: Option<String>,
        /// The account that the hub is in [default: on an EC2 instance, the instance's]
        #[arg(long, value_name = "ACCOUNT", requires = "organization")]
        hub_account: Option<String>,
        /// Write to this file, whole or not at all, instead of to standard output
        #[arg(short, long, value_name = "FILE", requires = "organization")]
        output: Option<PathBuf>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Draw the network as this gateway sees it
    ///
    /// Looks once at what status looks at, and prints a picture that needs nothing else: this gateway, the VPCs of each account
    /// and region with their segments, tunnels and traffic, and what was refused with the reason. Save it, and open it in a browser.
    Map {
        /// svg, or dot for Graphviz
        #[arg(long, value_name = "FORMAT", value_parser = ["svg", "dot"], default_value = "svg", conflicts_with = "json")]
        format: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print measurements for Prometheus
    ///
    /// Looks once at what status looks at, and at the counters of tunnels that watch sums up. What could not be read is
    /// missing, and not 0. crosswan-metrics.timer writes them to a file for node_exporter, and crosswan-metrics.socket shows
    /// that file to a scraper; neither runs unless it is enabled.
    Metrics {
        /// Write them to /run/crosswan/crosswan.prom instead
        #[arg(long)]
        write: bool,
        /// Answer one HTTP request on standard input with that file
        #[arg(long, conflicts_with = "write")]
        serve: bool,
    },
    /// Write an archive of everything that helps to find a mistake from afar, without any secret
    ///
    /// It has what doctor, status and `refresh --dry-run` say, settings, state and managed files, rules, addresses, routes,
    /// the kernel's IPsec states without their keys, what charon has loaded, sysctls, counters and the journal of three days.
    /// Private and pre-shared keys are left out, wherever they stand. It changes nothing else, and ends within a minute: a
    /// part that fails or takes longer than ten seconds is named in summary.txt and on the terminal. Run it as root.
    ///
    /// It names instances, networks and addresses: give it to nobody who may not know them.
    Gather {
        /// The file to write; it must not exist yet [default: crosswan-gather-HOST-TIME.tar.gz]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

//! The command line. Stands alone (clap only), because the build script makes the man page and completions from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing to do
  1  an error that is not listed below: a bug or a broken host
  2  a setting or an argument is wrong, and nothing was tried; or the pre-shared key is missing,
     and NAT was set up without it
  3  something could not be asked (IMDS, EC2, SSM, charon, ...), this gateway's key could not be
     announced, or a new gateway's key is awaited; what worked was kept
  4  a step failed or did not read back as planned. The report names each peer that failed and
     says whether its former tunnel is in force again; everything else was done. If something
     shared failed (rules, files, this gateway's key), the whole old state was restored, or the
     report says that it was not
  5  another refresh holds the lock
  6  everything is in force, but a gateway waits to replace another (REPLACING), or too many
     peers would be removed at once (HELD). Another try does not help: only the peer, time or an
     operator ends that
  7  everything is as planned, but this host stops packets, or will: a sysctl, the policy of
     FORWARD, other rules, EC2's source/destination check, or a swanctl.conf without its include.
     The PROBLEM lines say which, with the remedy

Files:
  /etc/crosswan/crosswan.toml               settings; then conf.d/*.toml beside it
  /etc/swanctl/private/crosswan.pem         this gateway's key, made by refresh; its public half is
                                            in the instance's tag crosswan-key. During a rotation
                                            the next one is crosswan-next.pem
  /etc/crosswan/psk                         the pre-shared key (mode 0600), if one is used and
                                            settings name no other place
  /etc/swanctl/conf.d/crosswan*.conf        written by refresh
  /var/lib/crosswan/                        the last good answers, the rules in force
  /run/crosswan/status.json                 the last report";

const STATUS_CODES: &str = "\
Exit codes of status, the worst first:
  9  the rules of the last refresh are not in force
  8  a tunnel is down
  7  tunnels and rules are as they should be, but this host stops packets
  3  something could not be asked and is shown as unknown, as always for users other than root
  0  all is well";

/// Joins the private networks of many VPCs through one IPsec hub, and gives each VPC its NAT on the way.
///
/// One pass of `crosswan refresh` observes (IMDS, EC2, charon, iptables), decides which tunnels and rules should
/// exist, changes only what differs, and reads everything back. `crosswan keep` holds the tunnels up in between.
#[derive(Debug, Parser)]
#[command(name = "crosswan", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Log as JSON lines, for a machine
    #[arg(long, global = true)]
    pub log_json: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Settings given on the command line; they override files and CROSSWAN_* variables.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings (they override files and CROSSWAN_* variables)")]
pub struct Overrides {
    /// What this gateway is: vpn-hub, nat-hub or nat-vpn
    #[arg(long, global = true, value_name = "MODE")]
    pub mode: Option<String>,
    /// The private network, comma-separated CIDRs
    #[arg(long, global = true, value_name = "CIDRS")]
    pub private_net: Option<String>,
    /// Regions to look for gateways in, comma-separated
    #[arg(long, global = true, value_name = "REGIONS")]
    pub regions: Option<String>,
    /// nat-vpn: the hub's Elastic IP
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub hub: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make one pass: look, decide, change what differs, read it back
    ///
    /// Asks IMDSv2 who this gateway is and, as its mode needs, EC2 in every listed region for its peers. Fetches the
    /// pre-shared key if settings name one in SSM or Secrets Manager. Loads only the connections that changed, restores
    /// only its own iptables chains, and restores what was there where the system does not read back as planned: for the
    /// one peer that failed, or for all if what failed is shared. A region that cannot be asked keeps its tunnels. Run at
    /// boot and hourly by systemd.
    ///
    /// Unless auth.method is psk, the first pass makes this gateway's key and announces its public half in the
    /// instance's tag. Peers are known by the keys that they announce. The key of a new peer that has not announced one
    /// yet is awaited (exit code 3, so that systemd runs this again soon). The same instance with another key is
    /// refused, with the fingerprints of both.
    Refresh {
        /// Stop after the plan and print it; change nothing
        #[arg(long)]
        dry_run: bool,
        /// Remove more peers in one pass than removal.hold_above allows
        #[arg(long)]
        force: bool,
        /// Accept the key with this fingerprint for a gateway of this VPC that is known by another key; repeatable
        ///
        /// For instance --accept-key vpc-0a1b2c3d=SHA256:…, with the fingerprint that `crosswan status` shows as `own
        /// key` on that gateway. Any other key that its tag may hold at that moment is refused.
        #[arg(long, value_name = "VPC=FINGERPRINT")]
        accept_key: Vec<String>,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make this gateway's next key and announce it beside the current one
    ///
    /// One pass of refresh, in which the next key is made. A later pass uses it as soon as IKE has proved that every peer
    /// accepts it. Until then both keys are valid, and no tunnel is touched. See auth.max_key_age for rotations by age.
    RotateKey {
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep the tunnels of the last refresh up, until stopped
    ///
    /// Speaks only to charon. Initiates children that should be up and are not, and deletes childless and duplicate
    /// IKE_SAs. When a child stays down for minutes it asks for a refresh, by writing /run/crosswan/refresh-wanted.
    Keep,
    /// Put this agent's rules back when another program removes them, until stopped
    ///
    /// Speaks only to the kernel's firewall. Between two refreshes it compares what is loaded with the rules loaded last
    /// (/var/lib/crosswan/iptables.rules), at each change of nft's rules and every three seconds, and puts back what is
    /// missing. Stop it before removing rules by hand.
    Watch,
    /// Write the files of a pass somewhere else, for review
    ///
    /// Observes and decides as refresh does, then writes the files below DIR instead of the system. The secrets file
    /// holds the real keys: mode 0600.
    Render {
        /// Where to write; created if missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Show tunnels, NAT, the last refresh, and what was refused and why
    ///
    /// Tunnels and rules are read from charon and iptables at this moment, and whether packets may pass from sysctls and
    /// other programs' rules; the rest is the last refresh's report.
    #[command(after_help = STATUS_CODES)]
    Status {
        /// Print as JSON
        #[arg(long)]
        json: bool,
        /// Show again every two seconds, until interrupted
        #[arg(long)]
        watch: bool,
    },
}

//! The command line. Stands alone (clap only), because the build script makes the man page and completions from it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing to do
  1  an error that is none of the below
  2  a document or an argument is wrong; nothing was tried
  3  something could not be asked; nothing was changed
  4  a step failed, a wait ran out, or something did not read back as planned; what was made stands,
     and the next cast goes on from there
  5  a resource that belongs to somebody else is in the way
  6  plan --exit-code, status --exit-code: there are changes

Credentials are those of the AWS SDKs: AWS_PROFILE, AWS_ACCESS_KEY_ID, or the role of this machine.

Example:
  cloudcaster check hub.json client.json
  cloudcaster plan hub.json
  cloudcaster cast hub.json client.json";

/// Makes a VPC environment of one region from one JSON document: idempotent, additive, never deletes.
///
/// A document describes a VPC with its subnets, routes, NAT and VPN gateways, security groups, load balancers and
/// services. A cast makes what is missing, reads it back, and can be repeated at any time: also after it was interrupted.
#[derive(Debug, Parser)]
#[command(name = "cloudcaster", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read documents and check them, each by itself and against each other
    ///
    /// Needs no AWS and no credentials. Prints every problem at once as FILE:LINE:COLUMN: KEY: what is wrong; warnings do
    /// not change the exit code. Between documents: CIDRs that overlap in one private network, and DNS names, load
    /// balancers, Auto Scaling groups and Elastic IPs that two of them claim.
    Check {
        /// The documents
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Warn of unknown keys instead of refusing them, as the tool of 2014 let them pass
        #[arg(long)]
        allow_unknown: bool,
        /// Print the problems as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a cast would do to what was observed, step by step, with reasons
    ///
    /// Reads and checks the documents, asks AWS what is in each one's region, and compares. Nothing is changed. With --against
    /// the observation comes from a file instead; docs/cloudcaster.md describes its format.
    ///
    /// Existing resources are recognised by the tags of earlier casts, else by the rules of the tool of 2014 within the
    /// VPC, and then adopted. Nothing is ever deleted, with two exceptions that are steps of their own: the default egress
    /// rule of a group with `egress`, and the default entries of a new VPC's network ACL if the document has `acls`.
    Plan {
        /// The documents
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Do not ask AWS: what is there is in this file, as JSON; repeat it for documents of several regions
        #[arg(long, value_name = "FILE")]
        against: Vec<PathBuf>,
        /// Replace routes, and associations of subnets, that somebody else made
        #[arg(long)]
        take_routes: bool,
        /// Exit with 6 if there is something to do
        #[arg(long)]
        exit_code: bool,
        /// Warn of unknown keys instead of refusing them, as the tool of 2014 let them pass
        #[arg(long)]
        allow_unknown: bool,
        /// Print the plans as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make what the documents say, and read it back
    ///
    /// Plans all documents, shows the plans, asks once, and carries them out; a document with a VPN hub comes before the others.
    /// Each step is a line with the seconds it took; what takes longer than two seconds says what it waits for. At the end the
    /// region is read back: a cast has succeeded when a new plan is empty. Interrupt it at any time and cast again: nothing is
    /// made twice.
    Cast {
        /// The documents
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Do not ask before the first change
        #[arg(long, short)]
        yes: bool,
        /// Replace routes, and associations of subnets, that somebody else made
        #[arg(long)]
        take_routes: bool,
        /// Do not wait for status checks, instances in service, load balancers and name servers
        #[arg(long)]
        no_wait: bool,
        /// Warn of unknown keys instead of refusing them, as the tool of 2014 let them pass
        #[arg(long)]
        allow_unknown: bool,
        /// Print each event as a JSON object on a line of its own
        #[arg(long)]
        json: bool,
    },
    /// Show what of the documents exists: ids, addresses, names, what is missing, and what differs
    Status {
        /// The documents
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Exit with 6 if something is missing or differs
        #[arg(long)]
        exit_code: bool,
        /// Warn of unknown keys instead of refusing them, as the tool of 2014 let them pass
        #[arg(long)]
        allow_unknown: bool,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Tag what the tool of 2014 made, as its rules recognise it within the VPC, and change nothing else
    Adopt {
        /// The documents
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Do not ask before the first change
        #[arg(long, short)]
        yes: bool,
        /// Warn of unknown keys instead of refusing them, as the tool of 2014 let them pass
        #[arg(long)]
        allow_unknown: bool,
        /// Print each event as a JSON object on a line of its own
        #[arg(long)]
        json: bool,
    },
    /// Print a document as a template for another tool
    #[command(subcommand)]
    Export(Export),
    /// Print the least IAM policy with which a document can be cast, and cast again
    ///
    /// Needs no AWS and no credentials.
    Policy {
        /// The document
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Also what adopting a VPC of 2014 needs, and putting right what somebody changed by hand
        #[arg(long)]
        mend: bool,
        /// Print it without line breaks
        #[arg(long)]
        json: bool,
    },
    /// Print the documents' format as a JSON Schema, for editors
    Schema {
        /// Print it without line breaks
        #[arg(long)]
        json: bool,
    },
    /// Explain a key: what it means, what it may hold, what it becomes in AWS
    Explain {
        /// The key, by its name (azlimit) or its path (apps.allow.cidr); without one, every key
        #[arg(value_name = "KEY")]
        key: Option<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Export {
    /// A CloudFormation template that makes the same environment
    ///
    /// Needs no AWS. Images, given addresses and certificates become parameters, user data a hidden one. CloudFormation cannot
    /// adopt what is there, and deletes what it made with its stack, so everything is retained.
    Cloudformation {
        /// The document
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print it without line breaks
        #[arg(long)]
        json: bool,
    },
}

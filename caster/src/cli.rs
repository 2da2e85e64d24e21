//! The command line. Stands alone (clap only), because the build script makes the man page and completions from it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing to do
  1  an error that is none of the below
  2  a document or an argument is wrong; nothing was tried
  3  something could not be asked; nothing was changed
  4  a step failed, a wait ran out, or something did not read back as planned (no command of this
     version changes anything, so none ends like this)
  5  a resource that belongs to somebody else is in the way
  6  plan --exit-code: there are changes

Example:
  cloudcaster check hub.json client.json
  cloudcaster plan hub.json --against region.json";

/// Makes a VPC environment of one region from one JSON document: idempotent, additive, never deletes.
///
/// A document describes a VPC with its subnets, routes, NAT and VPN gateways, security groups, load balancers and
/// services. This version reads and checks documents, explains their format, and plans against an observation in a file.
/// It does not speak to AWS yet.
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
    /// Reads and checks the documents, then compares each with the observation of its region. The observation comes from a
    /// file, since this version does not ask AWS itself; docs/cloudcaster.md describes its format. Nothing is changed.
    ///
    /// Existing resources are recognised by the tags of earlier casts, else by the rules of the tool of 2014 within the
    /// VPC, and then adopted. Nothing is ever deleted, with two exceptions that are steps of their own: the default egress
    /// rule of a group with `egress`, and the default entries of a new VPC's network ACL if the document has `acls`.
    Plan {
        /// The documents
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// What is there: the observation of a region, as JSON; repeat it for documents of several regions
        #[arg(long, required = true, value_name = "FILE")]
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

//! Puts the commit into the binary: a report says which code was measured.

use std::process::Command;

fn main() {
    // Written with each commit and each change of branch.
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = output.ok().filter(|output| output.status.success());
    let commit =
        commit.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("cargo::rustc-env=SWITCHBOARD_COMMIT={commit}");
}

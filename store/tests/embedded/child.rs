//! Runs this test binary again as a child process, for one test, which then knows that it is the child.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

const FOLDER: &str = "SWITCHBOARD_STORE_TEST_FOLDER";

/// The folder given by the parent, in a child.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs `test` (its full path) with `folder`; `before` is put before the command.
pub(crate) fn command(before: &[&str], test: &str, folder: &OsStr) -> Command {
    let binary = std::env::current_exe().expect("the test binary");
    let mut command = match before {
        [] => Command::new(binary),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(binary);
            command
        }
    };
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
    command
}

//! A real redis-server.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Between looking for a free port and the server's taking it, another may have been faster.
const PORT_ATTEMPTS: usize = 10;

/// A redis-server that keeps nothing on disk, until it is dropped.
pub struct RedisServer {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    child: Child,
}

impl RedisServer {
    /// Starts one; it takes connections when this returns.
    ///
    /// # Errors
    /// If redis-server is not installed or does not start.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&[])
    }

    /// The same, with options of its command line (`--requirepass` and so on).
    ///
    /// # Errors
    /// See [`RedisServer::start`].
    pub fn start_with(options: &[&str]) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let mut failed = None;
        for _ in 0..PORT_ATTEMPTS {
            let port = crate::free_port()?;
            match spawn(&folder, port, &options) {
                Ok(child) => return Ok(Self { folder, port, options, child }),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::other("no free port")))
    }

    /// Where it listens, without a password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it: what it had in memory is gone.
    ///
    /// # Errors
    /// If it is not there.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts it again, empty, on the same port.
    ///
    /// # Errors
    /// See [`RedisServer::start`].
    pub fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(&self.folder, self.port, &self.options)?;
        Ok(())
    }

    /// Stops it in its tracks (SIGSTOP): connections stay, nothing is answered.
    ///
    /// # Errors
    /// If it is not there.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// If it is not there.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may be gone already; there is nothing to keep.
        drop(self.kill());
    }
}

fn spawn(folder: &TempDir, port: u16, options: &[String]) -> io::Result<Child> {
    let mut child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
        .args(options)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("redis-server: {error}")))?;
    let Some(output) = child.stdout.take() else { return Err(io::Error::other("redis-server: no output")) };
    let mut lines = BufReader::new(output).lines();
    let mut said = String::new();
    for line in lines.by_ref() {
        let line = line?;
        if line.contains("Ready to accept connections") {
            // What it says from now on is read, so that it never waits for a reader.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(child);
        }
        said.push_str(&line);
        said.push('\n');
    }
    child.wait()?;
    Err(io::Error::other(format!("redis-server did not start:\n{said}")))
}

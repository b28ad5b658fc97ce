//! A real redis-server.

use crate::{ReservedPort, until_stopped};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Placeholder for the server's port in an option.
const PORT: &str = "{port}";

/// Maximum bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 4_096;

/// Logged by a Redis or a sentinel once it accepts connections.
const READY: [&str; 2] = ["Ready to accept connections", "Sentinel ID is"];

/// A redis-server without persistence, until it is dropped.
pub struct RedisServer {
    folder: TempDir,
    port: ReservedPort,
    arguments: Vec<String>,
    child: Child,
}

impl RedisServer {
    /// Starts a server; it accepts connections when this returns.
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
        let nothing_on_disk = ["--port", PORT, "--save", "", "--appendonly", "no"];
        Self::run(tempfile::tempdir()?, &[&nothing_on_disk, options].concat())
    }

    /// Starts one that only speaks TLS, with this certificate and key (PEM).
    ///
    /// # Errors
    /// See [`RedisServer::start`].
    pub fn start_with_tls(certificate: &str, key: &str) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("cert.pem"), certificate)?;
        fs::write(folder.path().join("key.pem"), key)?;
        let files = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-auth-clients", "no"];
        Self::run(folder, &[&["--port", "0", "--tls-port", PORT, "--save", ""], &files[..]].concat())
    }

    /// Starts a sentinel that watches `master` under this name, and promotes a replica when it has been gone for five
    /// seconds.
    ///
    /// # Errors
    /// See [`RedisServer::start`].
    pub fn start_sentinel(name: &str, master: &Self) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let watched = format!(
            "sentinel monitor {name} 127.0.0.1 {} 1\nsentinel down-after-milliseconds {name} 5000\n\
             sentinel failover-timeout {name} 10000\n",
            master.port()
        );
        fs::write(folder.path().join("sentinel.conf"), watched)?;
        Self::run(folder, &["sentinel.conf", "--sentinel", "--port", PORT])
    }

    fn run(folder: TempDir, arguments: &[&str]) -> io::Result<Self> {
        let port = ReservedPort::new()?;
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.replace(PORT, &port.number().to_string())).collect();
        let child = spawn(&folder, &arguments)?;
        Ok(Self { folder, port, arguments, child })
    }

    /// Runs a command; returns the raw answer.
    ///
    /// # Errors
    /// If it does not answer, or speaks TLS.
    pub fn command(&self, parts: &[&[u8]]) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.port.address())?;
        let mut said = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            said.extend(format!("${}\r\n", part.len()).bytes().chain(part.iter().copied()).chain(*b"\r\n"));
        }
        stream.write_all(&said)?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    /// Its URL, without a password.
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Kills it: everything in its memory is lost.
    ///
    /// # Errors
    /// If it is not running.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Restarts it, empty, on the same port.
    ///
    /// # Errors
    /// See [`RedisServer::start`].
    pub fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(&self.folder, &self.arguments)?;
        Ok(())
    }

    /// Suspends it (SIGSTOP): connections stay, and nothing is answered once this returns.
    ///
    /// # Errors
    /// If it is not running.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        until_stopped(Pid::from_child(&self.child))
    }

    /// Resumes it (SIGCONT).
    ///
    /// # Errors
    /// If it is not running.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.kill());
    }
}

fn spawn(folder: &TempDir, arguments: &[String]) -> io::Result<Child> {
    let mut child = Command::new("redis-server")
        .args(arguments)
        .args(["--bind", "127.0.0.1"])
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
        if READY.iter().any(|ready| line.contains(ready)) {
            // Drains the rest of its output, so that it never blocks.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(child);
        }
        said.push_str(&line);
        said.push('\n');
    }
    child.wait()?;
    Err(io::Error::other(format!("redis-server did not start:\n{said}")))
}

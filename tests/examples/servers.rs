//! Runs a command beside its own redis-server and Cassandra, whose addresses are in `REDIS` and `SCYLLA`; exits with
//! its exit code. For `script/figures cluster`.

use std::env;
use std::error::Error;
use std::process::{Command, ExitCode};

use switchboard_tests::{CassandraServer, RedisServer};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let command = arguments.next().ok_or("which command?")?;
    let (redis, cassandra) = (RedisServer::start()?, CassandraServer::start()?);
    let status = Command::new(command)
        .args(arguments)
        .env("REDIS", redis.url())
        .env("SCYLLA", cassandra.address().to_string())
        .status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

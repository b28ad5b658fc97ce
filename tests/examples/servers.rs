//! Runs a command beside its own redis-server and Cassandra, whose addresses are in `REDIS` and `SCYLLA`; exits with
//! its exit code. For `script/figures cluster` and `script/figures chaos`.
//!
//! With `--restart-redis`, Redis is killed every minute and started again, empty, 4 s later.

use std::env;
use std::error::Error;
use std::io;
use std::process::{Child, Command, ExitCode};
use std::thread;
use std::time::Duration;

use switchboard_tests::{CassandraServer, RedisServer};

/// How often Redis is killed.
const KILLED_EVERY: Duration = Duration::from_mins(1);
/// How long it is gone each time.
const GONE_FOR: Duration = Duration::from_secs(4);
/// How often the command is asked whether it has ended.
const POLL: Duration = Duration::from_millis(200);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).peekable();
    let restarts_redis = arguments.next_if(|argument| argument == "--restart-redis").is_some();
    let command = arguments.next().ok_or("which command?")?;
    let (mut redis, cassandra) = (RedisServer::start()?, CassandraServer::start()?);
    let mut command = Command::new(command)
        .args(arguments)
        .env("REDIS", redis.url())
        .env("SCYLLA", cassandra.address().to_string())
        .spawn()?;
    if restarts_redis {
        keep_restarting(&mut redis, &mut command)?;
    }
    let status = command.wait()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Kills Redis and starts it again, until the command has ended.
fn keep_restarting(redis: &mut RedisServer, command: &mut Child) -> io::Result<()> {
    loop {
        if has_ended_within(command, KILLED_EVERY)? {
            return Ok(());
        }
        redis.kill()?;
        let has_ended = has_ended_within(command, GONE_FOR)?;
        redis.start_again()?;
        if has_ended {
            return Ok(());
        }
    }
}

fn has_ended_within(command: &mut Child, time: Duration) -> io::Result<bool> {
    let mut waited = Duration::ZERO;
    while command.try_wait()?.is_none() {
        if waited >= time {
            return Ok(false);
        }
        thread::sleep(POLL);
        waited += POLL;
    }
    Ok(true)
}

//! Parses the command line (OPERATING, "Binary"); carries nothing out.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use switchboard_config::Sources;
use switchboard_protocol::{ConversationId, Seq, TenantId, UserId};

use crate::auth::NewToken;
use crate::trace_command::TraceAsked;

pub(crate) const HELP: &str = "\
Switchboard: a gateway for durable chat, presence, typing and live dashboards over WebSocket.

Usage:
  switchboard [serve] [--demo] [--config FILE] [--set key=value]...
  switchboard check-config [--config FILE] [--set key=value]...
  switchboard trace CONVERSATION SEQ [--user ID] [--tenant T] [--url URL] [--config FILE] [--set key=value]...
  switchboard token --user ID [--tenant T] [--scope S]... [--ttl 1h] [--config FILE] [--set key=value]...

Commands:
  serve          Run the server. Without any configuration it runs in development mode, on loopback.
  check-config   Print the effective configuration, with the secrets hidden, or every mistake in it.
  trace          Print what became of a message, for each recipient: why did Bob not get it? Asks a running node.
  token          Print a token signed with the configured HS256 key, or with the development key.

Options:
  --demo             Publish the orders of a made-up shop to the topic orders, for /dashboard. Development mode only.
  --config FILE      Read the configuration from this TOML file.
  --set key=value    Set one key, such as limits.connections=5000. May be repeated; wins over everything else.
  --user ID          The user that the token is for; or the only one whose story is told.
  --tenant T         The user's tenant, or the conversation's. Default: default.
  --url URL          The node to ask, such as https://chat.example.com. Default: the one that the configuration is for.
  --scope S          A scope of the token, such as admin. May be repeated.
  --ttl 1h           How long the token is valid: a number and s, m, h or d. Default: 1h.
  -h, --help         Print this.
  -V, --version      Print the version.

Every key can also be set in the environment: SWITCHBOARD__LIMITS__CONNECTIONS=5000. docs/configuration.md has them all.

Exit codes: 0 after a drain, 1 for an unexpected failure, 2 for a wrong command line or configuration, 3 when an address,
a file or a lock that is needed can't be had, 130 when a second signal cuts the drain short.
";

/// What is to be done.
pub(crate) enum Command {
    Serve(Sources, Demo),
    CheckConfig(Sources),
    Token(Sources, NewToken),
    Trace(Sources, TraceAsked),
    Help,
    Version,
}

/// Whether the made-up shop sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demo {
    On,
    Off,
}

/// A command line that can't be understood.
#[derive(Debug, thiserror::Error)]
#[error("{0}; switchboard --help shows what there is")]
pub(crate) struct UsageError(#[from] lexopt::Error);

impl UsageError {
    pub(crate) fn of(why: &str) -> Self {
        Self(lexopt::Error::from(why))
    }
}

/// How long a token is valid when `--ttl` is not given.
const TTL_DEFAULT_S: i64 = 3_600;

#[derive(Default)]
struct Options {
    config: Option<PathBuf>,
    demo: bool,
    sets: Vec<String>,
    user: Option<UserId>,
    tenant: Option<TenantId>,
    scopes: Vec<String>,
    ttl_s: Option<i64>,
    conversation: Option<ConversationId>,
    seq: Option<Seq>,
    url: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Serve,
    CheckConfig,
    Token,
    Trace,
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Command, UsageError> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut verb = None;
    let mut options = Options::default();
    while let Some(arg) = parser.next()? {
        let (is_token, is_trace) = (verb == Some(Verb::Token), verb == Some(Verb::Trace));
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Value(word) if verb.is_none() => verb = Some(verb_of(&word)?),
            Value(word) if is_trace && options.conversation.is_none() => options.conversation = Some(word.parse()?),
            Value(word) if is_trace && options.seq.is_none() => options.seq = Some(word.parse()?),
            Long("config") => options.config = Some(parser.value()?.into()),
            Long("demo") => options.demo = true,
            Long("set") => options.sets.push(parser.value()?.string()?),
            Long("user") if is_token || is_trace => options.user = Some(parser.value()?.parse()?),
            Long("tenant") if is_token || is_trace => options.tenant = Some(parser.value()?.parse()?),
            Long("scope") if is_token => options.scopes.push(parser.value()?.string()?),
            Long("ttl") if is_token => options.ttl_s = Some(parser.value()?.parse_with(duration_s)?),
            Long("url") if is_trace => options.url = Some(parser.value()?.string()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let sources = Sources::new(options.config.take(), env, std::mem::take(&mut options.sets));
    let verb = verb.unwrap_or(Verb::Serve);
    if options.demo && verb != Verb::Serve {
        return Err(UsageError::of("--demo is for serve"));
    }
    Ok(match verb {
        Verb::Serve => Command::Serve(sources, if options.demo { Demo::On } else { Demo::Off }),
        Verb::CheckConfig => Command::CheckConfig(sources),
        Verb::Token => Command::Token(sources, options.into_token()?),
        Verb::Trace => Command::Trace(sources, options.into_trace()?),
    })
}

fn verb_of(word: &OsString) -> Result<Verb, lexopt::Error> {
    word.parse_with(|word| match word {
        "serve" => Ok(Verb::Serve),
        "check-config" => Ok(Verb::CheckConfig),
        "token" => Ok(Verb::Token),
        "trace" => Ok(Verb::Trace),
        _ => Err("there is no such command"),
    })
}

impl Options {
    fn into_trace(self) -> Result<TraceAsked, lexopt::Error> {
        let conversation = self.conversation.ok_or("trace needs a conversation and a seq")?;
        let seq = self.seq.ok_or("trace needs a seq behind the conversation")?;
        Ok(TraceAsked { conversation, seq, user: self.user, tenant: self.tenant, url: self.url })
    }

    fn into_token(self) -> Result<NewToken, lexopt::Error> {
        let user = self.user.ok_or("token needs --user")?;
        Ok(NewToken { user, tenant: self.tenant, scopes: self.scopes, ttl_s: self.ttl_s.unwrap_or(TTL_DEFAULT_S) })
    }
}

/// `90s`, `30m`, `1h` or `7d`, in seconds.
fn duration_s(text: &str) -> Result<i64, &'static str> {
    const EXPECTED: &str = "a duration is a number and s, m, h or d, such as 30m";
    let unit_s = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        _ => return Err(EXPECTED),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| EXPECTED)?;
    Ok(i64::from(number) * unit_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, UsageError> {
        parse(args.iter().map(OsString::from), [])
    }

    #[test]
    fn serve_is_what_is_done_without_a_word() {
        assert!(matches!(parsed(&[]), Ok(Command::Serve(_, Demo::Off))));
        assert!(matches!(parsed(&["--set", "node.id=n1"]), Ok(Command::Serve(_, Demo::Off))));
        assert!(matches!(parsed(&["serve"]), Ok(Command::Serve(_, Demo::Off))));
        assert!(matches!(parsed(&["--demo", "serve"]), Ok(Command::Serve(_, Demo::On))));
        assert!(matches!(parsed(&["--config=x", "check-config"]), Ok(Command::CheckConfig(_))));
    }

    #[test]
    fn a_token_has_its_options() {
        let args = ["token", "--user", "alice", "--scope", "admin", "--scope", "x", "--ttl", "2d", "--tenant", "t"];
        let Ok(Command::Token(_, token)) = parsed(&args) else { panic!("no token") };
        assert_eq!((token.user.as_str(), token.ttl_s), ("alice", 172_800));
        assert_eq!(token.scopes, ["admin", "x"]);
        assert_eq!(token.tenant.map(|tenant| tenant.to_string()).as_deref(), Some("t"));
    }

    #[test]
    fn a_trace_has_a_message() {
        let Ok(Command::Trace(_, asked)) = parsed(&["trace", "g:1", "42", "--user", "bob", "--url", "http://n1"])
        else {
            panic!("no trace")
        };
        assert_eq!(
            (asked.conversation.as_str(), asked.seq.get(), asked.url.as_deref()),
            ("g:1", 42, Some("http://n1"))
        );
        assert_eq!(asked.user.map(|user| user.to_string()).as_deref(), Some("bob"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for args in [
            &["sing"][..],
            &["serve", "serve"],
            &["--user", "a"],
            &["check-config", "--demo"],
            &["trace"],
            &["trace", "g:1"],
            &["trace", "g:1", "x"],
            &["trace", "g:1", "1", "2"],
            &["trace", "g:1", "1", "--scope", "admin"],
            &["token"],
            &["token", "--user", "a b"],
            &["token", "--user", "a", "--ttl", "1"],
            &["token", "--user", "a", "--ttl", "-1h"],
            &["--set"],
            &["--sett", "a=b"],
        ] {
            let error = parsed(args).err().unwrap_or_else(|| panic!("{args:?}"));
            assert!(error.to_string().contains("--help"), "{error}");
        }
    }

    #[test]
    fn help_and_version_win() {
        assert!(matches!(parsed(&["serve", "--help"]), Ok(Command::Help)));
        assert!(matches!(parsed(&["-V"]), Ok(Command::Version)));
    }
}

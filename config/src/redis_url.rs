//! The address of a Redis, a Redis Cluster or its sentinels, which may hold passwords.

use std::fmt;

use http::Uri;
use toml::Value as Toml;

use crate::mistake::{Mistakes, Problem};
use crate::secret::HIDDEN;
use crate::value::{Value, string};

const SCHEMES: [&str; 6] = ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];

/// Begins the sentinels' password in a URL.
const SENTINEL_PASSWORD: &str = "sentinelPassword=";

const WRONG: &str = "not an address of Redis (redis, redis-cluster or redis-sentinel, with an s (rediss) for TLS, \
                     then ://host:port)";

/// A URL of Redis. What shows it hides the passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        (has_host && SCHEMES.contains(&uri.scheme_str()?)).then(|| Self(text.to_owned()))
    }

    /// The URL with its passwords. Not to be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, query) =
            self.0.split_once('?').map_or((&*self.0, None), |(address, query)| (address, Some(query)));
        let (user, host) = address.rsplit_once('@').unwrap_or(("", address));
        // The first colon ends the scheme.
        match user.match_indices(':').nth(1) {
            Some((colon, _)) => write!(f, "{}:{HIDDEN}@{host}", &user[..colon])?,
            None => f.write_str(address)?,
        }
        let Some(query) = query else { return Ok(()) };
        let shown = query.split('&').map(|part| match part.starts_with(SENTINEL_PASSWORD) {
            true => format!("{SENTINEL_PASSWORD}{HIDDEN}"),
            false => part.to_owned(),
        });
        write!(f, "?{}", shown.collect::<Vec<_>>().join("&"))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Value for RedisUrl {
    const IS_TEXT: bool = true;
    const IS_SECRET: bool = true;

    fn type_name() -> String {
        "URL".to_owned()
    }

    fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let url = Self::parse(string(value, at, "URL", mistakes)?);
        if url.is_none() {
            mistakes.push(at, Problem::Wrong(WRONG.to_owned()));
        }
        url
    }

    fn to_toml(&self) -> Option<Toml> {
        Some(self.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_nothing_else() {
        for (url, shown) in [
            ("redis://a", "redis://a"),
            ("redis://a:1/2", "redis://a:1/2"),
            ("redis://us@a:1", "redis://us@a:1"),
            ("rediss://us:sesame@a:1/2", "rediss://us:(hidden)@a:1/2"),
            ("redis://:sesame@a", "redis://:(hidden)@a"),
            (
                "redis-sentinel://:x@a:1?node=b:2&sentinelPassword=y&sentinelServiceName=z",
                "redis-sentinel://:(hidden)@a:1?node=b:2&sentinelPassword=(hidden)&sentinelServiceName=z",
            ),
        ] {
            let url = RedisUrl::parse(url).unwrap();
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }
}

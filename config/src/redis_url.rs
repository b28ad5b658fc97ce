//! The address of a Redis, a Redis Cluster or Sentinels, which may contain passwords.

use std::fmt;
use std::path::{Path, PathBuf};

use http::Uri;
use toml::Value as Toml;

use crate::mistake::{Mistakes, Problem};
use crate::secret::{HIDDEN, Secret};
use crate::section::file_key;
use crate::value::{FromFile, Value, string};

const SCHEMES: [&str; 6] = ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];

/// The parameter of a URL with the sentinels' password.
const SENTINEL_PASSWORD: &str = "sentinelPassword=";

const WRONG: &str = "not an address of Redis (redis, redis-cluster or redis-sentinel, with an s (rediss) for TLS, \
                     then ://host:port)";

/// A Redis URL. Its displayed form hides the passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    text: String,
    /// The file it was read from; not secret.
    file: Option<PathBuf>,
}

impl RedisUrl {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        (has_host && SCHEMES.contains(&uri.scheme_str()?)).then(|| Self { text: text.to_owned(), file: None })
    }

    fn from_file(path: &Path) -> Result<Self, Problem> {
        let text = Secret::from_file(path)?;
        let url = std::str::from_utf8(text.expose()).ok().and_then(Self::parse).ok_or_else(wrong)?;
        Ok(Self { file: Some(path.to_owned()), ..url })
    }

    /// The URL with its passwords. Not to be logged.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

fn wrong() -> Problem {
    Problem::Wrong(WRONG.to_owned())
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, query) =
            self.text.split_once('?').map_or((&*self.text, None), |(address, query)| (address, Some(query)));
        let (user, host) = address.rsplit_once('@').unwrap_or(("", address));
        // The first colon is that of the scheme.
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

impl Value for Option<RedisUrl> {
    const IS_TEXT: bool = true;
    const IS_SECRET: bool = true;
    const FROM_FILE: Option<FromFile<Self>> = Some(|path| RedisUrl::from_file(path).map(Some));

    fn type_name() -> String {
        "URL".to_owned()
    }

    fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let url = RedisUrl::parse(string(value, at, "URL", mistakes)?);
        if url.is_none() {
            mistakes.push(at, wrong());
        }
        url.map(Some)
    }

    fn to_toml(&self) -> Option<Toml> {
        self.as_ref().map(|url| url.to_string().into())
    }

    fn write(&self, key: &str, section: &mut toml::Table) {
        let Some(url) = self else { return };
        match &url.file {
            Some(file) => section.insert(file_key(key), file.to_string_lossy().into_owned().into()),
            None => section.insert(key.to_owned(), url.to_string().into()),
        };
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

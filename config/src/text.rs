//! Keys whose value is text in a certain format: names, addresses, origins, paths.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use http::Uri;
use http::uri::Authority;
use ipnet::IpNet;

use crate::value::Text;

/// Maximum length of a node's name, in bytes (PROTOCOL §1, ids).
const NODE_NAME_BYTES_MAX: usize = 128;

/// The name of a node: 1 to 128 bytes of `A-Z a-z 0-9 _ - . : @` (PROTOCOL §1, ids).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName(String);

impl NodeName {
    /// This machine's host name; invalid characters become `-`.
    pub fn of_host() -> Self {
        Self::sanitised(&gethostname::gethostname().to_string_lossy())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn sanitised(name: &str) -> Self {
        let name: String =
            name.chars().map(|c| if is_id_char(c) { c } else { '-' }).take(NODE_NAME_BYTES_MAX).collect();
        if name.is_empty() { Self("node".to_owned()) } else { Self(name) }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.:@".contains(c)
}

impl Text for NodeName {
    const TYPE: &'static str = "name";
    const EXPECTED: &'static str = "a name (1 to 128 bytes of A-Z a-z 0-9 _ - . : @)";

    fn parse(text: &str) -> Option<Self> {
        let valid = (1..=NODE_NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(is_id_char);
        valid.then(|| Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// The base URL of a node for clients: scheme, host, port and optionally a path, without a trailing `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertiseUrl(String);

impl AdvertiseUrl {
    /// The base of HTTP requests; the scheme is `http` or `https`.
    pub fn http_url(&self) -> String {
        match self.0.strip_prefix("ws") {
            Some(rest) => format!("http{rest}"),
            None => self.0.clone(),
        }
    }

    /// The URL of `/v1/ws` (PROTOCOL §6: `/v1/ws` is added); the scheme is `ws` or `wss`.
    pub fn websocket_url(&self) -> String {
        // `https` becomes `wss`.
        match self.0.strip_prefix("http") {
            Some(rest) => format!("ws{rest}/v1/ws"),
            None => format!("{}/v1/ws", self.0),
        }
    }
}

impl Text for AdvertiseUrl {
    const TYPE: &'static str = "URL";
    const EXPECTED: &'static str = "a base URL (ws, wss, http or https, with a host, without a query)";

    fn parse(text: &str) -> Option<Self> {
        let uri = uri(text, &["ws", "wss", "http", "https"])?;
        let base = format!("{}://{}{}", uri.scheme_str()?, uri.authority()?, uri.path().trim_end_matches('/'));
        uri.query().is_none().then_some(Self(base))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// An allowed value of the header `Origin` (RFC 6454 §7), or `*` for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Whether a request with this `Origin` may connect.
    pub fn matches(&self, origin: &str) -> bool {
        self.0 == "*" || self.0.eq_ignore_ascii_case(origin)
    }
}

impl Text for Origin {
    const TYPE: &'static str = "origin";
    const EXPECTED: &'static str = "an origin (scheme://host or scheme://host:port, or *)";

    fn parse(text: &str) -> Option<Self> {
        let is_origin = || uri(text, &["http", "https"]).is_some_and(|uri| uri.path() == "/" && uri.query().is_none());
        (text == "*" || (is_origin() && !text.ends_with('/'))).then(|| Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// An absolute URI with one of these schemes and a host, and without user, password or fragment.
fn uri(text: &str, schemes: &[&str]) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let host = uri.host().filter(|host| !host.is_empty())?;
    let authority = uri.authority()?.as_str();
    let is_plain = authority.starts_with(host) && !text.contains('#');
    (schemes.contains(&uri.scheme_str()?) && is_plain).then_some(uri)
}

/// A server's address: a host name or IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort(String);

impl HostPort {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Text for HostPort {
    const TYPE: &'static str = "server";
    const EXPECTED: &'static str = "a server (host:port)";

    fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let is_plain = authority.port_u16().is_some() && !text.contains('@') && !authority.host().is_empty();
        is_plain.then(|| Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// The name of a keyspace that needs no quotes in CQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace(String);

impl Keyspace {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Keyspace {
    fn default() -> Self {
        Self("switchboard".to_owned())
    }
}

impl Text for Keyspace {
    const TYPE: &'static str = "keyspace";
    const EXPECTED: &'static str = "a keyspace (1 to 48 of a-z, 0-9 and _, the first a letter)";

    fn parse(text: &str) -> Option<Self> {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let first = text.bytes().next()?;
        let fits = first.is_ascii_lowercase() && text.len() <= 48 && text.bytes().all(is_name);
        fits.then(|| Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// Maximum number of days: CQL limits a TTL to twenty years.
const RETENTION_DAYS_MAX: u32 = 7_300;

/// A tenant and its retention in days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantDays {
    /// The tenant's id.
    pub tenant: String,
    /// 0: for ever.
    pub days: u32,
}

impl Text for TenantDays {
    const TYPE: &'static str = "tenant=days";
    const EXPECTED: &'static str = "tenant=days (an id of A-Z a-z 0-9 _ - . : @, and 0 to 7300)";

    fn parse(text: &str) -> Option<Self> {
        let (tenant, days) = text.split_once('=')?;
        let is_id = (1..=NODE_NAME_BYTES_MAX).contains(&tenant.len()) && tenant.chars().all(is_id_char);
        let days = days.parse().ok().filter(|days| *days <= RETENTION_DAYS_MAX)?;
        is_id.then(|| Self { tenant: tenant.to_owned(), days })
    }

    fn text(&self) -> String {
        format!("{}={}", self.tenant, self.days)
    }
}

/// Maximum length of the prefix of Redis keys, in bytes.
const REDIS_PREFIX_BYTES_MAX: usize = 64;

/// The prefix of names in Redis: without braces, which have a meaning in a Redis Cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisPrefix(String);

impl RedisPrefix {
    /// The prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RedisPrefix {
    fn default() -> Self {
        Self("switchboard".to_owned())
    }
}

impl Text for RedisPrefix {
    const TYPE: &'static str = "prefix";
    const EXPECTED: &'static str = "a prefix (1 to 64 bytes of A-Z a-z 0-9 _ - . : @)";

    fn parse(text: &str) -> Option<Self> {
        let fits = (1..=REDIS_PREFIX_BYTES_MAX).contains(&text.len()) && text.chars().all(is_id_char);
        fits.then(|| Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// Any non-empty text.
impl Text for String {
    const TYPE: &'static str = "text";
    const EXPECTED: &'static str = "a text of at least one character";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Text for SocketAddr {
    const TYPE: &'static str = "address";
    const EXPECTED: &'static str = "an address (ip:port)";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for IpNet {
    const TYPE: &'static str = "network";
    const EXPECTED: &'static str = "an IP address or network (such as 10.0.0.0/8)";

    fn parse(text: &str) -> Option<Self> {
        text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for PathBuf {
    const TYPE: &'static str = "path";
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }

    fn text(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_gives_a_name() {
        for (host, name) in [("web-1.local", "web-1.local"), ("my host\u{e9}", "my-host-"), ("", "node")] {
            assert_eq!(NodeName::sanitised(host).as_str(), name);
        }
        assert_eq!(NodeName::sanitised(&"a".repeat(200)).as_str().len(), NODE_NAME_BYTES_MAX);
        assert_eq!(NodeName::parse(NodeName::of_host().as_str()), Some(NodeName::of_host()));
    }
}

//! The part of the configuration that SIGHUP may change. It is built as a whole: with any mistake there are no new
//! settings.

use std::num::NonZeroU32;
use std::sync::Arc;

use switchboard_clock::Clock;
use switchboard_config::{Config, Limits, Mistakes};
use switchboard_protocol::ParseLimits;
use switchboard_router::Options;
use tokio_rustls::rustls::ServerConfig;

use crate::auth::Keys;
use crate::capacity::Capacity;
use crate::push::{self, Providers};
use crate::tls;

/// The settings in force. Who begins something looks at them then.
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    /// The router's part.
    pub(crate) options: Options,
    /// `limits.connections`, or what the machine allows.
    pub(crate) connections_max: usize,
    /// WebSocket and HTTP connections together: what the descriptors allow.
    pub(crate) sockets_max: usize,
    pub(crate) keys: Arc<Keys>,
    pub(crate) providers: Arc<Providers>,
}

impl Settings {
    /// The settings, and what TLS is to speak with if it is configured.
    ///
    /// # Errors
    /// Everything that is wrong with the keys, the limits, the certificate and the providers of push.
    pub(crate) fn from_config(
        config: &Config,
        capacity: Capacity,
        clock: &Clock,
    ) -> Result<(Self, Option<Arc<ServerConfig>>), Mistakes> {
        let mut mistakes = Mistakes::default();
        let keys = Keys::from_config(&config.auth).map_err(|several| mistakes.extend(several));
        let connections_max = capacity.connections_max(&config.limits).map_err(|mistake| mistakes.add(mistake));
        let tls = tls::read(&config.tls).map_err(|mistake| mistakes.add(mistake));
        let providers = Providers::from_config(config, clock).map_err(|several| mistakes.extend(several));
        let (Ok(keys), Ok(connections_max), Ok(tls), Ok(providers)) = (keys, connections_max, tls, providers) else {
            return Err(mistakes);
        };
        let settings = Self {
            limits: config.limits.clone(),
            options: Options::from(config),
            connections_max,
            sockets_max: connections_max + capacity.http_connections_kept(),
            keys: Arc::new(keys),
            providers: Arc::new(providers),
        };
        Ok((settings, tls))
    }

    /// As [`Settings::from_config`], but in development mode with Web Push, as far as that can be had.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn for_server(
        config: &Config,
        capacity: Capacity,
        clock: &Clock,
    ) -> Result<(Self, Option<Arc<ServerConfig>>), Mistakes> {
        let with_key = push::with_dev_key(config).unwrap_or_else(|error| {
            tracing::warn!(%error, "no notifications");
            None
        });
        let Some(with_key) = with_key else { return Self::from_config(config, capacity, clock) };
        Self::from_config(&with_key, capacity, clock).or_else(|mistakes| {
            let settings = Self::from_config(config, capacity, clock)?;
            let reason = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            tracing::warn!(reason, "no notifications");
            Ok(settings)
        })
    }

    pub(crate) fn parse_limits(&self) -> ParseLimits {
        ParseLimits { content_bytes: self.limits.content_bytes }
    }

    pub(crate) fn connections_per_address_max(&self) -> u32 {
        self.limits.connections_per_ip.map_or(u32::MAX, NonZeroU32::get)
    }

    pub(crate) fn http_connections_per_address_max(&self) -> u32 {
        self.limits.http_connections_per_ip.map_or(u32::MAX, NonZeroU32::get)
    }
}

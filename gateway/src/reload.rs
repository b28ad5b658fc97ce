//! SIGHUP: TLS certificates, keys and limits are read again. What is wrong leaves everything as it is.

use std::sync::Arc;

use switchboard_config::{Loaded, Mistakes};
use tokio::signal::unix::Signal;

use crate::auth::Keys;
use crate::capacity::Capacity;
use crate::gateway::{Gateway, Settings};
use crate::tls::Tls;

/// Reloads at each signal.
pub(crate) async fn reload_at_hangups(
    mut hangups: Signal,
    mut loaded: Loaded,
    gateway: Arc<Gateway>,
    tls: Option<Arc<Tls>>,
    capacity: Capacity,
) {
    while hangups.recv().await.is_some() {
        match reload(&mut loaded, &gateway, tls.as_deref(), capacity) {
            Ok(waiting) if waiting.is_empty() => tracing::info!("configuration reloaded"),
            Ok(waiting) => {
                tracing::warn!(keys = waiting.join(", "), "configuration reloaded, but for keys that need a restart");
            }
            Err(mistakes) => {
                for mistake in mistakes.iter() {
                    tracing::error!(%mistake, "configuration not reloaded");
                }
            }
        }
    }
}

fn reload(
    loaded: &mut Loaded,
    gateway: &Gateway,
    tls: Option<&Tls>,
    capacity: Capacity,
) -> Result<Vec<String>, Mistakes> {
    let waiting = loaded.reload()?;
    let config = &loaded.config;
    let keys = if config.is_development() {
        gateway.settings().keys.clone()
    } else {
        Arc::new(Keys::from_config(&config.auth)?)
    };
    let connections_max = capacity.connections_max(&config.limits)?;
    if let Some(tls) = tls {
        tls.reload(&config.tls)?;
    }
    gateway.replace_settings(Settings { limits: config.limits.clone(), connections_max, keys });
    Ok(waiting)
}

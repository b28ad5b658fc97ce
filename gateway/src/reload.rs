//! SIGHUP: reloads TLS certificates, keys, limits and push credentials. If anything is wrong, nothing changes.

use std::sync::Arc;

use switchboard_config::{Loaded, Mistakes, Reload};
use tokio::signal::unix::Signal;

use crate::capacity::Capacity;
use crate::gateway::Gateway;
use crate::settings::Settings;
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
                tracing::warn!(keys = waiting.join(", "), "configuration reloaded, except keys that need a restart");
            }
            Err(mistakes) => {
                for mistake in mistakes.iter() {
                    tracing::error!(%mistake, "configuration not reloaded");
                }
            }
        }
    }
}

/// Gives back the keys that need a restart.
fn reload(
    loaded: &mut Loaded,
    gateway: &Gateway,
    tls: Option<&Tls>,
    capacity: Capacity,
) -> Result<Vec<String>, Mistakes> {
    let Reload { loaded: new, waiting } = loaded.reload()?;
    let (mut settings, server) = Settings::for_server(&new.config, capacity, &gateway.clock)?;
    if new.config.is_development() {
        // The key of development mode is no part of the configuration.
        settings.keys = gateway.settings().keys.clone();
    }
    gateway.replace_settings(settings);
    if let (Some(tls), Some(server)) = (tls, server) {
        tls.replace(server);
    }
    *loaded = new;
    Ok(waiting)
}

//! The statements of devices and notification preferences. Their rows are changed by compare-and-set.

use crate::StoreError;
use crate::scylla::client::{Client, Statement};

pub(in crate::scylla) struct DeviceStatements {
    pub(in crate::scylla) all: Statement,
    pub(in crate::scylla) first: Statement,
    pub(in crate::scylla) change: Statement,
    pub(in crate::scylla) remove: Statement,
    pub(in crate::scylla) remove_as: Statement,
    pub(in crate::scylla) preferences: Statement,
    pub(in crate::scylla) first_preferences: Statement,
    pub(in crate::scylla) change_preferences: Statement,
}

impl DeviceStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        Ok(Self {
            all: client
                .prepare_paged(
                    "push_devices",
                    "SELECT device, channel, target, registered_ms FROM KS.push_devices
                     WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            first: client
                .prepare(
                    "first_push_device",
                    "INSERT INTO KS.push_devices (channel, target, registered_ms, tenant, user_id, device)
                     VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS",
                )
                .await?,
            change: client
                .prepare(
                    "change_push_device",
                    "UPDATE KS.push_devices SET channel = ?, target = ?, registered_ms = ?
                     WHERE tenant = ? AND user_id = ? AND device = ? IF EXISTS",
                )
                .await?,
            remove: client
                .prepare(
                    "remove_push_device",
                    "DELETE FROM KS.push_devices WHERE tenant = ? AND user_id = ? AND device = ? IF EXISTS",
                )
                .await?,
            remove_as: client
                .prepare(
                    "remove_push_device_as",
                    "DELETE FROM KS.push_devices WHERE tenant = ? AND user_id = ? AND device = ? IF target = ?",
                )
                .await?,
            preferences: client
                .prepare(
                    "notification_preferences",
                    "SELECT preferences FROM KS.notification_preferences WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            first_preferences: client
                .prepare(
                    "first_notification_preferences",
                    "INSERT INTO KS.notification_preferences (preferences, tenant, user_id) VALUES (?, ?, ?)
                     IF NOT EXISTS",
                )
                .await?,
            change_preferences: client
                .prepare(
                    "change_notification_preferences",
                    "UPDATE KS.notification_preferences SET preferences = ? WHERE tenant = ? AND user_id = ? IF EXISTS",
                )
                .await?,
        })
    }
}

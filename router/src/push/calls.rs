//! Changes to a user's devices and notification preferences, made at the user's home, where the arbiter uses them.

use crate::envelope::{Ask, Reply};
use crate::node::{Node, lock, unavailable};
use std::sync::Arc;
use switchboard_protocol::{DeviceId, ErrorCode, ProtocolError};
use switchboard_push::Preferences;
use switchboard_store::{PushDevice, StoreError, UserKey};

impl Node {
    /// Sends a request to the user's home, on this node or another.
    async fn ask_home(self: &Arc<Self>, user: &UserKey, ask: Ask) -> Result<Reply, ProtocolError> {
        let home = self.placement().home(user).incarnation.clone();
        if home != self.me {
            return self.ask(&home, ask).await;
        }
        // Completed even if the session that asked for it is gone by then.
        let node = self.clone();
        self.carry_out(async move { node.push_call(ask).await }).await
    }

    pub(crate) async fn put_push_device(
        self: &Arc<Self>,
        user: &UserKey,
        device: DeviceId,
        registered: PushDevice,
    ) -> Result<(), ProtocolError> {
        self.ask_home(user, Ask::PutPushDevice { user: user.clone(), device, registered }).await.map(drop)
    }

    pub(crate) async fn remove_push_device(
        self: &Arc<Self>,
        user: &UserKey,
        device: &DeviceId,
        target: Option<String>,
    ) -> Result<bool, ProtocolError> {
        let ask = Ask::RemovePushDevice { user: user.clone(), device: device.clone(), target };
        match self.ask_home(user, ask).await? {
            Reply::Was(was) => Ok(was),
            _ => Err(ProtocolError::internal()),
        }
    }

    pub(crate) async fn set_notification_preferences(
        self: &Arc<Self>,
        user: &UserKey,
        preferences: String,
    ) -> Result<(), ProtocolError> {
        if let Err(error) = serde_json::from_str::<Preferences>(&preferences) {
            return Err(ProtocolError::bad_request("preferences", error.to_string()));
        }
        self.ask_home(user, Ask::SetNotificationPreferences { user: user.clone(), preferences }).await.map(drop)
    }

    /// A request to this node as a user's home.
    pub(crate) async fn push_call(&self, ask: Ask) -> Result<Reply, ProtocolError> {
        let failed = |error: StoreError| unavailable(self, &error);
        match ask {
            Ask::PutPushDevice { user, device, registered } => {
                let _one_at_a_time = self.turns_of(&user).lock().await;
                let devices = self.store.devices(&user).await.map_err(failed)?;
                let others = devices.iter().filter(|(other, _)| *other != device).count();
                if others >= self.options().push_devices_max {
                    return Err(ProtocolError::new(ErrorCode::Conflict, "as many devices are registered as may be"));
                }
                self.store.put_device(&user, &device, registered).await.map_err(failed)?;
                self.push_changed(&user);
                Ok(Reply::Done)
            }
            Ask::RemovePushDevice { user, device, target } => {
                let _one_at_a_time = self.turns_of(&user).lock().await;
                let was = self.store.remove_device(&user, &device, target).await.map_err(failed)?;
                self.push_changed(&user);
                Ok(Reply::Was(was))
            }
            Ask::SetNotificationPreferences { user, preferences } => {
                let _one_at_a_time = self.turns_of(&user).lock().await;
                self.store.put_notification_preferences(&user, preferences).await.map_err(failed)?;
                self.push_changed(&user);
                Ok(Reply::Done)
            }
            _ => Err(ProtocolError::internal()),
        }
    }

    /// Makes the user's arbiter reload its data.
    fn push_changed(&self, user: &UserKey) {
        self.users.forget_unreachable(user);
        let round = self.push_round(user);
        if let Some(known) = lock(self.pushes.shard(user)).get_mut(user) {
            known.changed();
            self.push_decided(user, known, Vec::new(), &round);
        }
    }
}

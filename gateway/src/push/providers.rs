//! The push providers that have credentials in the configuration. Only their connections outlive a reload.

use std::time::Duration;

use switchboard_clock::Clock;
use switchboard_config::{Apns as ApnsKeys, Config, Fcm as FcmKeys, Mistake, Mistakes, Problem, Secret};
use switchboard_config::{WebPush as WebPushKeys, Webhook as WebhookKeys};
use switchboard_push_providers::{
    Apns, ApnsOptions, Client, Fcm, Guard, Outcome, Push, Roots, SetupError, Target, WebPush, Webhook,
};
use switchboard_store::Channel;
use tokio_util::task::TaskTracker;

/// The providers that are configured; the others are off.
#[derive(Debug, Default)]
pub(crate) struct Providers {
    guard: Guard,
    web_push: Option<WebPush>,
    fcm: Option<Fcm>,
    apns: Option<Apns>,
    webhook: Option<Webhook>,
}

impl Providers {
    /// # Errors
    /// The keys from which no provider can be made.
    pub(crate) fn from_config(config: &Config, clock: &Clock) -> Result<Self, Mistakes> {
        let guard = Guard::new(&config.push.allowed_networks);
        let (web_push, fcm, apns, webhook) = (&config.web_push, &config.fcm, &config.apns, &config.webhook);
        let is_any_on = web_push.vapid_key.is_some()
            || fcm.service_account.is_some()
            || apns.key.is_some()
            || webhook.url.is_some();
        if !is_any_on {
            return Ok(Self { guard, ..Self::default() });
        }
        // The connections' tasks end with the pool, which ends with the providers.
        let timeout = Duration::from_millis(config.push.timeout_ms);
        let client = Client::new(guard.clone(), Roots::Machine, timeout, clock.clone(), &TaskTracker::new());
        let client = client.map_err(|error| mistake("push", &error))?;
        let mut mistakes = Mistakes::default();
        let mut note = |credential, error: SetupError| mistakes.add(mistake(&key_of(credential, &error), &error));
        let web_push = new_web_push(web_push, &client).map_err(|error| note("push.web_push.vapid_key", error));
        let fcm = new_fcm(fcm, &client).map_err(|error| note("push.fcm.service_account", error));
        let apns = new_apns(apns, &client).map_err(|error| note("push.apns.key", error));
        let webhook = new_webhook(webhook, &client).map_err(|error| note("push.webhook.secret", error));
        match (web_push, fcm, apns, webhook) {
            (Ok(web_push), Ok(fcm), Ok(apns), Ok(webhook)) => Ok(Self { guard, web_push, fcm, apns, webhook }),
            _ => Err(mistakes),
        }
    }

    pub(crate) fn has(&self, channel: Channel) -> bool {
        match channel {
            Channel::WebPush => self.web_push.is_some(),
            Channel::Fcm => self.fcm.is_some(),
            Channel::Apns => self.apns.is_some(),
            Channel::Webhook => self.webhook.is_some(),
        }
    }

    /// The target that a device may register.
    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The key that browsers subscribe with. `None`: Web Push is off.
    pub(crate) fn application_server_key(&self) -> Option<String> {
        self.web_push.as_ref().map(WebPush::application_server_key)
    }

    /// Sends to one device. `None`: its provider is off.
    pub(crate) async fn send(&self, target: &Target, push: &Push) -> Option<Outcome> {
        Some(match target {
            Target::WebPush(subscription) => self.web_push.as_ref()?.send(subscription, push).await,
            Target::Fcm(token) => self.fcm.as_ref()?.send(token, push).await,
            Target::Apns(token) => self.apns.as_ref()?.send(token, push).await,
            Target::Webhook => self.webhook.as_ref()?.send(push).await,
        })
    }
}

/// The key at fault: that of the credential, or another one in its section.
fn key_of(credential: &str, error: &SetupError) -> String {
    let beside =
        |name| credential.rsplit_once('.').map_or_else(String::new, |(section, _)| format!("{section}.{name}"));
    match error {
        SetupError::Url(_) => beside("url"),
        SetupError::Header { field } => beside(field),
        _ => credential.to_owned(),
    }
}

fn mistake(key: &str, error: &SetupError) -> Mistake {
    Mistake::new(key, Problem::Wrong(error.to_string()))
}

fn new_web_push(keys: &WebPushKeys, client: &Client) -> Result<Option<WebPush>, SetupError> {
    let Some(key) = &keys.vapid_key else { return Ok(None) };
    WebPush::new(client.clone(), key.expose(), text(keys.subject.as_ref())).map(Some)
}

fn new_fcm(keys: &FcmKeys, client: &Client) -> Result<Option<Fcm>, SetupError> {
    let Some(account) = &keys.service_account else { return Ok(None) };
    Fcm::new(client.clone(), account.expose(), &keys.url).map(Some)
}

fn new_apns(keys: &ApnsKeys, client: &Client) -> Result<Option<Apns>, SetupError> {
    let Some(key) = &keys.key else { return Ok(None) };
    let options = ApnsOptions {
        url: keys.url.clone(),
        topic: text(keys.topic.as_ref()),
        key_id: text(keys.key_id.as_ref()),
        team_id: text(keys.team_id.as_ref()),
    };
    Apns::new(client.clone(), key.expose(), options).map(Some)
}

fn new_webhook(keys: &WebhookKeys, client: &Client) -> Result<Option<Webhook>, SetupError> {
    let Some(url) = &keys.url else { return Ok(None) };
    let secret = keys.secret.as_ref().map_or(&[][..], Secret::expose);
    Webhook::new(client.clone(), url, secret).map(Some)
}

/// What the configuration has beside the key; that it is there has been checked.
fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_cant_be_made_is_told_by_the_key_at_fault() {
        let key = |error| key_of("push.apns.key", &error);
        assert_eq!(key(SetupError::Key { algorithm: "ES256" }), "push.apns.key");
        assert_eq!(key(SetupError::Url("http://a".to_owned())), "push.apns.url");
        assert_eq!(key(SetupError::Header { field: "topic" }), "push.apns.topic");
        assert_eq!(key_of("push.fcm.service_account", &SetupError::ServiceAccount), "push.fcm.service_account");
    }
}

//! `switchboard trace`: asks a running node what became of a message, and prints it for people.

use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::header::AUTHORIZATION;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use switchboard_config::{AdvertiseUrl, Config, Sources};
use switchboard_protocol::http::{Failure as Refusal, Success};
use switchboard_protocol::{ConversationId, Seq, TenantId, UserId};
use switchboard_router::{Outcome, Trace, TraceEvent, TraceStep, TracedRecipient};
use tokio_rustls::rustls::crypto::ring;

use crate::auth::NewToken;
use crate::commands::{print, signed};
use crate::failure::Failure;

/// In whose name it is asked.
const ASKS_AS: &str = "switchboard-trace";

/// For as long as all pages may take.
const TOKEN_TTL_S: i64 = 300;

/// Recipients in one answer: as many as may be.
const PAGE: usize = 100;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct TraceAsked {
    pub(crate) conversation: ConversationId,
    pub(crate) seq: Seq,
    /// Only what concerns this user.
    pub(crate) user: Option<UserId>,
    pub(crate) tenant: Option<TenantId>,
    /// The node's base, in place of what the configuration says.
    pub(crate) url: Option<String>,
}

/// Asks, and prints.
pub(crate) fn run(sources: Sources, asked: &TraceAsked) -> Result<(), Failure> {
    let config = Config::load(sources)?.config;
    let token = NewToken {
        user: ASKS_AS.parse().map_err(anyhow::Error::from)?,
        tenant: asked.tenant.clone(),
        scopes: vec!["admin".to_owned()],
        ttl_s: TOKEN_TTL_S,
    };
    let token = signed(&config, &token)?;
    let base = asked.url.clone().unwrap_or_else(|| base_of(&config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(async {
        let node = RunningNode::new(base, token)?;
        let mut after = None;
        loop {
            let trace = node.trace(asked, after.as_ref()).await?;
            if after.is_none() {
                print(&heading(asked, &trace))?;
            }
            trace.recipients.iter().try_for_each(|recipient| print(&story(recipient)))?;
            match trace.recipients.last() {
                Some(last) if trace.more => after = Some(last.user_id.clone()),
                _ => return Ok(()),
            }
        }
    })
}

/// Where the node of this configuration can be reached.
fn base_of(config: &Config) -> String {
    let scheme = if config.tls.cert.is_some() { "https" } else { "http" };
    let listen = || format!("{scheme}://{}", config.node.listen);
    config.node.advertise_url.as_ref().map_or_else(listen, AdvertiseUrl::http_url)
}

struct RunningNode {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    base: String,
    token: String,
}

impl RunningNode {
    fn new(base: String, token: String) -> Result<Self, Failure> {
        let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(ring::default_provider());
        let connector = connector.map_err(anyhow::Error::from)?.https_or_http().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), base, token })
    }

    /// One page.
    async fn trace(&self, asked: &TraceAsked, after: Option<&UserId>) -> Result<Trace, Failure> {
        let TraceAsked { conversation, seq, user, .. } = asked;
        let mut url = format!(
            "{}/v1/admin/conversations/{conversation}/messages/{seq}/trace?limit={PAGE}",
            self.base.trim_end_matches('/')
        );
        for (name, id) in [("user_id", user.as_ref()), ("after", after)] {
            if let Some(id) = id {
                url = format!("{url}&{name}={id}");
            }
        }
        let request = Request::get(url).header(AUTHORIZATION, format!("Bearer {}", self.token)).body(Empty::new());
        let request = request.map_err(|error| Failure::CantHave(format!("{}: {error}", self.base)))?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|_| Failure::CantHave(format!("no node answers at {}", self.base)))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.context("the answer broke off")?.to_bytes();
        if status == StatusCode::OK {
            let trace: Success<Trace> = serde_json::from_slice(&body).context("that is no answer of Switchboard's")?;
            return Ok(trace.data);
        }
        let told = serde_json::from_slice::<Refusal>(&body).map(|body| body.error.message);
        Err(anyhow!("{}: {}", status.as_u16(), told.unwrap_or_else(|_| "no answer of Switchboard's".to_owned())).into())
    }
}

fn heading(asked: &TraceAsked, trace: &Trace) -> String {
    let Trace { message_id, from, stored_at, events, .. } = trace;
    let mut text = format!("message {} ({message_id}) from {from}, stored at {stored_at}\n", asked.seq);
    events.iter().for_each(|event| tell(&mut text, event));
    text
}

fn story(recipient: &TracedRecipient) -> String {
    let mut text = format!("{}: {}", recipient.user_id, word(recipient.outcome));
    if let Some(why) = &recipient.why {
        text.push_str(&format!(" ({})", why.replace('_', " ")));
    }
    text.push('\n');
    recipient.events.iter().for_each(|event| tell(&mut text, event));
    text
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotAMember => "was no member",
        Outcome::Stored => "waits for the next sync",
        Outcome::NotNotified => "was not notified",
        Outcome::NotificationWaits => "a notification waits",
        Outcome::Notified => "was notified",
        Outcome::Given => "a session has it, and has not said so",
        Outcome::Delivered => "has it",
        Outcome::Read => "has read it",
    }
}

fn tell(text: &mut String, event: &TraceEvent) {
    let TraceEvent { at, node_id, step, .. } = event;
    // Writing to a string does not fail.
    let _ = writeln!(text, "  {at}  {node_id}  {}", said(step));
}

fn said(step: &TraceStep) -> String {
    let why = |why: &Option<_>| why.as_ref().map_or_else(String::new, |why| format!(", {why}"));
    match step {
        TraceStep::Announced { home_id, users } => format!("announced to {home_id}, the home of {users}"),
        TraceStep::Given { session_id, device_id } => format!("given to session {session_id} of {device_id}"),
        TraceStep::GivenToMore { sessions } => format!("given to {sessions} more sessions"),
        TraceStep::Delivered { up_to_seq } => format!("delivered, up to {up_to_seq}"),
        TraceStep::Read { up_to_seq } => format!("read, up to {up_to_seq}"),
        TraceStep::Held { until } => format!("held for a receipt until {until}"),
        TraceStep::ArrivedInTime => "arrived in time: no notification".to_owned(),
        TraceStep::NotNotified { why } => format!("no notification: {why}"),
        TraceStep::Queued { provider, count, not_before, why: reason } => {
            format!("queued for {provider}, as {count}, not before {not_before}{}", why(reason))
        }
        TraceStep::Notified { provider, device_id } => format!("{provider} has it for {device_id}"),
        TraceStep::DeviceGone { provider, device_id } => format!("{provider} says that {device_id} is gone"),
        TraceStep::Failed { provider, device_id, reason, again_at } => {
            let device = device_id.as_ref().map_or_else(String::new, |device| format!(" for {device}"));
            let next = again_at.map_or_else(|| "given up".to_owned(), |again_at| format!("again at {again_at}"));
            format!("{provider} failed{device}: {reason}; {next}")
        }
        TraceStep::Withdrawn => "withdrawn".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use switchboard_protocol::Timestamp;

    #[test]
    fn a_story_is_told_in_lines() {
        let event = |step| TraceEvent {
            at: Timestamp::from_unix_ms(1_000),
            node_id: "n1".parse().unwrap(),
            user_id: Some("bob".parse().unwrap()),
            step,
        };
        let given = TraceStep::Given { session_id: "s1".parse().unwrap(), device_id: "phone".parse().unwrap() };
        let muted = TraceStep::NotNotified { why: Cow::Borrowed("muted") };
        let recipient = TracedRecipient {
            user_id: "bob".parse().unwrap(),
            outcome: Outcome::Given,
            why: Some(Cow::Borrowed("quiet_hours")),
            events: vec![event(given), event(muted)],
        };
        assert_eq!(
            story(&recipient),
            "bob: a session has it, and has not said so (quiet hours)\n  \
             1970-01-01T00:00:01.000Z  n1  given to session s1 of phone\n  \
             1970-01-01T00:00:01.000Z  n1  no notification: muted\n"
        );
    }
}

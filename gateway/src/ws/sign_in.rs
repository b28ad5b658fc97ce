//! The user of a session: the first token, its renewals, and the registration with the router.

use std::pin::Pin;
use std::sync::Arc;

use switchboard_protocol::client::Auth;
use switchboard_protocol::server::{Authenticated, Ready, ReconnectRange, SessionLimits};
use switchboard_protocol::{CloseCode, DeviceId, ErrorCode, FrameId, InstanceId, ProtocolError, Timestamp};
use switchboard_router::{Connected, NewSession, Router};
use switchboard_store::UserKey;

use super::close::Ending;
use super::line::Line;
use super::outbox::Outbox;
use super::session::{Session, Stage};
use crate::auth::{Identity, Scope, Scopes};
use crate::gateway::Gateway;
use crate::metrics::{CONNECTIONS, ConnectResult, count_connect};

/// What the upgrade request says about the client.
#[derive(Default)]
pub(crate) struct Hello {
    /// A token in the header or the query.
    pub(crate) token: Option<String>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) instance: Option<InstanceId>,
    /// An error in the query. It is reported on the socket, where a browser can see it.
    pub(crate) fault: Option<ProtocolError>,
}

/// The user of a session.
pub(super) struct SignedIn {
    pub(super) expires_at: Timestamp,
    pub(super) scopes: Scopes,
    /// The registration with the router, which ends when this is dropped.
    pub(super) connected: Connected,
}

impl SignedIn {
    fn new(expires_at: Timestamp, scopes: Scopes, connected: Connected) -> Self {
        CONNECTIONS.increment(1.0);
        Self { expires_at, scopes, connected }
    }

    fn user(&self) -> UserKey {
        self.connected.actor(false).user
    }
}

impl Drop for SignedIn {
    fn drop(&mut self) {
        CONNECTIONS.decrement(1.0);
    }
}

/// A pending call of the router. Nothing is read meanwhile, so frames right behind `auth` are handled after it.
pub(super) type Gate = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// The result of a [`Gate`].
pub(super) enum Verdict {
    SignedIn { id: Option<FrameId>, device: DeviceId, signed_in: Box<SignedIn> },
    Refused { id: Option<FrameId>, error: ProtocolError },
    Renewed { id: Option<FrameId>, expires_at: Timestamp, scopes: Scopes },
    NotRenewed { id: Option<FrameId>, error: ProtocolError },
}

impl<S: Line> Session<S> {
    /// Begins the session according to the upgrade request.
    pub(super) fn begin(&mut self, mut hello: Hello) {
        let (token, fault) = (hello.token.take(), hello.fault.take());
        self.stage = Stage::Anonymous(Box::new(hello));
        match (token, fault) {
            (_, Some(error)) => self.put_refusal(None, &error),
            (Some(token), None) => self.on_auth(None, Auth { token, device_id: None, instance_id: None }),
            (None, None) => {}
        }
    }

    /// Handles a token: the first one signs in, later ones renew.
    pub(super) fn on_auth(&mut self, id: Option<FrameId>, auth: Auth) {
        let verified = self.gateway.verify(&auth.token);
        match (&mut self.stage, verified) {
            (Stage::Closing { .. }, _) => {}
            (Stage::Anonymous(_), Err(error)) => {
                count_connect(ConnectResult::Unauthorized);
                self.end(Ending::BadToken(id, error));
            }
            (Stage::Anonymous(hello), Ok(identity)) => {
                let device = auth.device_id.or_else(|| hello.device.take());
                let instance = auth.instance_id.or_else(|| hello.instance.take()).unwrap_or_default();
                self.sign_in(id, identity, device, instance);
            }
            (Stage::Open(_), Err(error)) => self.put_refusal(id.as_ref(), &error),
            (Stage::Open(signed_in), Ok(identity)) if identity.user == signed_in.user() => self.renew(id, identity),
            (Stage::Open(_), Ok(_)) => {
                self.put_refusal(id.as_ref(), &ProtocolError::forbidden("the token belongs to another user"));
            }
        }
    }

    fn sign_in(&mut self, id: Option<FrameId>, identity: Identity, device: Option<DeviceId>, instance: InstanceId) {
        let router = match self.gateway.router() {
            Ok(router) => router.clone(),
            Err(_) => {
                count_connect(ConnectResult::Unready);
                return self.end(Ending::NodeStops);
            }
        };
        let device = device.unwrap_or_else(|| make_up_device(&self.gateway));
        let outbox = self.outbox.clone();
        self.deadlines.set_stage_end(None);
        self.gate = Some(Box::pin(register(router, outbox, id, identity, device, instance)));
    }

    fn renew(&mut self, id: Option<FrameId>, identity: Identity) {
        let Some(router) = self.gateway.session_router().cloned() else { return };
        self.gate = Some(Box::pin(async move {
            match router.admit(&identity.user, identity.issued_at, identity.name).await {
                Ok(()) => Verdict::Renewed { id, expires_at: identity.expires_at, scopes: identity.scopes },
                Err(error) => Verdict::NotRenewed { id, error },
            }
        }));
    }

    fn put_refusal(&mut self, id: Option<&FrameId>, error: &ProtocolError) {
        self.put(&switchboard_protocol::server::ErrorFrame::new(None, error), id);
    }

    /// Acts on the router's answer.
    pub(super) fn pass(&mut self, verdict: Verdict) {
        match verdict {
            // The router may have asked all sessions to move before it accepted this one, which therefore ends here.
            Verdict::SignedIn { .. } if self.gateway.draining.is_cancelled() => {
                count_connect(ConnectResult::Unready);
                self.end(Ending::NodeStops);
            }
            Verdict::SignedIn { id, device, signed_in } => {
                count_connect(ConnectResult::Ok);
                let ready = self.ready(device, &signed_in);
                self.stage = Stage::Open(signed_in);
                self.put(&ready, id.as_ref());
            }
            Verdict::Refused { id, error } => {
                count_connect(ConnectResult::Refused);
                self.end(Ending::Refused(id, error));
            }
            Verdict::Renewed { id, expires_at, scopes } => {
                if let Stage::Open(signed_in) = &mut self.stage {
                    (signed_in.expires_at, signed_in.scopes) = (expires_at, scopes);
                    self.deadlines.set_changed();
                }
                self.put(&Authenticated { expires_at }, id.as_ref());
                self.end_forbidden_watches();
            }
            Verdict::NotRenewed { id, error } if error.code() == ErrorCode::Revoked => {
                self.put_refusal(id.as_ref(), &error);
                self.end(Ending::Ordered(CloseCode::Revoked));
            }
            Verdict::NotRenewed { id, error } => self.put_refusal(id.as_ref(), &error),
        }
    }

    /// The scopes of the new token apply to what is already watched, too (PROTOCOL §2): a user who is no longer an
    /// operator gets no more metrics of the gateway.
    fn end_forbidden_watches(&mut self) {
        let Stage::Open(signed_in) = &self.stage else { return };
        if !signed_in.scopes.contains(Scope::Operator) && signed_in.connected.unwatch_own_topics() {
            let error =
                ProtocolError::forbidden("no longer watching the gateway's own topics: they need the scope operator");
            self.put_refusal(None, &error);
        }
    }

    fn ready(&self, device_id: DeviceId, signed_in: &SignedIn) -> Ready {
        let settings = self.gateway.settings();
        let (limits, session) = (&settings.limits, &self.gateway.session);
        let UserKey { tenant, user } = signed_in.user();
        Ready {
            user_id: user,
            tenant,
            device_id,
            session_id: signed_in.connected.session_id().clone(),
            node_id: self.gateway.node_id.clone(),
            store_id: self.gateway.store_id(),
            heartbeat_ms: limits.heartbeat_ms,
            expires_at: signed_in.expires_at,
            reconnect: ReconnectRange { min_ms: session.reconnect_min_ms, max_ms: session.reconnect_max_ms },
            limits: SessionLimits {
                frame_bytes: limits.frame_bytes,
                content_bytes: limits.content_bytes,
                frames_per_s: limits.frames_per_s,
            },
            server_time: Timestamp::from_unix_ms(self.gateway.clock.wall_ms()),
        }
    }
}

async fn register(
    router: Router,
    outbox: Arc<Outbox>,
    id: Option<FrameId>,
    identity: Identity,
    device: DeviceId,
    instance: InstanceId,
) -> Verdict {
    let Identity { user, name, issued_at, expires_at, scopes } = identity;
    let new = NewSession { user, device: device.clone(), instance, issued_at, name };
    match router.connect(new, outbox).await {
        Ok(connected) => {
            Verdict::SignedIn { id, device, signed_in: Box::new(SignedIn::new(expires_at, scopes, connected)) }
        }
        Err(error) => Verdict::Refused { id, error },
    }
}

fn make_up_device(gateway: &Gateway) -> DeviceId {
    let device = format!("device-{:016x}", gateway.generator.u64());
    device.parse().expect("letters, digits and a dash make an id")
}

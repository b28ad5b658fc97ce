//! Handles each frame that a session reads: counts it, passes answers on, follows the log.

use serde_json::Value;

use super::follow::Fate;
use super::network::Network;
use super::scan;
use super::session::Shared;

/// A scenario's frame handler: gets the type, the JSON, and the time of the read.
pub(crate) type OnFrame = Box<dyn FnMut(&str, &[u8], u64) + Send>;

/// A session's reading side.
pub(super) struct Reader {
    pub(super) on_frame: Option<OnFrame>,
    /// The reconnect pause from `ready`; `None` before it.
    pub(super) ready: Option<Pause>,
    /// The code of the close frame, once it has come.
    pub(super) close: Option<Option<u16>>,
}

/// `reconnect` of `ready` (PROTOCOL §2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub(super) min_ms: u64,
    pub(super) max_ms: u64,
}

impl Pause {
    /// PROTOCOL's defaults, for a server that has not given any.
    pub(super) const DEFAULT: Self = Self { min_ms: 500, max_ms: 30_000 };

    /// The maximum wait before an attempt: `min(max, min·2ⁿ)`.
    pub(super) fn most_ms(self, attempt: u32) -> u64 {
        self.min_ms.saturating_mul(1 << attempt.min(20)).min(self.max_ms)
    }
}

impl Reader {
    pub(super) fn on_text(&mut self, network: &Network, shared: &Shared, json: &[u8], at_ns: u64) {
        let Some(kind) = scan::text(json, "type") else {
            network.complaints.note("a frame without a type");
            return;
        };
        let is_for_scenario = match kind {
            "message" => on_message(network, shared, json, at_ns),
            "sent" => on_sent(network, shared, json, at_ns),
            "error" => on_error(network, shared, json),
            "ready" => {
                self.on_ready(shared, json);
                true
            }
            "message_updated" | "reaction" | "membership" | "conversation_updated" => {
                if let Some(follow) = &shared.follow {
                    follow.lock().on_entry(kind, json);
                }
                true
            }
            "conversation_activity" => {
                if let Some(follow) = &shared.follow {
                    follow.lock().on_activity(json);
                }
                true
            }
            "resync" => {
                if let Some(follow) = &shared.follow {
                    follow.lock().on_resync();
                }
                true
            }
            _ => true,
        };
        if let Some(id) = scan::text(json, "id") {
            shared.answer(id, json);
        }
        if let Some(on_frame) = self.on_frame.as_mut().filter(|_| is_for_scenario) {
            on_frame(kind, json, at_ns);
        }
    }

    fn on_ready(&mut self, shared: &Shared, json: &[u8]) {
        let ready: Value = serde_json::from_slice(json).unwrap_or_default();
        let ms = |name: &str, default| ready["reconnect"][name].as_u64().unwrap_or(default);
        let default = Pause::DEFAULT;
        self.ready = Some(Pause { min_ms: ms("min_ms", default.min_ms), max_ms: ms("max_ms", default.max_ms) });
        if let Some(follow) = &shared.follow {
            follow.lock().on_ready(ready["store_id"].as_str().unwrap_or_default());
        }
    }
}

fn on_message(network: &Network, shared: &Shared, json: &[u8], at_ns: u64) -> bool {
    let is_new = shared.follow.as_ref().is_none_or(|follow| follow.lock().on_entry("message", json));
    if let Some(client_id) = scan::text(json, "client_id").filter(|_| is_new) {
        network.meters.on_delivery(client_id, &network.run, at_ns);
    }
    is_new
}

fn on_sent(network: &Network, shared: &Shared, json: &[u8], at_ns: u64) -> bool {
    let fate = shared.follow.as_ref().map_or(Fate::Final, |follow| follow.lock().on_sent(json));
    if let Some(client_id) = scan::text(json, "client_id").filter(|_| fate == Fate::Final) {
        network.meters.on_sent(client_id, &network.run, at_ns);
    }
    fate == Fate::Final
}

/// Whether the scenario gets the error: not if a repeat will resolve it.
fn on_error(network: &Network, shared: &Shared, json: &[u8]) -> bool {
    let code = scan::text(json, "code").unwrap_or("without a code");
    let message = scan::text(json, "message").unwrap_or_default();
    network.complaints.note(&format!("error {code}: {message}"));
    let Some(client_id) = scan::text(json, "client_id") else { return true };
    let fate = shared.follow.as_ref().map_or(Fate::Final, |follow| follow.lock().on_send_error(client_id, json));
    if fate == Fate::Final {
        network.meters.send_errors.add(1);
    }
    fate == Fate::Final
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest() {
        let waits: Vec<u64> = (0..8).map(|attempt| Pause::DEFAULT.most_ms(attempt)).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(Pause::DEFAULT.most_ms(u32::MAX), 30_000);
    }
}

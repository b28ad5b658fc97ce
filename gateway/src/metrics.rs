//! The gateway's metrics (OPERATING, "Metrics"), registered once, so that counting costs one addition. No label holds a
//! user, a tenant or a conversation.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use switchboard_clock::Clock;
use switchboard_protocol::{CloseCode, ProtocolError, ServerFrame};
use switchboard_router::Answer;
use tokio_util::sync::CancellationToken;

/// Upper bounds of the histograms' buckets, in seconds: around the 2 ms and 10 ms of DESIGN §8, up to the timeouts.
const BUCKETS_S: &[f64] = &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Starts the registry of the process. To be called once, before anything is counted.
pub(crate) fn start() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS_S)?
        .install_recorder()?;
    describe_gauge!("switchboard_connections", "Open connections with a session");
    describe_counter!("switchboard_connects_total", "Connections that asked for a session");
    describe_counter!("switchboard_disconnects_total", "Closed sockets, by close code");
    describe_counter!("switchboard_sends_total", "Sends, by result");
    describe_histogram!("switchboard_send_duration_seconds", "Time from a send's frame to its answer");
    describe_counter!("switchboard_frames_sent_total", "Frames written to sockets");
    describe_counter!("switchboard_writes_total", "Writes to sockets, by the number of frames in each (lower bound)");
    describe_counter!("switchboard_frames_dropped_total", "Ephemeral frames dropped because their reader was slow");
    describe_gauge!("switchboard_session_queue_bytes", "Bytes of frames queued for sockets that are not writable");
    describe_gauge!("switchboard_push_queue_oldest_seconds", "How long the oldest notification has been due");
    describe_gauge!("switchboard_push_provider_down", "1 while requests to a provider are paused after failures");
    describe_counter!("switchboard_pushes_total", "Requests to providers, by outcome");
    describe_counter!("switchboard_push_dead_letters_total", "Notifications given up");
    describe_counter!(
        "switchboard_push_told_forgotten_total",
        "Notifications whose record of the devices already reached was dropped before the retry"
    );
    counter!("switchboard_push_told_forgotten_total").increment(0);
    describe_gauge!("switchboard_build_info", "Always 1");
    gauge!("switchboard_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    // Registered from the start, with 0: a counter that first appears with its first increment shows no increase.
    LazyLock::force(&DROPPED);
    LazyLock::force(&CONNECTIONS);
    LazyLock::force(&QUEUE_BYTES);
    Ok(handle)
}

/// Time between two summaries of the histograms' samples, which wait in memory until then.
const UPKEEP_MS: u64 = 5_000;

/// Keeps the registry small until `stop`.
pub(crate) async fn upkeep(figures: PrometheusHandle, clock: Clock, stop: CancellationToken) {
    while stop.run_until_cancelled(clock.sleep_to_next_ms(UPKEEP_MS)).await.is_some() {
        figures.run_upkeep();
    }
}

/// Ephemeral frames that were not sent.
pub(crate) struct Dropped {
    /// Replaced by a newer one.
    pub(crate) conflated: Counter,
    /// There was no room.
    pub(crate) slow: Counter,
}

pub(crate) static DROPPED: LazyLock<Dropped> = LazyLock::new(|| {
    let counter = |reason| counter!("switchboard_frames_dropped_total", "reason" => reason);
    Dropped { conflated: counter("conflated"), slow: counter("slow") }
});

/// Sessions over WebSocket.
pub(crate) static CONNECTIONS: LazyLock<Gauge> =
    LazyLock::new(|| gauge!("switchboard_connections", "transport" => "websocket"));

/// Bytes that wait for sockets that accept no more.
pub(crate) static QUEUE_BYTES: LazyLock<Gauge> = LazyLock::new(|| gauge!("switchboard_session_queue_bytes"));

/// Time from a send's frame to its answer, in seconds.
pub(crate) static SEND_DURATION: LazyLock<Histogram> =
    LazyLock::new(|| histogram!("switchboard_send_duration_seconds"));

static FRAMES_SENT: LazyLock<HashMap<&'static str, Counter, RandomState>> = LazyLock::new(|| {
    let counter = |kind| counter!("switchboard_frames_sent_total", "type" => kind);
    ServerFrame::TYPES.iter().map(|kind| (*kind, counter(*kind))).collect()
});

/// The minimum number of frames of a write in each series: powers of two.
const WRITE_FRAMES: [&str; 8] = ["1", "2", "4", "8", "16", "32", "64", "128"];

static WRITES: LazyLock<[Counter; WRITE_FRAMES.len()]> =
    LazyLock::new(|| WRITE_FRAMES.map(|frames| counter!("switchboard_writes_total", "frames" => frames)));

/// Counts a write to a socket with this many frames.
pub(crate) fn count_write(frames: u32) {
    if let Some(power) = frames.checked_ilog2() {
        WRITES[(power as usize).min(WRITE_FRAMES.len() - 1)].increment(1);
    }
}

/// Counts frames, consecutive ones of the same type at once.
#[derive(Default)]
pub(crate) struct SentTally {
    kind: &'static str,
    frames: u64,
}

impl SentTally {
    pub(crate) fn add(&mut self, kind: &'static str) {
        if self.kind != kind {
            self.flush();
            self.kind = kind;
        }
        self.frames += 1;
    }

    fn flush(&mut self) {
        if let Some(counter) = FRAMES_SENT.get(self.kind) {
            counter.increment(self.frames);
        }
        self.frames = 0;
    }
}

impl Drop for SentTally {
    fn drop(&mut self) {
        self.flush();
    }
}

/// How a request for a session ended.
#[derive(Clone, Copy)]
pub(crate) enum ConnectResult {
    Ok,
    BadRequest,
    Forbidden,
    NoRoom,
    Unready,
    Unauthorized,
    Refused,
}

pub(crate) fn count_connect(result: ConnectResult) {
    let result = match result {
        ConnectResult::Ok => "ok",
        ConnectResult::BadRequest => "bad_request",
        ConnectResult::Forbidden => "forbidden",
        ConnectResult::NoRoom => "no_room",
        ConnectResult::Unready => "unready",
        ConnectResult::Unauthorized => "unauthorized",
        ConnectResult::Refused => "refused",
    };
    counter!("switchboard_connects_total", "result" => result).increment(1);
}

pub(crate) fn count_disconnect(code: CloseCode) {
    counter!("switchboard_disconnects_total", "code" => code.as_u16().to_string()).increment(1);
}

/// Counts the result of a send that was passed to the router, and its duration.
pub(crate) fn count_send(result: &Result<Answer, ProtocolError>, duration_us: u64) {
    count_send_as(match result {
        Ok(Answer::Frame(ServerFrame::Sent(sent))) if sent.duplicate => "duplicate",
        Ok(_) => "ok",
        Err(error) => error.code().as_str(),
    });
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a request are far below 2^52")]
    SEND_DURATION.record(duration_us as f64 / 1e6);
}

/// Counts a send that was refused before it reached the router.
pub(crate) fn count_refused_send(error: &ProtocolError) {
    count_send_as(error.code().as_str());
}

fn count_send_as(result: &'static str) {
    counter!("switchboard_sends_total", "result" => result).increment(1);
}

//! Dashboards (PROTOCOL §5, §8 "Topics"): by socket and by HTTP, each rule at its limit and one past it.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::tokens::{now_s, token};
use crate::support::{Client, Config, Connect, Response, Server, Token, soon};

fn publisher() -> String {
    Token::of("shop").scope("topics:publish").sign()
}

async fn publish(server: &Server, topic: &str, events: Value) -> Response {
    let path = format!("/v1/topics/{topic}/events");
    server.http().post(&path, &json!({"events": events})).token(&publisher()).send().await
}

async fn read(server: &Server, path: &str) -> Response {
    server.http().get(path).token(&token("alice")).send().await
}

fn event(value: f64) -> Value {
    json!({"series": "clicks", "value": value})
}

/// An event of this time, in seconds since 1970.
fn event_at(at_s: f64) -> Value {
    json!({"series": "clicks", "value": 1, "timestamp": rfc_3339(at_s)})
}

fn rfc_3339(at_s: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a time of this century")]
    let at = OffsetDateTime::from_unix_timestamp(at_s as i64).unwrap();
    at.format(&Rfc3339).unwrap()
}

fn watch(topic: &str, window: &str) -> Value {
    json!({"type": "topic_watch", "topic": topic, "window": window, "range_s": 60})
}

/// The number of events in the windows.
fn count(frame: &Value) -> u64 {
    let series = frame["series"].as_array().unwrap_or_else(|| panic!("no series: {frame}"));
    let points = series.iter().flat_map(|series| series["points"].as_array().unwrap());
    points.map(|point| point[1].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn what_is_published_is_seen_by_watchers_and_readers() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let state = alice.ask(watch("sales", "1m")).await;
    assert_eq!((&state["type"], &state["window"], &state["series"]), (&json!("topic_state"), &json!("1m"), &json!([])));

    let tagged = json!({"series": "clicks", "value": 2.5, "tags": {"board": "b1"}});
    let answer = publish(&server, "sales", json!([event(1.0), event(3.0), tagged])).await;
    assert_eq!(answer.data(202), json!({"accepted": 3, "late": 0}));
    // The batch may be on both sides of the end of a minute, or of a tick.
    let mut version = state["version"].as_u64().unwrap();
    let mut told = 0;
    while told < 3 {
        let update = alice.expect("topic_update").await;
        version += 1;
        assert_eq!((&update["topic"], &update["version"]), (&json!("sales"), &json!(version)));
        assert!(update["closed_until_ms"].is_i64());
        told += count(&update);
    }
    let read = read(&server, "/v1/topics/sales?window=1m&range_s=3600").await.data(200);
    assert_eq!((&read["topic"], count(&read)), (&json!("sales"), 3));
    let series: Vec<_> = read["series"].as_array().unwrap().iter().map(|s| (&s["series"], &s["tags"])).collect();
    assert_eq!(series, [(&json!("clicks"), &json!({})), (&json!("clicks"), &json!({"board": "b1"}))]);
    let point = read["series"][1]["points"][0].as_array().unwrap();
    assert_eq!(point[1..], [json!(1), json!(2.5), json!(2.5), json!(2.5), json!(2.5), json!(2.5), json!(2.5)]);
}

#[tokio::test]
async fn events_are_published_over_a_socket_with_the_scope_for_it() {
    let server = Config::new().start().await;
    let mut shop = Connect::to(&server).token(&publisher()).open().await;
    shop.expect("ready").await;
    let frame = |events: Value| json!({"type": "topic_publish", "topic": "sales", "events": events});
    let ok = shop.ask(frame(json!([event(1.0)]))).await;
    assert_eq!((&ok["type"], &ok["accepted"], &ok["late"]), (&json!("ok"), &json!(1), &json!(0)));
    let malformed = frame(json!([event(1.0), event(1.0), {"series": "clicks", "value": "1"}]));
    assert_eq!(shop.ask_in_vain(malformed).await, ("bad_request".to_owned(), Some("events[2].value".to_owned())));
    assert_eq!(count(&shop.ask(watch("sales", "1m")).await), 1, "a malformed event refuses the whole request");
    // A renewed token counts in every respect.
    shop.ask(json!({"type": "auth", "token": token("shop")})).await;
    assert_eq!(shop.ask_in_vain(frame(json!([event(1.0)]))).await.0, "forbidden");
}

#[tokio::test]
async fn who_may_publish_and_who_may_watch() {
    let server = Config::new().start().await;
    let http = server.http();
    let body = json!({"events": [event(1.0)]});
    http.post("/v1/topics/sales/events", &body).send().await.error(401, "unauthorized");
    http.post("/v1/topics/sales/events", &body).token(&token("alice")).send().await.error(403, "forbidden");
    publish(&server, "$node", json!([event(1.0)])).await.error(403, "forbidden");
    publish(&server, "%24other", json!([event(1.0)])).await.error(403, "forbidden");
    read(&server, "/v1/topics/$node?window=1s").await.error(403, "forbidden");
    let mut alice = Client::sign_in(&server, "alice").await;
    assert_eq!(alice.ask_in_vain(watch("$node", "1s")).await.0, "forbidden");
    let other = Token::of("shop").scope("topics:publish").claim("tenant", "other").sign();
    http.post("/v1/topics/sales/events", &body).token(&other).send().await.data(202);
    assert_eq!(count(&alice.ask(watch("sales", "1m")).await), 0, "nothing crosses a tenant");
    assert_eq!(count(&read(&server, "/v1/topics/sales?window=1m").await.data(200)), 0);
}

#[tokio::test]
async fn a_request_is_refused_by_its_field() {
    let server = Config::new().start().await;
    for (events, field) in [
        (json!([]), "events"),
        (json!(vec![event(1.0); 1_001]), "events"),
        (json!([event(1.0), {"series": "clicks"}]), "events[1].value"),
        (json!([{"series": "", "value": 1}]), "events[0].series"),
        (json!([event(1.0), event_at(now_s() + 90.0)]), "events[1].timestamp"),
    ] {
        assert_eq!(publish(&server, "sales", events).await.error(400, "bad_request").as_deref(), Some(field));
    }
    assert_eq!(publish(&server, "sales", json!(vec![event(1.0); 1_000])).await.data(202)["accepted"], 1_000);
    assert_eq!(publish(&server, "no%20topic", json!([event(1.0)])).await.error(400, "bad_request").unwrap(), "topic");
    for (query, field) in [("", "window"), ("?window=1h", "window"), ("?window=1s&range_s=3601", "range_s")] {
        let refused = read(&server, &format!("/v1/topics/sales{query}")).await;
        assert_eq!(refused.error(400, "bad_request").as_deref(), Some(field));
    }
    read(&server, "/v1/topics/sales?window=1s&range_s=3600").await.data(200);
}

#[tokio::test]
async fn late_events_are_counted_apart_and_left_out() {
    let server = Config::new().start().await;
    // What is in time now may be late when it arrives, so these are far from the limits.
    let events = || json!([event_at(now_s() - 10.0), event_at(now_s() + 25.0), event_at(now_s() + 30.0)]);
    assert_eq!(publish(&server, "sales", events()).await.data(202), json!({"accepted": 2, "late": 1}));
    assert_eq!(count(&read(&server, "/v1/topics/sales?window=1s").await.data(200)), 2);
    let patient = Config::new().set("topics.lateness_ms", 60_000).start().await;
    assert_eq!(publish(&patient, "sales", events()).await.data(202), json!({"accepted": 3, "late": 0}));
}

#[tokio::test]
async fn a_topic_has_so_many_series() {
    // There is room for the node's own figures too, whose refusals would be in the same metric.
    const SERIES: u32 = 50;
    let server = Config::new().set("topics.series_max", SERIES).start().await;
    let of = |board: &str| json!({"series": "clicks", "value": 1, "tags": {"board": board}});
    let all: Vec<Value> = (0..SERIES).map(|n| of(&n.to_string())).collect();
    publish(&server, "sales", json!(all)).await.data(202);
    let refused = publish(&server, "sales", json!([of("0"), of("over")])).await;
    assert_eq!(refused.error(409, "conflict").as_deref(), Some("events[1].series"));
    assert_eq!(count(&read(&server, "/v1/topics/sales?window=1m").await.data(200)), u64::from(SERIES));
    publish(&server, "other", json!([of("over")])).await.data(202);
    assert_eq!(server.metric("switchboard_topic_events_total", "no_series").await, 2.0);
    assert!(server.metric("switchboard_topic_events_total", "accepted").await > f64::from(SERIES));
}

#[tokio::test]
async fn who_unwatches_is_told_no_more() {
    let server = Config::new().start().await;
    let (mut stays, mut leaves) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    stays.ask(watch("sales", "1s")).await;
    leaves.ask(watch("sales", "1s")).await;
    let unwatch = json!({"type": "topic_unwatch", "topic": "sales", "window": "1s"});
    leaves.send(&unwatch).await;
    leaves.expect_quiet().await;
    assert_eq!(leaves.ask(unwatch).await["type"], "ok");
    publish(&server, "sales", json!([event(1.0)])).await.data(202);
    stays.expect("topic_update").await;
    leaves.expect_quiet().await;
}

#[tokio::test]
async fn the_gateways_own_figures_are_a_topic_for_operators() {
    let server = Config::new().set("node.id", "n1").start().await;
    let operator = Token::of("op").scope("operator").claim("tenant", "any").sign();
    let mut operator = Connect::to(&server).token(&operator).open().await;
    operator.expect("ready").await;
    operator.ask(watch("$node", "1s")).await;
    // The first figures may be from before the operator came.
    let counted = async {
        loop {
            let update = operator.expect("topic_update").await;
            let series = update["series"].as_array().unwrap();
            let Some(connections) = series.iter().find(|series| series["series"] == "connections") else { continue };
            assert_eq!(connections["tags"], json!({"node": "n1"}));
            if connections["points"].as_array().unwrap().iter().any(|point| point[4] == 1) {
                return;
            }
        }
    };
    soon("a second in which the operator is connected", counted).await;

    // A renewed token counts in every respect: a user who is no longer an operator can no longer watch.
    operator.ask(json!({"type": "auth", "token": Token::of("op").claim("tenant", "any").sign()})).await;
    let ended = operator.until("error").await;
    assert_eq!((&ended["code"], &ended["id"]), (&json!("forbidden"), &Value::Null));
    operator.ask(json!({"type": "ping"})).await;
    operator.expect_quiet().await;
}

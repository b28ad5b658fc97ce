//! The pages in the binary, and development mode's token endpoint.

use serde_json::json;

use crate::support::{Config, Connect};

const OPERATORS: &[(&str, &str)] = &[
    ("/dashboard", "text/html"),
    ("/trace", "text/html"),
    ("/trace?conversation=g:1&seq=1", "text/html"),
    ("/style.css", "text/css"),
    ("/operator.css", "text/css"),
    ("/dashboard.css", "text/css"),
    ("/trace.css", "text/css"),
    ("/favicon.svg", "image/svg+xml"),
    ("/js/dashboard/app.js", "text/javascript"),
    ("/js/dashboard/views/chart.js", "text/javascript"),
    ("/js/trace/app.js", "text/javascript"),
    ("/vendor/uplot/uPlot.iife.min.js", "text/javascript"),
    ("/vendor/uplot/uPlot.min.css", "text/css"),
];

#[tokio::test]
async fn the_pages_are_in_the_binary() {
    let server = Config::development().start().await;
    let http = server.http();
    let chat = [("/", "text/html"), ("/push-worker.js", "text/javascript")];
    for (path, content_type) in [&chat[..], OPERATORS].concat() {
        let page = http.get(path).send().await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-type").unwrap().starts_with(content_type), "{path}");
        assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        let etag = page.header("etag").unwrap().to_owned();
        let known = http.get(path).header("if-none-match", &etag).send().await;
        assert_eq!((known.status, known.body.as_str()), (304, ""), "{path}");
        let other = http.get(path).header("if-none-match", "\"other\"").send().await;
        assert_eq!(other.body, page.body);
    }
    for path in [
        "/js/nothing.js",
        "/js/../Cargo.toml",
        "/index.html",
        "/dashboard.html",
        "/trace.html",
        "/js/",
        "/vendor/README.md",
    ] {
        http.get(path).send().await.error(404, "not_found");
    }
}

#[tokio::test]
async fn with_a_configured_key_there_are_the_operators_pages_but_no_chat() {
    let server = Config::new().start().await;
    let http = server.http();
    for (path, content_type) in OPERATORS {
        let page = http.get(path).send().await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-type").unwrap().starts_with(content_type), "{path}");
    }
    http.get("/").send().await.error(404, "not_found");
}

#[tokio::test]
async fn a_token_may_do_what_is_asked_for_and_no_more() {
    let server = Config::development().start().await;
    let http = server.http();
    let figures = "/v1/topics/$node?window=1s";
    let plain = http.post("/v1/dev/token", &json!({"name": "alice"})).send().await.data(200);
    http.get(figures).token(plain["token"].as_str().unwrap()).send().await.error(403, "forbidden");
    let ask = json!({"name": "alice", "scope": ["operator"]});
    let operator = http.post("/v1/dev/token", &ask).send().await.data(200);
    let data = http.get(figures).token(operator["token"].as_str().unwrap()).send().await.data(200);
    assert_eq!(data["topic"], "$node");
    for scope in [json!("operator"), json!([1])] {
        let refused = http.post("/v1/dev/token", &json!({"name": "alice", "scope": scope})).send().await;
        assert_eq!(refused.error(400, "bad_request").as_deref(), Some("scope"), "{scope}");
    }
}

#[tokio::test]
async fn anyone_gets_a_token_for_a_name() {
    let server = Config::development().start().await;
    let http = server.http();
    let data = http.post("/v1/dev/token", &json!({"name": "alice"})).send().await.data(200);
    assert_eq!(data["user_id"], "alice");
    let token = data["token"].as_str().unwrap();
    let mut client = Connect::to(&server).query("token", token).open().await;
    assert_eq!(client.expect("ready").await["user_id"], "alice");
    for name in [json!("a b"), json!(""), json!("x".repeat(129)), json!(7), json!(null)] {
        let refused = http.post("/v1/dev/token", &json!({"name": name})).send().await;
        assert_eq!(refused.error(400, "bad_request").as_deref(), Some("name"));
    }

    // The key is kept, so the token stays valid.
    let token = token.to_owned();
    let server = server.kill_and_restart().await;
    let mut client = Connect::to(&server).query("token", &token).open().await;
    client.expect("ready").await;
}

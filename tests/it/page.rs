//! Development mode: the demo page and its door.

use serde_json::json;

use crate::support::{Config, Connect};

#[tokio::test]
async fn the_page_is_in_the_binary() {
    let server = Config::development().start().await;
    let http = server.http();
    for (path, content_type) in [("/", "text/html"), ("/style.css", "text/css"), ("/favicon.svg", "image/svg+xml")] {
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
    for path in ["/js/nothing.js", "/js/../Cargo.toml", "/index.html", "/js/"] {
        http.get(path).send().await.error(404, "not_found");
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

    // The key is kept, so the token goes on being valid.
    let token = token.to_owned();
    let server = server.kill_and_restart().await;
    let mut client = Connect::to(&server).query("token", &token).open().await;
    client.expect("ready").await;
}

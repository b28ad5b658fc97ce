//! The byte limits of a node, a tenant and the copies.

use crate::nodes::{Nodes, event, view};
use std::time::Duration;
use switchboard_protocol::ErrorCode;
use switchboard_router::Options;

#[tokio::test(start_paused = true)]
async fn topics_have_so_much_memory_and_give_it_back() {
    let options = Options { topics_memory_bytes: 20_000, topics_tenant_percent: 100, ..Options::default() };
    let nodes = Nodes::start(1, Options { topics_lateness_ms: 0, ..options });
    let full = async {
        for n in 0.. {
            if let Err(error) = nodes.publish(0, "default", &format!("t{n}"), &[1.0]).await {
                return (n, error.code());
            }
        }
        unreachable!("it is never full")
    };
    let (topics, code) = tokio::time::timeout(Duration::from_secs(1_000), full).await.unwrap();
    assert_eq!(code, ErrorCode::Overloaded);
    assert!((4..100).contains(&topics), "{topics} topics in 20 KB, and no time has passed");
    let watcher = nodes.watcher(0, "a").await;
    assert_eq!(watcher.watch("another").await.unwrap_err(), ErrorCode::Overloaded, "nor is there room to wait in");
    watcher.watch("t0").await.unwrap();
    nodes.routers[0].publish_own("$node".parse().unwrap(), vec![event("s", 1.0)]).await.unwrap();
    watcher.unwatch("t0").await;
    nodes.pass(3_700_000).await;
    nodes.publish(0, "default", "t0", &[1.0]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn topics_that_are_only_watched_take_memory_too() {
    let options = Options { topics_memory_bytes: 20_000, topics_tenant_percent: 100, ..Options::default() };
    let nodes = Nodes::start(1, options);
    let mut watchers = Vec::new();
    let refused = loop {
        let watcher = nodes.watcher(0, &format!("u{}", watchers.len())).await;
        let watched = watcher.watch(&format!("t{}", watchers.len())).await;
        watchers.push(watcher);
        if let Err(code) = watched {
            break code;
        }
        assert!(watchers.len() < 100, "it is never full");
    };
    assert_eq!(refused, ErrorCode::Overloaded);
    drop(watchers);
    nodes.pass(1_000).await;
    nodes.watcher(0, "a").await.watch("t").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_its_share_of_the_memory_and_others_have_theirs() {
    let options = Options { topics_memory_bytes: 40_000, topics_tenant_percent: 25, ..Options::default() };
    let nodes = Nodes::start(1, options);
    let mut taken = 0;
    let refused = loop {
        match nodes.publish(0, "greedy", &format!("t{taken}"), &[1.0]).await {
            Ok(_) => taken += 1,
            Err(error) => break error.code(),
        }
    };
    assert_eq!(refused, ErrorCode::Overloaded);
    for topic in 0..taken {
        nodes.publish(0, "modest", &format!("t{topic}"), &[1.0]).await.unwrap();
    }
    assert_eq!(nodes.publish(0, "modest", "more", &[1.0]).await.unwrap_err().code(), ErrorCode::Overloaded);
    assert_eq!(nodes.total("greedy", "t0").await, 1);
}

#[tokio::test(start_paused = true)]
async fn tenants_together_take_no_more_memory_than_there_is() {
    let options = Options { topics_memory_bytes: 40_000, topics_tenant_percent: 75, ..Options::default() };
    let nodes = Nodes::start(1, options);
    let mut taken = [0, 0];
    for (tenant, taken) in ["first", "second"].into_iter().zip(&mut taken) {
        while nodes.publish(0, tenant, &format!("t{taken}"), &[1.0]).await.is_ok() {
            *taken += 1;
        }
    }
    assert!((1..taken[0]).contains(&taken[1]), "the second one gets what the first one leaves: {taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_takes_no_more_memory_than_there_is() {
    let options = Options { topics_memory_bytes: 20_000, topics_tenant_percent: 100, ..Options::default() };
    let nodes = Nodes::start(2, options);
    let owned_by = |node: usize| {
        let nodes = &nodes;
        async move {
            let mut taken = Vec::new();
            for n in 0..200 {
                let topic = format!("t{n}");
                // Only the owner itself accepts it while the others are not asked.
                if nodes.publish(node, "default", &topic, &[1.0]).await.is_ok() {
                    taken.push(topic);
                }
            }
            taken
        }
    };
    let taken = owned_by(0).await;
    nodes.pass(3_000).await;
    for topic in &taken {
        assert_eq!(nodes.total("default", topic).await, 1, "events come before copies");
    }
    nodes.routers[1].shutdown().await;
    nodes.see(&view(2, [0]));
    nodes.pass(1_000).await;
    let last = Nodes { routers: vec![nodes.routers[0].clone()], ..nodes.clone() };
    let mut kept = 0;
    for topic in &taken {
        kept += last.total("default", topic).await;
    }
    assert!(
        (1..taken.len() as u64).contains(&kept),
        "{kept} of {}: full as they were, not all had a copy",
        taken.len()
    );
}

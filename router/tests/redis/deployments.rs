//! Other Redis deployments than a single server: a replicated one with sentinels, and a Redis Cluster.

use crate::{Node, STUCK, options_at};
use std::time::Duration;
use switchboard_router::RedisOptions;
use switchboard_tests::{RedisServer, ReservedPort};

/// Repeats the command until its answer contains this.
async fn until_answered(server: &RedisServer, command: &[&[u8]], part: &str) {
    let asking = async {
        while !server.command(command).is_ok_and(|answer| answer.contains(part)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(STUCK * 4, asking).await.unwrap_or_else(|_| panic!("{part}: {:?}", server.command(command)));
}

/// Two nodes that see each other, and receive each other's packets.
async fn two_nodes(options: &RedisOptions) -> (Node, Node) {
    let mut a = Node::join(options, "a", 1).await.unwrap();
    let mut b = Node::join(options, "b", 1).await.unwrap();
    a.sees(&["a~1", "b~1"]).await;
    b.sees(&["a~1", "b~1"]).await;
    a.says_at_last(&mut b, b"to b").await;
    b.says_at_last(&mut a, b"to a").await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn when_sentinels_have_a_replica_take_over_nodes_follow_and_nobody_is_taken_out() {
    let mut master = RedisServer::start().unwrap();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &master.port().to_string()]).unwrap();
    until_answered(&replica, &[b"INFO", b"replication"], "master_link_status:up").await;
    let sentinel = RedisServer::start_sentinel("gateway", &master).unwrap();
    until_answered(&sentinel, &[b"SENTINEL", b"REPLICAS", b"gateway"], &replica.port().to_string()).await;

    let url = format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=gateway", sentinel.port());
    let (mut a, mut b) = two_nodes(&options_at(url)).await;
    let (seen_by_a, seen_by_b) = (a.views.borrow().number, b.views.borrow().number);
    master.kill().unwrap();
    until_answered(&replica, &[b"INFO", b"replication"], "role:master").await;
    a.says_at_last(&mut b, b"again to b").await;
    b.says_at_last(&mut a, b"again to a").await;
    assert_eq!((a.views.borrow().number, b.views.borrow().number), (seen_by_a, seen_by_b), "the last view stayed");
}

/// Three servers that share the keys. By default the port at which they meet is a server's plus 10,000, which may not
/// exist.
async fn redis_cluster(meet_at: &[ReservedPort; 3]) -> [RedisServer; 3] {
    let servers = [0, 1, 2].map(|n: usize| {
        let port = meet_at[n].number().to_string();
        RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-port", &port]).unwrap()
    });
    let [first, others @ ..] = &servers;
    for other in others {
        let info = other.command(&[b"CLUSTER", b"NODES"]).unwrap();
        // `<id> :<port>@<port for the others> myself,master …`
        let bus_port = info.split(['@', ' ', ',']).nth(2).unwrap();
        let meet: [&[u8]; 5] =
            [b"CLUSTER", b"MEET", b"127.0.0.1", &other.port().to_string().into_bytes(), bus_port.as_bytes()];
        assert_eq!(first.command(&meet).unwrap(), "+OK\r\n");
    }
    for (server, slots) in servers.iter().zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]]) {
        let [from, to] = slots.map(str::as_bytes);
        assert_eq!(server.command(&[b"CLUSTER", b"ADDSLOTSRANGE", from, to]).unwrap(), "+OK\r\n");
    }
    for server in &servers {
        until_answered(server, &[b"CLUSTER", b"INFO"], "cluster_state:ok").await;
        until_answered(server, &[b"CLUSTER", b"INFO"], "cluster_known_nodes:3").await;
    }
    servers
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_a_redis_cluster_see_and_hear_each_other() {
    let meet_at = [0, 1, 2].map(|_| ReservedPort::new().unwrap());
    let servers = redis_cluster(&meet_at).await;
    let [first, second, _] = &servers;
    let url = format!("redis-cluster://127.0.0.1:{}?node=127.0.0.1:{}", first.port(), second.port());
    let (mut a, b) = two_nodes(&options_at(url)).await;
    b.end().await;
    a.sees(&["a~1"]).await;
}

//! A Cassandra's configuration, logging and Java command line.

use super::CassandraOptions;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;
use std::{fs, io};

/// The folder in the cache; `script/bootstrap` names the same version.
pub(super) const VERSION: &str = "cassandra-5.0.5";

/// A server's address. All servers of a cluster have the same ports, on different addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerAddress {
    pub(super) address: Ipv4Addr,
    /// The first contact of the others.
    pub(super) seed: Ipv4Addr,
    pub(super) cql_port: u16,
    pub(super) storage_port: u16,
}

/// Time limits are long, for busy machines. `commitlog_sync: batch` is required wherever acknowledged messages must
/// survive a kill: the default acknowledges before the row is on disk. The cache of prepared statements has room for
/// those of a hundred keyspaces, as each test has its own: with the default of 10 MiB, new statements can be evicted at
/// once.
pub(super) fn write(folder: &Path, place: ServerAddress, options: CassandraOptions) -> io::Result<()> {
    let ServerAddress { address, seed, cql_port, storage_port } = place;
    let (authenticator, authorizer) = match options.passwords {
        true => ("PasswordAuthenticator", "CassandraAuthorizer"),
        false => ("AllowAllAuthenticator", "AllowAllAuthorizer"),
    };
    let data = folder.display();
    let yaml = format!(
        "cluster_name: tests
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: '{seed}:{storage_port}'
listen_address: {address}
rpc_address: {address}
storage_port: {storage_port}
native_transport_port: {cql_port}
endpoint_snitch: SimpleSnitch
authenticator: {authenticator}
authorizer: {authorizer}
auto_snapshot: false
commitlog_sync: batch
read_request_timeout: 60s
range_request_timeout: 60s
write_request_timeout: 60s
cas_contention_timeout: 60s
request_timeout: 60s
native_transport_timeout: 90s
concurrent_writes: 128
concurrent_reads: 32
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
prepared_statements_cache_size: 192MiB
data_file_directories: ['{data}/data']
commitlog_directory: '{data}/commitlog'
saved_caches_directory: '{data}/saved_caches'
hints_directory: '{data}/hints'
cdc_raw_directory: '{data}/cdc_raw'
"
    );
    fs::write(folder.join("cassandra.yaml"), yaml)?;
    fs::write(folder.join("logback.xml"), LOGBACK)
}

const LOGBACK: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"#;

pub(super) fn java_arguments(
    folder: &Path,
    jars: &Path,
    place: ServerAddress,
    options: CassandraOptions,
) -> Vec<OsString> {
    let folder = folder.display();
    let opened = |flag: &str, all: &str| {
        all.split_whitespace().map(|package| format!("{flag}={package}=ALL-UNNAMED")).collect::<Vec<_>>()
    };
    let mut arguments: Vec<String> = MEMORY.iter().map(|flag| (*flag).to_owned()).collect();
    arguments.extend(opened("--add-exports", EXPORTED));
    arguments.extend(opened("--add-opens", OPENED));
    arguments.extend(START_QUICKLY.iter().map(|flag| (*flag).to_owned()));
    let joining = if place.address == place.seed { START_ALONE } else { JOIN };
    arguments.extend(joining.iter().map(|flag| (*flag).to_owned()));
    arguments.extend([
        format!("-Dcassandra.config=file://{folder}/cassandra.yaml"),
        format!("-Dlogback.configurationFile=file://{folder}/logback.xml"),
        format!("-Dcassandra.storagedir={folder}"),
        // Its native libraries are unpacked there, and stay.
        format!("-Djava.io.tmpdir={folder}"),
        format!("-Dcassandra.test.flush_local_schema_changes={}", !options.schema_in_memory),
    ]);
    let mut arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
    arguments.extend(["-cp".into(), jars.join("*").into(), "org.apache.cassandra.service.CassandraDaemon".into()]);
    arguments
}

const MEMORY: [&str; 2] = ["-Xms256m", "-Xmx1g"];

const START_QUICKLY: [&str; 6] = [
    "-Djdk.attach.allowAttachSelf=true",
    "-Dcassandra-foreground=yes",
    "-Dcassandra.jmx.local.port=0",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.superuser_setup_delay_ms=-1",
    "-XX:+UseSerialGC",
];

/// There is nobody to wait for.
const START_ALONE: &[&str] = &["-Dcassandra.ring_delay_ms=0"];

/// The seed has to be reached first.
const JOIN: &[&str] = &["-Dcassandra.ring_delay_ms=4000", "-Dcassandra.consistent.rangemovement=false"];

/// From Cassandra's own `jvm17-server.options`.
const EXPORTED: &str = "java.base/jdk.internal.misc java.management.rmi/com.sun.jmx.remote.internal.rmi
    java.rmi/sun.rmi.registry java.rmi/sun.rmi.server java.rmi/sun.rmi.transport.tcp java.sql/java.sql
    jdk.unsupported/sun.misc";
const OPENED: &str = "java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref
    java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module
    java.base/jdk.internal.util.jar java.base/sun.nio.ch java.base/java.io java.base/java.nio java.base/java.util
    java.base/java.lang java.base/java.util.concurrent java.base/java.util.concurrent.atomic
    jdk.management/com.sun.management.internal java.rmi/sun.rmi.transport.tcp";

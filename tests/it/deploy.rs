//! The files in `deploy/` are read by the parsers of their consumers: Compose's and Kubernetes' own types, and
//! `switchboard check-config` for the server's settings.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use compose_spec::{Compose, ListOrMap, Service};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service as KubernetesService};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_yaml::Value;

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

/// The documents of a YAML file.
fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("the file is there");
    let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
    documents.map(|document| document.unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

/// A Kubernetes object as its type, which must know all its fields.
fn object<T: DeserializeOwned + Serialize>(document: &Value) -> T {
    let object: T = serde_yaml::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}: {document:?}"));
    let known = serde_yaml::to_value(&object).expect("it was read");
    assert_known(document, &known, "");
    object
}

/// Everything that is written was understood.
fn assert_known(written: &Value, known: &Value, place: &str) {
    match (written, known) {
        (Value::Mapping(written), Value::Mapping(known)) => {
            for (key, value) in written {
                let place = format!("{place}.{}", key.as_str().expect("keys are text"));
                match known.get(key) {
                    Some(known) => assert_known(value, known, &place),
                    // An empty mapping may be left out.
                    None => assert_eq!(value, &Value::Mapping(serde_yaml::Mapping::new()), "{place} is not known"),
                }
            }
        }
        (Value::Sequence(written), Value::Sequence(known)) => {
            for (n, (value, known)) in written.iter().zip(known).enumerate() {
                assert_known(value, known, &format!("{place}[{n}]"));
            }
        }
        _ => {}
    }
}

/// All objects of `deploy/kubernetes`.
#[derive(Default)]
struct Objects {
    stateful_sets: Vec<StatefulSet>,
    services: Vec<KubernetesService>,
    config_maps: Vec<ConfigMap>,
    budgets: Vec<PodDisruptionBudget>,
}

fn objects() -> Objects {
    let mut objects = Objects::default();
    for entry in fs::read_dir(deploy("kubernetes")).expect("the folder is there") {
        for document in documents(&entry.expect("is read").path()) {
            match document["kind"].as_str() {
                Some("StatefulSet") => objects.stateful_sets.push(object(&document)),
                Some("Service") => objects.services.push(object(&document)),
                Some("ConfigMap") => objects.config_maps.push(object(&document)),
                Some("PodDisruptionBudget") => objects.budgets.push(object(&document)),
                kind => panic!("{kind:?} is no kind that this test knows"),
            }
        }
    }
    objects
}

/// The output of `switchboard check-config` with this file and environment.
fn effective(file: Option<&str>, environment: &BTreeMap<String, String>) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(std::env::var("SWITCHBOARD_BIN").unwrap());
    command.arg("check-config").envs(environment).current_dir(&folder);
    if let Some(text) = file {
        let path = folder.path().join("switchboard.toml");
        fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("is written");
        command.arg("--config").arg(path);
    }
    let output = command.output().expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn environment(service: &Service) -> BTreeMap<String, String> {
    let ListOrMap::Map(map) = &service.environment else { panic!("the environment is a map") };
    let text = |value: &Option<compose_spec::Value>| value.as_ref().map_or_else(String::new, ToString::to_string);
    map.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

#[test]
fn compose_has_three_nodes_whose_configuration_holds() {
    let mut document = documents(&deploy("compose.yaml")).remove(0);
    document.apply_merge().expect("anchors are merged");
    let compose: Compose = serde_yaml::from_value(document).expect("is a compose file");
    compose.validate_all().expect("all that it names is in it");
    let nodes: Vec<_> = compose.services.iter().filter(|(_, service)| service.build.is_some()).collect();
    assert_eq!(nodes.len(), 3);
    for (name, node) in nodes {
        let effective = effective(None, &environment(node));
        for line in [format!("id = \"{name}\""), "kind = \"redis\"".to_owned(), "kind = \"scylla\"".to_owned()] {
            assert!(effective.contains(&line), "{line} in\n{effective}");
        }
    }
}

#[test]
fn kubernetes_objects_fit_together() {
    let objects = objects();
    let name = |metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| metadata.name.clone().unwrap();
    let services: Vec<_> = objects.services.iter().map(|service| name(&service.metadata)).collect();
    for set in &objects.stateful_sets {
        let spec = set.spec.as_ref().expect("a spec");
        assert!(services.contains(spec.service_name.as_ref().expect("a service")), "{}", name(&set.metadata));
        let labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
        assert_eq!(spec.selector.match_labels.as_ref(), labels, "{}", name(&set.metadata));
    }
    for budget in &objects.budgets {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()).expect("a selector");
        let of = |set: &StatefulSet| set.spec.as_ref().is_some_and(|spec| &spec.selector == selector);
        assert!(objects.stateful_sets.iter().any(of), "{}", name(&budget.metadata));
    }
}

#[test]
fn a_pod_has_more_time_to_end_than_the_drain_takes_and_its_configuration_holds() {
    let objects = objects();
    let [config] = &objects.config_maps[..] else { panic!("one map") };
    let text = &config.data.as_ref().expect("data")["switchboard.toml"];
    // The secret is mounted there; here it is given directly.
    let (path, given) = ("hs256_secret_file = \"/etc/switchboard/secret/hs256_secret\"", "");
    assert!(text.contains(path));
    let secret = ("SWITCHBOARD__AUTH__HS256_SECRET".to_owned(), "s".repeat(32));
    let effective = effective(Some(&text.replace(path, given)), &BTreeMap::from([secret]));
    let timeout = effective.lines().find_map(|line| line.strip_prefix("timeout_ms = ")).expect("drain.timeout_ms");
    let timeout_ms: i64 = timeout.replace('_', "").parse().expect("a number");
    let sets = objects.stateful_sets.iter().filter_map(|set| set.spec.as_ref());
    let pod = sets.filter_map(|set| set.template.spec.as_ref()).find(|pod| pod.containers[0].name == "switchboard");
    let grace_s = pod.and_then(|pod| pod.termination_grace_period_seconds).expect("a grace period");
    assert!(grace_s * 1_000 > timeout_ms, "{grace_s} s against {timeout_ms} ms");
}

//! The rules of the workspace that the compiler does not enforce.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The allowed dependencies of each package: they point one way (ARCHITECTURE.md, "Code map").
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("switchboard-clock", &[]),
    ("switchboard-config", &[]),
    ("switchboard-protocol", &[]),
    ("switchboard-presence", &["clock", "protocol"]),
    ("switchboard-topics", &["protocol"]),
    ("switchboard-push", &["protocol", "store"]),
    ("switchboard-push-providers", &["clock", "protocol", "push", "store"]),
    ("switchboard-store", &["clock", "config", "protocol"]),
    ("switchboard-router", &["clock", "config", "presence", "push", "protocol", "store", "topics"]),
    ("switchboard", &["clock", "config", "protocol", "push", "push-providers", "router", "store"]),
    ("switchboard-loadtest", &["clock", "protocol", "store"]),
    ("switchboard-tests", &[]),
];

/// Crates that only some packages may depend on.
const KNOWN_ONLY_TO: &[(&str, &[&str])] = &[
    ("fastrand", &["switchboard-clock", "switchboard-loadtest"]),
    ("fjall", &["switchboard-store"]),
    ("fred", &["switchboard-router"]),
    ("scylla", &["switchboard-store", "switchboard-loadtest"]),
    ("hyper", &["switchboard", "switchboard-push-providers", "switchboard-loadtest", "switchboard-tests"]),
    ("tungstenite", &["switchboard", "switchboard-loadtest", "switchboard-tests"]),
    ("tokio-tungstenite", &["switchboard-loadtest", "switchboard-tests"]),
    ("tokio-rustls", &["switchboard", "switchboard-push-providers", "switchboard-loadtest", "switchboard-tests"]),
    ("jsonwebtoken", &["switchboard"]),
];

/// Each package's dependencies, without those of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let of = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let normal = dependencies.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
    };
    packages.iter().map(|package| (package["name"].as_str().unwrap().to_owned(), of(package))).collect()
}

#[test]
fn dependencies_point_one_way() {
    let packages = dependencies();
    assert_eq!(packages.len(), MAY_DEPEND_ON.len(), "a package that has no rule: {:?}", packages.keys());
    for (package, allowed) in MAY_DEPEND_ON {
        let own = packages[*package].iter().filter_map(|name| name.strip_prefix("switchboard-"));
        for dependency in own {
            assert!(allowed.contains(&dependency), "{package} must not depend on {dependency}");
        }
    }
}

#[test]
fn only_one_package_knows_the_web_and_only_one_the_database() {
    for (package, dependencies) in dependencies() {
        for (dependency, known_to) in KNOWN_ONLY_TO {
            let knows = dependencies.contains(*dependency);
            assert!(!knows || known_to.contains(&package.as_str()), "{package} must not know {dependency}");
        }
    }
}

/// The simulated code: its time and randomness come only from `switchboard_clock`.
const SIMULATED: &[&str] = &[
    "presence/src",
    "push/src",
    "router/src",
    "store/src/kv",
    "store/src/quorum",
    "store/src/quorum.rs",
    "topics/src",
];

/// Other sources of time and randomness.
const NOT_INJECTED: &[&str] =
    &["tokio::time", "time::Instant", "SystemTime", "thread::sleep", "fastrand", "SystemRandom"];

#[test]
fn what_the_simulation_runs_takes_time_and_randomness_from_the_clock_crate() {
    for path in SIMULATED {
        let mut files = Vec::new();
        let path = root().join(path);
        match path.is_dir() {
            true => sources(&path, &mut files),
            false => files.push(path),
        }
        assert!(!files.is_empty());
        for file in files {
            let source = fs::read_to_string(&file).unwrap();
            for name in NOT_INJECTED {
                assert!(!source.contains(name), "{}: {name} is not injected", file.display());
            }
        }
    }
}

/// Each `file.rs::function` in a document.
fn references(text: &str) -> Vec<(String, String)> {
    let mut references = Vec::new();
    for quoted in text.split('`').skip(1).step_by(2) {
        if let Some((file, item)) = quoted.split_once("::")
            && file.ends_with(".rs")
        {
            references.push((file.to_owned(), item.to_owned()));
        }
    }
    references
}

/// Whether a file defines an item, which may be `Type::function`.
fn defines(source: &str, item: &str) -> bool {
    let name = item.rsplit("::").next().unwrap_or(item);
    let is_name_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    ["fn ", "struct ", "enum ", "trait ", "const ", "static ", "type "]
        .iter()
        .any(|keyword| source.split(&format!("{keyword}{name}")).skip(1).any(is_name_end))
}

#[test]
fn what_documents_refer_to_exists() {
    for document in ["ARCHITECTURE.md", "docs/verify.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
        let references = references(&text);
        assert!(references.len() >= 10, "{document}: only {} references found", references.len());
        for (file, item) in references {
            let source = fs::read_to_string(root().join(&file));
            let source = source.unwrap_or_else(|error| panic!("{document}: {file} (for {item}): {error}"));
            assert!(defines(&source, &item), "{document}: {file} has no {item}");
        }
    }
}

/// The documents that comments cite: the prefix of a citation, and the form of the cited heading in the document.
const CITED: &[(&str, &str, Heading)] = &[
    ("DESIGN §", "docs/design.md", section),
    ("PROTOCOL §", "docs/protocol.md", section),
    ("OPERATING, \"", "docs/operations.md", |lead| format!("- **{lead}.**")),
];

/// The form of a heading in a document, for what is cited.
type Heading = fn(&str) -> String;

/// The section's heading, for `5.2`.
fn section(number: &str) -> String {
    format!("\n## {}. ", number.split('.').next().unwrap_or(number))
}

/// What follows `prefix` in a text, up to the first character that can't belong to it.
fn citations<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let is_end = if prefix.ends_with('"') { |c: char| c == '"' } else { |c: char| !c.is_ascii_digit() && c != '.' };
    text.split(prefix).skip(1).map(move |rest| rest.split(is_end).next().unwrap_or(rest).trim_end_matches('.'))
}

/// Our own source files in a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules", "vendor", "data"].contains(&name.as_ref()) {
                sources(&path, found);
            }
        } else if ["rs", "js", "mjs", "md"].iter().any(|kind| path.extension().is_some_and(|end| end == *kind)) {
            found.push(path);
        }
    }
}

#[test]
fn what_comments_cite_exists() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    for (prefix, document, stands_as) in CITED {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let mut count = 0;
        for file in &files {
            let source = fs::read_to_string(file).unwrap();
            for cited in citations(&source, prefix).filter(|cited| !cited.is_empty()) {
                assert!(text.contains(&stands_as(cited)), "{}: {document} has no {cited}", file.display());
                count += 1;
            }
        }
        assert!(count >= 10, "only {count} citations of {document} found");
    }
}

#[test]
fn a_reference_to_what_is_not_there_is_noticed() {
    let found = references("as `router/src/a.rs::send` does, `b.rs` and `c::d`, then `x.rs::A::go`");
    let expected = [("router/src/a.rs", "send"), ("x.rs", "A::go")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(found, expected);
    assert!(defines("impl A {\n    pub fn go(&self) {}", "A::go"));
    assert!(!defines("fn going() {} // fn go", "x::y"));
    assert!(!defines("fn going() {}", "go"));
    assert_eq!(citations("(PROTOCOL §3). And PROTOCOL §8,", "PROTOCOL §").collect::<Vec<_>>(), ["3", "8"]);
    assert_eq!(citations("DESIGN §5.10: it", "DESIGN §").map(section).collect::<Vec<_>>(), ["\n## 5. "]);
    assert_eq!(citations("(OPERATING, \"Exit codes\")", "OPERATING, \"").collect::<Vec<_>>(), ["Exit codes"]);
}

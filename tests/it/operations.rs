//! docs/operations.md tells operators to watch only metrics that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of all Rust files of a package.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// What follows each `before` in the text, up to the first character that can't be in a metric's name.
fn names_after<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    let end = |rest: &str| rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
    text.split(before).skip(1).map(|rest| &rest[..end(rest)]).filter(|name| !name.is_empty()).collect()
}

#[test]
fn each_metric_is_in_the_table_of_what_to_watch_and_no_other() {
    let mut code = String::new();
    for package in ["gateway/src", "router/src", "store/src"] {
        sources(&root().join(package), &mut code);
    }
    let metrics = names_after(&code, "\"switchboard_");
    // A histogram's count is looked up under that name.
    let is_count = |name: &str| name.strip_suffix("_count").is_some_and(|of| metrics.contains(of));
    let metrics: BTreeSet<&str> = metrics.iter().copied().filter(|name| !is_count(name)).collect();
    assert!(metrics.len() > 20, "{metrics:?}");
    let guide = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let table = guide.split("\n## ").find(|section| section.starts_with("What to watch")).unwrap();
    let firsts = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let told = format!("`{}", firsts.collect::<Vec<_>>().join(" `"));
    let told = names_after(&told, "`");
    let unknown: Vec<_> = told.difference(&metrics).collect();
    let untold: Vec<_> = metrics.difference(&told).collect();
    assert!(unknown.is_empty() && untold.is_empty(), "no metric: {unknown:?}; not in docs/operations.md: {untold:?}");
}

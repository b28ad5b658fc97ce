//! Puts the pages (`web/`) into the binary: writes the list of its files, with their types and entity tags, for
//! `src/http/page.rs`.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What is put in: the rest of the folder is not served.
const WEB: &[&str] = &[
    "index.html",
    "dashboard.html",
    "trace.html",
    "style.css",
    "operator.css",
    "dashboard.css",
    "trace.css",
    "favicon.svg",
    "push-worker.js",
    "js",
    "vendor",
];

fn main() -> io::Result<()> {
    // Cargo runs it in the package's folder.
    let web = Path::new("../web").canonicalize()?;
    println!("cargo::rerun-if-changed={}", web.display());
    let mut paths = Vec::new();
    for name in WEB {
        collect(&web.join(name), &mut paths)?;
    }
    paths.sort();
    let mut list = String::from("static FILES: &[File] = &[\n");
    for path in paths {
        entry(&web, &path, &mut list)?;
    }
    list.push_str("];\n");
    fs::write(Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("page_files.rs"), list)
}

/// All files at `path` or below it; none if there is nothing.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.is_file() && content_type(path).is_some() {
        files.push(path.to_owned());
    }
    Ok(())
}

fn content_type(path: &Path) -> Option<&'static str> {
    Some(match path.extension()?.to_str()? {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

fn entry(web: &Path, path: &Path, list: &mut String) -> io::Result<()> {
    let mut hasher = DefaultHasher::new();
    fs::read(path)?.hash(&mut hasher);
    let etag = format!("\"{:016x}\"", hasher.finish());
    let below = path.strip_prefix(web).map_err(io::Error::other)?.to_string_lossy().into_owned();
    let url = match below.as_str() {
        "index.html" => "/".to_owned(),
        page => format!("/{}", page.strip_suffix(".html").unwrap_or(page)),
    };
    let content_type = content_type(path).unwrap_or_default();
    writeln!(
        list,
        "    File {{ path: {url:?}, content_type: {content_type:?}, etag: {etag:?}, body: include_bytes!({path:?}) }},"
    )
    .map_err(io::Error::other)
}

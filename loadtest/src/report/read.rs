//! Reads reports written with `--json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{FORMAT, Report};

/// Distinguishes a report from other JSON, and this version from others.
#[derive(Deserialize)]
struct Head {
    format: u32,
    #[serde(rename = "scenario")]
    _scenario: String,
}

/// # Errors
/// The file can't be read, is not a report, or has another version; the error names it.
pub(crate) fn read(path: &Path) -> Result<Report> {
    let name = path.display();
    let json = fs::read(path).with_context(|| format!("can't read {name}"))?;
    let head: Head = serde_json::from_slice(&json).with_context(|| format!("{name}: not the report of a run"))?;
    if head.format != FORMAT {
        bail!("{name}: format version {}, but this program reads version {FORMAT}", head.format);
    }
    serde_json::from_slice(&json).with_context(|| format!("{name}: not a complete report"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        let file = tempfile::NamedTempFile::with_prefix("before").unwrap();
        fs::write(file.path(), json).unwrap();
        let error = format!("{:#}", read(file.path()).unwrap_err());
        assert!(error.contains(&file.path().display().to_string()), "{error}");
        error
    }

    #[test]
    fn what_is_no_report_is_told_apart_from_one_of_another_version() {
        for json in ["", "no JSON", "[]", "{}", r#"{"format": "1"}"#, r#"{"format": 1}"#] {
            assert!(error(json).contains("not the report of a run"), "{json}");
        }
        assert!(error(r#"{"format": 2, "scenario": "direct", "new": true}"#).contains("format version 2"));
        assert!(error(r#"{"format": 1, "scenario": "direct"}"#).contains("missing field"));
        let missing = format!("{:#}", read(Path::new("/does/not/exist.json")).unwrap_err());
        assert!(missing.contains("can't read /does/not/exist.json"), "{missing}");
    }
}

//! `docs/configuration.md` matches the declaration.

use std::path::Path;

#[test]
fn the_reference_is_generated() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let generated = switchboard_config::reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "docs/configuration.md is not what the keys say; UPDATE_DOCS=1 cargo test -p switchboard-config reference writes it anew"
    );
}

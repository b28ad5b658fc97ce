//! Finds the known key that somebody may have meant.

/// The candidate most similar to `unknown`. Also matches the last part of a candidate, so that `listen` finds
/// `node.listen`.
///
/// Returns `unknown` itself if there are no candidates.
pub(crate) fn nearest<'a>(unknown: &'a str, candidates: impl IntoIterator<Item = &'a str>) -> &'a str {
    candidates.into_iter().min_by_key(|candidate| distance(unknown, candidate)).unwrap_or(unknown)
}

fn distance(unknown: &str, candidate: &str) -> usize {
    let whole = strsim::osa_distance(unknown, candidate);
    let last_parts = strsim::osa_distance(last_part(unknown), last_part(candidate)) + 1;
    whole.min(last_parts)
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

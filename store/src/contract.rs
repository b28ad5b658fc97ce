//! The test suite that every backend has to pass: each function checks one promise of the traits, and panics if it is
//! broken.
//!
//! [`contract_tests!`](crate::contract_tests) generates a backend's tests. The expectations are written independently
//! of how the backends work.

mod fixture;
pub mod inbox;
pub mod members;
pub mod model;
pub mod push;
pub mod reading;
pub mod restart;
pub mod states;
pub mod tenants;
pub mod terms;
pub mod users;

pub use fixture::{Conversation, conversation_key, incarnation, user, user_key};

use crate::Store;
use async_trait::async_trait;
use std::sync::Arc;

/// A backend under test. Each test has its own.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Opens the store: an empty one at first, the same one again after it was closed.
    async fn open(&self) -> Arc<dyn Store>;

    /// Whether a closed store keeps its data.
    fn outlives_close(&self) -> bool;
}

/// Generates one test for each function of the suite. `$backend` is an expression that creates a new [`Backend`].
#[macro_export]
macro_rules! contract_tests {
    ($backend:expr) => {
        $crate::contract_tests! { $backend;
            terms: a_new_term_supersedes_the_old, an_append_is_repeated_without_harm, holes_are_refused,
                an_ended_term_takes_no_more, begin_is_none_without_a_conversation, create_leaves_what_exists,
                active_notes_follow_the_terms, the_end_is_the_same_for_all_readers, recent_sends_within_the_window,
                removed_members_within_the_window, competing_owners_make_one_log, appends_of_many_conversations_at_once;
            reading: entries_come_back_as_they_went_in, entries_are_limited, history_has_only_messages,
                history_in_both_directions, messages_far_apart_are_found, reads_end_where_they_are_told_and_history_says_where, limits_in_bytes_let_one_through;
            states: edits_and_deletions, reactions, previews_follow_edits, title_and_custom;
            members: a_direct_conversation_has_two, members_come_and_go, cursors_only_grow, entries_move_cursors,
                mentions_stay_with_a_membership, members_are_listed;
            inbox: changes_merge_by_their_own_order, nothing_changed_nothing_raised, pages_by_version,
                those_to_be_asked_are_listed, paging_under_change_misses_nothing;
            users: blocks_are_seen_from_both_sides, revocation_and_last_seen_only_grow, a_name_is_the_one_put_last;
            push: devices_come_and_go, preferences_are_kept, jobs_are_taken_when_they_are_due_by_priority_and_time,
                a_dead_workers_jobs_go_on, two_homes_make_one_notification, two_workers_share_what_is_due,
                what_changes_under_a_worker_waits_for_it,
                what_was_delivered_is_not_sent_and_what_was_read_is_taken_back,
                failures_end_as_dead_letters_that_can_be_retried, of_too_many_dead_letters_the_oldest_are_forgotten,
                what_is_outstanding_is_known_to_the_next_home, the_queue_outlives_a_restart,
                nothing_is_lost_or_given_to_two;
            tenants: ids_that_join_to_the_same_text_stay_apart;
            restart: everything_outlives_a_restart, a_closed_store_is_unavailable;
            model: the_projections_are_the_fold_of_the_log, the_inbox_is_what_was_put_into_it;
        }
    };
    ($backend:expr; $($module:ident: $($test:ident),+;)+) => {
        $(mod $module {
            use super::*;
            $(#[tokio::test]
            async fn $test() {
                $crate::contract::$module::$test(&$backend).await;
            })+
        })+
    };
}

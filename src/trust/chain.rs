//! One walk through a TUF repository: from a pinned root to `trusted_root.json`.
//!
//! `sigstore-tuf` walks and verifies: signatures and thresholds, versions, expiries, lengths and
//! hashes. What it leaves open is asked here.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use sigstore_tuf::Error;
use sigstore_tuf::Metadata;
use sigstore_tuf::Repository;
use sigstore_tuf::Root;
use sigstore_tuf::TrustedMetadataSet;
use sigstore_tuf::Updater;
use sigstore_tuf::UpdaterConfig;
use sigstore_tuf::metadata::Role;

use crate::trust::shelf::Documents;
use crate::trust::shelf::Shelf;

/// The target that every Sigstore repository has.
const TARGET: &str = "trusted_root.json";
/// The largest `trusted_root.json`; real ones have up to 32 KiB.
const TARGET_BYTES_MAX: u64 = 1 << 20;
/// The largest snapshot or targets document; real ones have some KiB.
const METADATA_BYTES_MAX: u64 = 1 << 20;
/// How many roles are visited to find the target.
const DELEGATIONS_MAX: u32 = 8;

/// Why a walk came to no good end.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The mirror does not answer, or lacks a document: nothing is known about what is true now.
    #[error("{0}")]
    Unreachable(String),
    /// What it sent is refused: too old, expired, unsigned, oversized, or not fitting together.
    #[error("refused: {0}")]
    Refused(String),
}

/// What a walk found.
#[derive(Debug)]
pub(super) struct Walked {
    /// The text of `trusted_root.json`.
    pub(super) json: String,
    /// When the first of the documents that vouch for it expires.
    pub(super) expires_at: Timestamp,
}

/// Whether `bytes` can be pinned: a TUF root that its own keys sign to their threshold.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check_root(bytes: &[u8]) -> Result<(), String> {
    let trusted = TrustedMetadataSet::from_root(bytes).map_err(|error| told(&error))?;
    sound(trusted.root())
}

/// When the root in `bytes` expires by its own words; `None` when it is none.
pub(super) fn root_expires_at(bytes: &[u8]) -> Option<Timestamp> {
    let root = Metadata::<Root>::from_slice(bytes).ok()?;
    Some(root.signed().expires())
}

/// Walks from `pinned` through `repository`. What is on the shelf says which versions are too
/// old, and whatever verifies is put there, also when the walk breaks off later.
pub(super) async fn walk(
    pinned: &[u8],
    repository: impl Repository + 'static,
    shelf: &Shelf,
    now: Timestamp,
) -> Result<Walked, WalkError> {
    let mut config = UpdaterConfig::default();
    config.snapshot_max_length = METADATA_BYTES_MAX;
    config.targets_max_length = METADATA_BYTES_MAX;
    config.target_max_length = TARGET_BYTES_MAX;
    config.max_delegations = DELEGATIONS_MAX;
    let mut updater = Updater::new(repository, pinned)
        .map_err(|error| classed(&error))?
        .with_config(config)
        .with_store(shelf.clone());
    updater
        .refresh(now)
        .await
        .map_err(|error| classed(&error))?;
    sound(updater.trusted().root()).map_err(WalkError::Refused)?;
    let target = updater.get_target(TARGET, now).await;
    let bytes = target.map_err(|error| classed(&error))?;
    let json = String::from_utf8(bytes)
        .map_err(|_| WalkError::Refused(format!("{TARGET} is not UTF-8")))?;
    let trusted = updater.trusted();
    let times = [
        Some(trusted.root().expires()),
        trusted.timestamp().map(Role::expires),
        trusted.snapshot().map(Role::expires),
        trusted.targets_role("targets").map(Role::expires),
    ];
    let expires_at = times.into_iter().flatten().min();
    Ok(Walked {
        json,
        expires_at: expires_at.unwrap_or(now),
    })
}

/// Walks through documents that came to a good end before, at a time at which none of them had
/// expired. Whether what they say may still be used is for whoever asks.
pub(super) fn walk_again(
    pinned: &[u8],
    documents: &Documents,
    now: Timestamp,
) -> Result<Walked, WalkError> {
    // Not verified yet; a lie here only makes the walk fail. Roots that were replaced may have
    // expired long ago, and nobody minds.
    let current = documents.iter();
    let current = current.filter(|(name, _)| !name.starts_with("root_history/"));
    let at = current
        .filter_map(|(_, text)| {
            let document: serde_json::Value = serde_json::from_str(text).ok()?;
            document["signed"]["expires"].as_str()?.parse().ok()
        })
        .fold(now, Timestamp::min);
    let shelf = Shelf::of(documents.clone());
    let walked = walk(pinned, shelf.clone(), &shelf, at).now_or_never();
    walked.unwrap_or_else(|| {
        Err(WalkError::Unreachable(
            "the shelf does not answer".to_owned(),
        ))
    })
}

/// The versions of the documents that verify, whether or not they have expired: of the root, and below
/// it of the timestamp, the snapshot and the targets, 0 for one that does not. The first that
/// differs says which documents are newer: under another root, versions may begin anew.
pub(super) fn versions(pinned: &[u8], documents: &Documents) -> [u64; 4] {
    let Ok(mut trusted) = TrustedMetadataSet::from_root(pinned) else {
        return [0; 4];
    };
    let text = |name: &str| {
        documents
            .get(name)
            .map(String::as_bytes)
            .unwrap_or_default()
    };
    loop {
        let next = trusted.root().version.saturating_add(1);
        let root = text(&format!("root_history/{next}.root.json"));
        if trusted.update_root(root).is_err() {
            break;
        }
    }
    // Then nothing had expired. Each is refused where the one before it was.
    let at = Timestamp::MIN;
    let _ = trusted.update_timestamp(text("timestamp.json"), at);
    let _ = trusted.update_snapshot(text("snapshot.json"), at);
    let _ = trusted.update_targets(text("targets.json"), at);
    [
        trusted.root().version,
        trusted.timestamp().map_or(0, Role::version),
        trusted.snapshot().map_or(0, Role::version),
        trusted.targets_role("targets").map_or(0, Role::version),
    ]
}

/// What `sigstore-tuf` does not ask: it counts the names of keys towards a threshold, and one key
/// under two names would count twice.
fn sound(root: &Root) -> Result<(), String> {
    for (role, keys) in &root.roles {
        let names: BTreeSet<&String> = keys.keyids.iter().collect();
        let named = names.iter().filter_map(|name| root.keys.get(*name));
        let publics: Vec<&str> = named.map(|key| key.keyval.public.trim()).collect();
        let distinct: BTreeSet<&str> = publics.iter().copied().collect();
        if distinct.len() < publics.len() {
            return Err(format!("its role {role} has one key under two names"));
        }
    }
    Ok(())
}

fn classed(error: &Error) -> WalkError {
    match error {
        Error::Transport { .. } | Error::Io { .. } => WalkError::Unreachable(told(error)),
        _ => WalkError::Refused(told(error)),
    }
}

/// An error with its causes, on one line of bounded length: part of it may be a stranger's text.
fn told(error: &Error) -> String {
    const CHARACTERS_MAX: usize = 400;
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let shown = text.chars().take(CHARACTERS_MAX);
    shown
        .map(|character| match character.is_control() {
            true => char::REPLACEMENT_CHARACTER,
            false => character,
        })
        .collect()
}

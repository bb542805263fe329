//! The trust roots: `trust_roots` and `default_trust_root` lowered.

use std::cell::RefCell;

use crate::config::Checks;
use crate::config::RootSource;
use crate::config::SigstoreInstance;
use crate::config::TrustRootSource;
use crate::config::TufSource;
use crate::config::logs;
use crate::config::problem::listed;
use crate::config::problem::quoted;
use crate::config::reader::Fields;
use crate::config::reader::Value;
use crate::config::schema;
use crate::config::suggest::nearest;
use crate::config::upstreams;
use crate::verify::Demands;
use crate::verify::RootName;

/// The trust root that is there without being written.
pub(super) const PUBLIC: &str = "public";

/// The names of all trust roots, those with problems included, and which is the default.
#[derive(Debug)]
pub(super) struct RootNames {
    names: Vec<RootName>,
    default: RootName,
    /// Those that are GitHub's own instance.
    github: Vec<RootName>,
    /// Those that policies give themselves, and that have no name.
    added: RefCell<Vec<TrustRootSource>>,
}

impl RootNames {
    /// The root of a signer that names none.
    pub(super) fn default_root(&self) -> RootName {
        self.default.clone()
    }

    /// What a keyless signature under this root has to have, where its signer says no more.
    pub(super) fn demands(&self, root: &RootName) -> Demands {
        match self.github.contains(root) {
            true => Demands::TIMESTAMPED,
            false => Demands::default(),
        }
    }

    /// Adds one that policies give themselves, once.
    pub(super) fn add(&self, root: TrustRootSource) {
        let mut added = self.added.borrow_mut();
        if added.iter().all(|known| known.name != root.name) {
            added.push(root);
        }
    }

    /// Those that policies gave.
    pub(super) fn take_added(&self) -> Vec<TrustRootSource> {
        self.added.take()
    }

    /// The root that `value` names.
    pub(super) fn find(&self, value: &Value<'_>) -> Option<RootName> {
        let text = value.text()?;
        let found = self.names.iter().find(|name| name.as_str() == text);
        if found.is_none() {
            let names = || self.names.iter().map(RootName::as_str);
            let mend = match nearest(text, names()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!(
                    "name one that stands under `trust_roots` in the configuration: {}",
                    listed(names(), "or")
                ),
            };
            value.error(&format!("there is no trust root {}", quoted(text)), &mend);
        }
        found.cloned()
    }
}

/// Lowers `trust_roots` and `default_trust_root`.
pub(super) fn lower(
    roots: Option<&Value<'_>>,
    default: Option<&Value<'_>>,
    checks: &Checks,
) -> (Vec<TrustRootSource>, RootNames) {
    let entries = roots.and_then(Value::entries).unwrap_or_default();
    let mut names = RootNames {
        names: entries
            .iter()
            .map(|(name, _)| RootName::from(*name))
            .collect(),
        default: RootName::from(PUBLIC),
        github: Vec::new(),
        added: RefCell::default(),
    };
    let mut sources: Vec<TrustRootSource> = entries
        .iter()
        .filter_map(|(name, value)| source(name, value, checks))
        .collect();
    if names.names.iter().all(|name| name.as_str() != PUBLIC) {
        names.names.push(RootName::from(PUBLIC));
        sources.push(TrustRootSource {
            name: RootName::from(PUBLIC),
            source: RootSource::Sigstore {
                instance: SigstoreInstance::PublicGood,
                refresh: true,
            },
            unsafe_keep_stale: false,
        });
    }
    let github = sources.iter().filter(|root| {
        matches!(
            root.source,
            RootSource::Sigstore {
                instance: SigstoreInstance::Github,
                ..
            }
        )
    });
    names.github = github.map(|root| root.name.clone()).collect();
    if let Some(root) = default.and_then(|value| names.find(value)) {
        names.default = root;
    }
    (sources, names)
}

fn source(name: &str, value: &Value<'_>, checks: &Checks) -> Option<TrustRootSource> {
    const MEND: &str = "write { file: trusted_root.json }, { sigstore: public_good } or \
                        { tuf: { mirror: URL, root: root.json } }";
    if name.trim().is_empty() {
        value.error("a trust root has no name", "give it one");
    }
    if name.starts_with(logs::PREFIX) {
        value.error(
            "names that begin with `logs/` are those of roots that are made of `log_keys`",
            "give it another name",
        );
    }
    let fields = value.fields(&schema::TRUST_ROOT)?;
    let given = fields.exactly_one(&["file", "sigstore", "tuf"], MEND);
    let refresh = refresh(&fields);
    let keep = keep_stale(&fields);
    let source = match given? {
        ("file", value) => file(&value, checks)?,
        ("tuf", value) => RootSource::Tuf(tuf(&value, checks)?),
        (_, value) => RootSource::Sigstore {
            instance: value.choice(&[
                ("public_good", SigstoreInstance::PublicGood),
                ("staging", SigstoreInstance::Staging),
                ("github", SigstoreInstance::Github),
            ])?,
            refresh: refresh?,
        },
    };
    Some(TrustRootSource {
        name: RootName::from(name),
        unsafe_keep_stale: keep? && may_become_stale(&fields, &source)?,
        source,
    })
}

/// Whether a mirror is asked: for what is built in, that can be switched off.
fn refresh(fields: &Fields<'_>) -> Option<bool> {
    let Some(value) = fields.at("refresh") else {
        return Some(true);
    };
    if fields.at("sigstore").is_none() {
        value.error(
            "only a trust root that is built in can be left as it is: a file is read anew when \
             it changes, and `tuf` is nothing without its mirror",
            "remove the line",
        );
        return None;
    }
    value.choice(&[("background", true), ("never", false)])
}

fn keep_stale(fields: &Fields<'_>) -> Option<bool> {
    let Some(value) = fields.at("unsafe_keep_stale") else {
        return Some(false);
    };
    let keep = value.choice(&[("true", true), ("false", false)])?;
    if keep {
        value.warn(
            "who keeps the mirror away from this gate keeps revoked keys in use for ever",
            "remove it, and make `limits.trust_root_stale_max` as long as you can bear",
        );
    }
    Some(keep)
}

/// Tells where a trust root that nobody refreshes is to be kept when it is stale.
fn may_become_stale(fields: &Fields<'_>, source: &RootSource) -> Option<bool> {
    let refreshed = match source {
        RootSource::File { .. } | RootSource::Logs { .. } => false,
        RootSource::Sigstore { refresh, .. } => *refresh,
        RootSource::Tuf(_) => true,
    };
    if !refreshed && let Some(value) = fields.at("unsafe_keep_stale") {
        value.error("this trust root never becomes stale", "remove the line");
        return None;
    }
    Some(refreshed)
}

fn tuf(value: &Value<'_>, checks: &Checks) -> Option<TufSource> {
    const MEND: &str = "write tuf: { mirror: https://HOST/PATH, root: root.json }";
    let fields = value.fields(&schema::TUF)?;
    let mirror = fields.required("mirror", MEND);
    let mirror = mirror.and_then(|value| upstreams::url(&value));
    let root = fields.required("root", MEND);
    let root = root.and_then(|value| {
        let (path, bytes) = value.file()?;
        match (checks.tuf_root)(&bytes) {
            Ok(()) => Some(bytes),
            Err(why) => {
                value.error(
                    &format!("{} is no TUF root: {why}", path.display()),
                    "give the root.json of the repository, had from somebody you trust",
                );
                None
            }
        }
    });
    let ca = fields.at("ca").map(|value| upstreams::certificates(&value));
    Some(TufSource {
        mirror: mirror?,
        root: root?,
        ca: ca.map_or(Some(Vec::new()), |ca| ca)?,
    })
}

fn file(value: &Value<'_>, checks: &Checks) -> Option<RootSource> {
    let (path, bytes) = value.file()?;
    let checked = String::from_utf8(bytes)
        .map_err(|_| "it is not UTF-8".to_owned())
        .and_then(|json| (checks.root)(&json).map(|()| json));
    match checked {
        Ok(json) => Some(RootSource::File { path, json }),
        Err(why) => {
            value.error(
                &format!("{} is no trust root: {why}", path.display()),
                "give a Sigstore trusted_root.json (cosign trusted-root create makes one)",
            );
            None
        }
    }
}

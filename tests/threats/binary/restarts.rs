//! What is cached and how images hang together (THREATS C, G), while the program is told to reload,
//! killed by SIGKILL, and started again over its cache directory, as it was left or as somebody has
//! edited it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use jiff::SignedDuration;
use pullgate::clock::Clock;
use pullgate::oci::Digest;
use pullgate::sandbox::image::{self, Package};
use pullgate::sandbox::registry::{Endpoint, Fault, Misdeed, Recorded};
use pullgate::sandbox::sigstore::{KeyPair, Log, Recipe, Sigstore, signature_tag};

use super::{Gate, RELEASES, Settings, Site, files};
use crate::support::{HOST, recipe, release, stranger};

/// [`RELEASES`], after an edit by which somebody else signs.
fn by_mallory() -> String {
    RELEASES.replace("signed_by: release", "signed_by: mallory")
}

/// The digests of the config and the layer.
fn digests_of(package: &Package) -> [Digest; 2] {
    [0, 1].map(|number| Digest::sha256(&package.blobs[number]))
}

/// Everything of an image passes, its manifest by digest first.
async fn passes(gate: &Gate, repository: &str, package: &Package) {
    let answer = gate.manifest(repository, package.digest()).await;
    answer.admits(&package.manifest);
    for blob in &package.blobs {
        let answer = gate.blob(repository, Digest::sha256(blob)).await;
        answer.admits(blob);
    }
}

/// Nothing of an image passes, its manifest for this reason.
async fn is_denied(gate: &Gate, repository: &str, package: &Package, reason: &str) {
    let answer = gate.manifest(repository, package.digest()).await;
    answer.denies(reason);
    for blob in &package.blobs {
        is_not_reached(gate, repository, Digest::sha256(blob)).await;
    }
}

/// Waits until all of an image lies in the cache directory: its manifest, config and layer.
async fn is_kept(site: &Site, package: &Package) -> [PathBuf; 3] {
    let [config, layer] = digests_of(package);
    [
        site.kept("manifests", package.digest()).await,
        site.kept("blobs", config).await,
        site.kept("blobs", layer).await,
    ]
}

/// A blob does not leave, however it is asked for.
async fn is_not_reached(gate: &Gate, repository: &str, blob: Digest) {
    let target = format!("/v2/{repository}/blobs/{blob}");
    let etag = format!("\"{blob}\"");
    for headers in [
        &[][..],
        &[("range", "bytes=0-9")],
        &[("if-none-match", etag.as_str())],
    ] {
        let answer = gate.ask("GET", &target, headers).await;
        answer.denies("not_reachable");
        let answer = gate.ask("HEAD", &target, headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{target}");
        assert!(answer.body.is_empty(), "{target}");
    }
}

// THREATS G1: a member of a signed index passes on a connection of its own, and after a kill, when
// neither the tag nor anything it led to is at the registry any more; and as the index is judged
// now.
#[tokio::test]
async fn g1_a_member_passes_by_its_index_after_a_kill() {
    let signs_index = |rules: &str| rules.replace("signed_by: ", "signs: index, signed_by: ");
    let site = Site::new(&signs_index(RELEASES)).await;
    let (index, child) = site.push_index("app", "member");
    let identity = release();
    site.sign("app", &index, &recipe(&identity));
    let gate = site.run();
    gate.says("app", child.digest(), "unsigned").await;
    gate.manifest("app", "v1").await.admits(&index.manifest);
    passes(&gate, "app", &child).await;
    site.kept("manifests", index.digest()).await;
    is_kept(&site, &child).await;
    let [config, layer] = digests_of(&child);
    site.hinted(&[index.digest(), child.digest(), layer]).await;

    site.registry.untag("app", "v1");
    for digest in [index.digest(), child.digest(), config, layer] {
        site.registry.delete("app", &digest);
    }
    let gate = site.restart(gate);
    // A blob first: nothing but what was written down leads to it.
    gate.blob("app", layer).await.admits(&child.blobs[1]);
    passes(&gate, "app", &child).await;
    site.rule(&signs_index(&by_mallory()));
    let gate = site.restart(gate);
    is_denied(&gate, "app", &child, "untrusted_signer").await;
}

// THREATS G1: another replica that shares the directory, and was there before; the registry has nothing
// of it any more.
#[tokio::test]
async fn g1_a_member_passes_by_its_index_on_another_replica() {
    let signs_index = |rules: &str| rules.replace("signed_by: ", "signs: index, signed_by: ");
    let site = Site::new(&signs_index(RELEASES)).await;
    let (index, child) = site.push_index("app", "member");
    let (unsigned, outsider) =
        site.push_index("unsigned", "a member of an index that nobody signed");
    let identity = release();
    site.sign("app", &index, &recipe(&identity));
    let (one, other) = (site.run(), site.run());
    one.manifest("app", "v1").await.admits(&index.manifest);
    passes(&one, "app", &child).await;
    one.says("unsigned", "v1", "unsigned").await;
    site.kept("manifests", index.digest()).await;
    site.kept("manifests", unsigned.digest()).await;
    let [config, layer] = digests_of(&child);
    is_kept(&site, &child).await;

    for digest in [index.digest(), child.digest(), config, layer] {
        site.registry.delete("app", &digest);
    }
    other.blob("app", layer).await.admits(&child.blobs[1]);
    passes(&other, "app", &child).await;
    is_denied(&other, "unsigned", &outsider, "unsigned").await;
    // Each can go without the other.
    drop(one);
    passes(&other, "app", &child).await;
    let one = site.run();
    drop(other);
    passes(&one, "app", &child).await;
}

// THREATS G2: the same member, whose index was never admitted: not when that was asked for and
// refused, nor when it has been signed since, nor after a kill.
#[tokio::test]
async fn g2_a_member_of_no_admitted_index_is_denied_after_a_kill() {
    let site = Site::new(RELEASES).await;
    let (index, child) = site.push_index("app", "member");
    let gate = site.run();
    is_denied(&gate, "app", &child, "unsigned").await;
    gate.says("app", "v1", "unsigned").await;
    is_denied(&gate, "app", &child, "unsigned").await;
    // The store of hints is there, with what was admitted; where it is lost, manifests on disk are read.
    let other = site.released("other");
    gate.manifest("other", "v1").await.admits(&other.manifest);
    site.hinted(&digests_of(&other)).await;
    let identity = release();
    site.sign("app", &index, &recipe(&identity));
    let gate = site.restart(gate);
    is_denied(&gate, "app", &child, "unsigned").await;
    gate.manifest("app", "v1").await.admits(&index.manifest);
    passes(&gate, "app", &child).await;
}

// THREATS G5: a blob leaves by an admitted manifest of its repository, and goes with it: with an
// edit over a kill, and with one over a reload, though it lies in the cache.
#[tokio::test]
async fn g5_a_blob_goes_with_the_manifest_that_reaches_it() {
    let site = Site::new(RELEASES).await;
    let good = site.released("app");
    let bad = image::runnable("nobody has signed it");
    site.registry.put_package("app", &bad);
    site.registry.put_package("elsewhere", &good);
    let [_, layer] = digests_of(&good);
    let gate = site.run();
    // Nobody has asked for its manifest yet.
    is_not_reached(&gate, "app", layer).await;
    gate.manifest("app", "v1").await.admits(&good.manifest);
    gate.blob("app", layer).await.admits(&good.blobs[1]);
    gate.says("app", bad.digest(), "unsigned").await;
    let [_, hidden] = digests_of(&bad);
    let absent = Digest::sha256(b"nowhere");
    site.registry.clear_requests();
    for (repository, blob) in [
        ("app", hidden),
        ("app", absent),
        ("app", bad.digest()),
        ("elsewhere", layer),
    ] {
        is_not_reached(&gate, repository, blob).await;
    }
    let fetched = site
        .registry
        .count(|request| request.endpoint == Endpoint::Blobs);
    assert_eq!(fetched, 0, "a blob was asked for");

    site.kept("blobs", layer).await;
    site.registry.delete("app", &layer);
    site.rule(&by_mallory());
    let gate = site.restart(gate);
    is_not_reached(&gate, "app", layer).await;
    gate.says("app", "v1", "untrusted_signer").await;
    is_not_reached(&gate, "app", layer).await;
    // It is there all the time.
    site.rule(RELEASES);
    gate.reload();
    gate.comes_to_say("app", "admitted").await;
    gate.blob("app", layer).await.admits(&good.blobs[1]);
    site.rule(&by_mallory());
    gate.reload();
    gate.comes_to_say("app", "untrusted_signer").await;
    is_not_reached(&gate, "app", layer).await;
}

// THREATS C1: another trust root, and a key that is taken away, once the files have changed and
// nobody has said so: what had passed is judged anew, manifests and blobs.
#[tokio::test]
async fn c1_a_root_and_a_key_that_are_gone_prove_nothing() {
    let ops = "signers:\n  ops: { key: { file: ops.pub }, transparency_log: not_required }\n";
    let either = RELEASES
        .replacen("signers:\n", ops, 1)
        .replace("signed_by: release", "signed_by: { any: [ops, release] }");
    let key = KeyPair::generate();
    let more = "limits: { watch_interval: 100ms }\n";
    let site = Site::with(
        &either,
        Settings {
            more,
            ..Settings::default()
        },
    )
    .await;
    site.write("ops.pub", &key.public_key_pem());
    let login = site.released("login");
    let keyed = site.push("keyed", "signed with a key");
    let by_key = Recipe::key(&key, Log::None);
    let (digest, name) = (keyed.digest(), format!("{HOST}/keyed"));
    let layer = site.sigstore.sign_layer(&digest, &name, &by_key);
    let tag = signature_tag(&digest, vec![layer]);
    site.registry.put_package("keyed", &tag);
    let gate = site.run();
    passes(&gate, "login", &login).await;
    passes(&gate, "keyed", &keyed).await;

    let now = Clock::system().now() - SignedDuration::from_secs(60);
    site.write("root.json", &Sigstore::new(now).trusted_root_json());
    gate.comes_to_say("login", "invalid_signature").await;
    is_denied(&gate, "login", &login, "invalid_signature").await;
    passes(&gate, "keyed", &keyed).await;
    site.write("root.json", &site.sigstore.trusted_root_json());
    gate.comes_to_say("login", "admitted").await;
    passes(&gate, "login", &login).await;

    site.rule(RELEASES);
    gate.comes_to_say("keyed", "invalid_signature").await;
    is_denied(&gate, "keyed", &keyed, "invalid_signature").await;
    passes(&gate, "login", &login).await;
}

// THREATS C3: what was denied and is signed then passes within seconds, by the settings that are
// there where nobody writes any; also where a stranger's signature was found.
#[tokio::test]
async fn c3_what_is_signed_after_a_denial_passes_within_seconds() {
    let site = Site::new(RELEASES).await;
    let gate = site.run();
    let (identity, stranger) = (release(), stranger());
    let [bare, strange] = ["bare", "strange"].map(|repository| site.push(repository, repository));
    site.sign("strange", &strange, &recipe(&stranger));
    is_denied(&gate, "bare", &bare, "unsigned").await;
    is_denied(&gate, "strange", &strange, "untrusted_signer").await;
    for (repository, package) in [("bare", &bare), ("strange", &strange)] {
        site.sign(repository, package, &recipe(&identity));
    }
    for (repository, package) in [("bare", &bare), ("strange", &strange)] {
        gate.comes_to_say(repository, "admitted").await;
        passes(&gate, repository, package).await;
    }
}

// THREATS C4: a registry that fails while a signature is looked for leaves nobody unsigned: not at
// once, not after a kill, and not when it is well again. One that asks for a wait has it.
#[tokio::test]
async fn c4_trouble_is_never_remembered_as_unsigned() {
    let site = Site::new(RELEASES).await;
    let mut gate = site.run();
    let trouble = "evidence_unavailable";
    for (number, misdeed) in [
        Misdeed::Status(StatusCode::SERVICE_UNAVAILABLE),
        Misdeed::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Misdeed::TooManyRequests(Duration::ZERO),
        Misdeed::DropConnection,
    ]
    .into_iter()
    .enumerate()
    {
        let repository = format!("app-{number}");
        let package = site.released(&repository);
        let fault = site
            .registry
            .misbehave(Fault::on(Endpoint::Referrers, misdeed));
        for reference in ["v1".to_owned(), package.digest().to_string()] {
            let answer = gate.manifest(&repository, reference).await;
            answer.cannot_tell(trouble);
        }
        gate = site.restart(gate);
        let answer = gate.manifest(&repository, package.digest()).await;
        answer.cannot_tell(trouble);
        site.registry.forgive(fault);
        gate.says(&repository, "v1", "admitted").await;
        passes(&gate, &repository, &package).await;
    }
    let package = site.released("limited");
    let slow_down = Misdeed::TooManyRequests(Duration::from_secs(77));
    let fault = site
        .registry
        .misbehave(Fault::on(Endpoint::Referrers, slow_down));
    let answer = gate.manifest("limited", package.digest()).await;
    answer.cannot_tell(trouble);
    assert_eq!(answer.header("retry-after"), "77");
    site.registry.forgive(fault);
    let answer = gate.manifest("limited", package.digest()).await;
    answer.cannot_tell(trouble);
    let gate = site.restart(gate);
    passes(&gate, "limited", &package).await;
}

/// Something that may befall a file.
type Damage = (&'static str, fn(&mut Vec<u8>));

const DAMAGES: [Damage; 4] = [
    ("one bit", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }),
    ("cut short", |bytes| bytes.truncate(bytes.len() / 2)),
    ("emptied", |bytes| bytes.clear()),
    ("written over", |bytes| bytes.fill(b'x')),
];

/// Damages every file of the cache directory that holds anything.
fn damage_all(site: &Site, damage: fn(&mut Vec<u8>)) {
    let mut damaged = 0;
    for file in files(&site.path("cache")) {
        let mut bytes = fs::read(&file).expect("a file");
        if !bytes.is_empty() {
            damage(&mut bytes);
            fs::write(&file, bytes).expect("a file");
            damaged += 1;
        }
    }
    assert_ne!(damaged, 0, "nothing was cached");
}

/// A layer that is not held in memory, and not even with half of its bytes.
const LARGE: usize = 3 << 20;

// THREATS C8: a cache directory in which every file was damaged while the program was away. Nobody
// gets a wrong byte as an answer that is whole, or as a part; what is damaged is fetched anew,
// where that can be; and nothing passes that did not.
#[tokio::test]
async fn c8_a_damaged_directory_serves_no_wrong_byte() {
    let site = Site::new(RELEASES).await;
    let small = site.released("small");
    let identity = release();
    let [whole, parts] = ["whole", "parts"].map(|repository| {
        let content = repository.repeat(LARGE / repository.len());
        let package = site.push(repository, &content);
        site.sign(repository, &package, &recipe(&identity));
        package
    });
    let plain = site.push("plain", "nobody has signed it");
    let images = [("small", &small), ("whole", &whole), ("parts", &parts)];
    let layers = images.map(|(_, package)| digests_of(package)[1]);
    let fetched = |layer: &Digest| {
        let digest = layer.to_string();
        let fetches = |request: &Recorded| {
            request.endpoint == Endpoint::Blobs && request.path.ends_with(&digest)
        };
        site.registry.count(fetches)
    };
    let are_kept = async || {
        for (_, package) in images {
            is_kept(&site, package).await;
        }
    };
    let mut gate = site.run();
    for (repository, package) in images {
        passes(&gate, repository, package).await;
    }
    are_kept().await;
    // As it was left, it serves.
    gate = site.restart(gate);
    site.registry.clear_requests();
    for (repository, package) in images {
        passes(&gate, repository, package).await;
    }
    assert_eq!(layers.each_ref().map(fetched), [0, 0, 0]);

    for (what, damage) in DAMAGES {
        drop(gate);
        damage_all(&site, damage);
        gate = site.run();
        site.registry.clear_requests();
        for (repository, package) in images {
            let answer = gate.manifest(repository, package.digest()).await;
            answer.admits(&package.manifest);
            gate.says(repository, "v1", "admitted").await;
        }
        // What is on its way already breaks off.
        let answer = gate.blob("whole", layers[1]).await;
        let is_right = answer.body == whole.blobs[1];
        assert!(!answer.whole || is_right, "{what}: other bytes were served");
        let target = format!("/v2/parts/blobs/{}", layers[2]);
        let range = [("range", "bytes=100-199")];
        let answer = gate.ask("GET", &target, &range).await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{what}");
        assert_eq!(answer.body, parts.blobs[1][100..200], "{what}");
        for (repository, package) in images {
            passes(&gate, repository, package).await;
        }
        let fetched = layers.each_ref().map(fetched);
        assert!(!fetched.contains(&0), "{what}: {fetched:?}");
        is_denied(&gate, "plain", &plain, "unsigned").await;
        are_kept().await;
    }

    // Where nobody can be asked, a damaged copy is no answer.
    drop(gate);
    let (_, one_bit) = DAMAGES[0];
    damage_all(&site, one_bit);
    site.registry.stop().await;
    gate = site.run();
    for (repository, package) in images {
        let target = format!("/v2/{repository}/manifests/{}", package.digest());
        let blobs = package.blobs.iter().map(|blob| {
            let target = format!("/v2/{repository}/blobs/{}", Digest::sha256(blob));
            (target, blob)
        });
        for (target, bytes) in [(target, &package.manifest)].into_iter().chain(blobs) {
            let answer = gate.get(&target).await;
            let is_whole = answer.status == StatusCode::OK && answer.whole;
            let is_right = answer.body == *bytes;
            assert!(!is_whole || is_right, "{target}: other bytes were served");
        }
    }
    let answer = gate.manifest("plain", plain.digest()).await;
    assert_ne!(answer.status, StatusCode::OK);
}

/// Whatever anybody has pushed passes.
const LAX: &str = "policies:\n  \
     - { name: lax, images: [HOST/**], unsafe_allow_unsigned: { because: trial } }\n";

// THREATS C8, G5: a directory that a gate has filled which let everything pass, and in which files
// were put in the place of others. What it tells leads nowhere that policy does not.
#[tokio::test]
async fn c8_what_another_gate_has_kept_is_judged_anew() {
    let site = Site::new(LAX).await;
    let good = site.released("app");
    let bad = image::runnable("nobody has signed it").tagged("bad");
    site.registry.put_package("app", &bad);
    let (index, child) = site.push_index("index", "a member of what nobody has signed");
    let images = [
        ("app", &good),
        ("app", &bad),
        ("index", &index),
        ("index", &child),
    ];
    let gate = site.run();
    for (repository, package) in images {
        passes(&gate, repository, package).await;
    }
    site.hinted(&images.map(|(_, package)| package.digest()))
        .await;
    // The refused image under the names of the good one, and a way out of the directory.
    site.kept("manifests", index.digest()).await;
    is_kept(&site, &child).await;
    let [manifest, config, layer] = is_kept(&site, &good).await;
    let [other_manifest, _, other_layer] = is_kept(&site, &bad).await;
    drop(gate);
    fs::copy(other_manifest, manifest).expect("a copy");
    fs::copy(other_layer, layer).expect("a copy");
    site.write("secret", "nobody is to see this");
    fs::remove_file(&config).expect("is removed");
    symlink(site.path("secret"), config).expect("a link");

    site.rule(RELEASES);
    let gate = site.run();
    for (repository, package) in &images[1..] {
        is_denied(&gate, repository, package, "unsigned").await;
    }
    gate.says("app", "bad", "unsigned").await;
    gate.says("index", "v1", "unsigned").await;
    passes(&gate, "app", &good).await;
    gate.says("app", "v1", "admitted").await;
    // It was no use of theirs that the good one passes.
    is_denied(&gate, "app", &bad, "unsigned").await;
}

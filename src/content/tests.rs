//! The store in front of a registry that misbehaves.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::pace::Paces;
use super::*;
use crate::sandbox::registry::{Endpoint, Fault, Misdeed, Recorded, Registry};
use crate::upstream;

const NAME: &str = "acme/app";
const SMALL: u64 = 1000;
/// What a cut leaves, so that a fill is under way.
const PART: usize = 100_000;
/// Blobs that may pass through memory at once, where there is memory for that.
const SPOOLS: usize = 3;

/// A registry, and what is to be kept of it.
pub(super) struct World {
    pub(super) registry: Registry,
    upstream: Upstream,
    directory: Option<TempDir>,
    memory_bytes_max: u64,
    pub(super) disk_bytes_max: u64,
}

impl World {
    async fn start() -> Self {
        let registry = Registry::start().await.expect("a free port");
        let host = "registry.acme.test".parse().expect("a host");
        let mut settings = upstream::Settings::known(host);
        settings.url = registry.url().parse().expect("a URL");
        Self {
            upstream: Upstream::new(settings).expect("builds"),
            registry,
            directory: None,
            memory_bytes_max: 10 << 20,
            disk_bytes_max: 100 << 20,
        }
    }

    /// With memory for some blobs that pass through it.
    async fn roomy() -> Self {
        Self {
            memory_bytes_max: 4 * SPOOLS as u64 * spool::WINDOW_BYTES,
            ..Self::start().await
        }
    }

    pub(super) async fn with_directory() -> Self {
        let directory = Some(TempDir::new().expect("a directory"));
        Self {
            directory,
            ..Self::start().await
        }
    }

    /// A store of its own process, as it were.
    pub(super) fn open(&self) -> Process {
        let settings = Settings {
            memory_bytes_max: self.memory_bytes_max,
            memory_blob_bytes_max: SMALL,
            directory: self.directory.as_ref().map(|it| it.path().to_owned()),
            disk_bytes_max: self.disk_bytes_max,
            served_tags_max: 1000,
        };
        let tasks = TaskTracker::new();
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let store = Store::open(
            &settings,
            Arc::clone(&metrics),
            Clock::system(),
            Hands::new(tasks.clone(), Handle::current()),
        );
        Process {
            store: store.expect("opens"),
            upstream: self.upstream.clone(),
            metrics,
            tasks,
        }
    }

    fn key(&self, digest: Digest) -> ContentKey {
        self.key_in(NAME, digest)
    }

    fn key_in(&self, repository: &str, digest: Digest) -> ContentKey {
        ContentKey {
            host: self.upstream.host().clone(),
            repository: repository.parse().expect("a repository"),
            digest,
        }
    }

    pub(super) fn put(&self, bytes: &Bytes) -> ContentKey {
        self.key(self.registry.put_blob(NAME, bytes.clone()))
    }

    pub(super) fn blob_requests(&self) -> usize {
        self.registry.count(is_blob)
    }

    /// Cuts the first transfer after [`PART`] bytes, and holds the second.
    pub(super) fn hold_half_way(&self) {
        let registry = &self.registry;
        registry.misbehave(Fault::on(Endpoint::Blobs, Misdeed::CutAfter(PART)).times(1));
        let second = Fault::on(Endpoint::Blobs, Misdeed::Hang);
        registry.misbehave(second.when(|request| request.header("range").is_some()));
    }

    pub(super) async fn held_half_way(&self) {
        self.registry.wait_for(2, is_blob).await;
    }

    fn directory(&self) -> &Path {
        self.directory.as_ref().expect("a directory").path()
    }

    /// The files of a folder of the directory.
    /// The files in a folder, but for those that are only there to be locked.
    pub(super) fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files = files(&self.directory().join(folder));
        files.retain(|file| !file.ends_with("lock"));
        files
    }
}

fn is_blob(request: &Recorded) -> bool {
    request.endpoint == Endpoint::Blobs
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// A store and what it needs to be asked.
pub(super) struct Process {
    pub(super) store: Store,
    upstream: Upstream,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
}

impl Process {
    async fn answer(&self, key: &ContentKey) -> Result<BlobAnswer, UpstreamError> {
        self.store.blob(&self.upstream, key, None).await
    }

    async fn body(&self, key: &ContentKey) -> BlobBody {
        match self.answer(key).await.expect("an answer") {
            BlobAnswer::Whole { body, .. } => body,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn read(&self, key: &ContentKey) -> Result<Bytes, BlobError> {
        whole(self.body(key).await).await
    }

    async fn part(&self, key: &ContentKey, range: ByteRange) -> Bytes {
        let answer = self.store.blob(&self.upstream, key, Some(range)).await;
        match answer.expect("an answer") {
            BlobAnswer::Part { body, .. } => whole(body).await.expect("its bytes"),
            other => panic!("{other:?}"),
        }
    }

    /// The file of a stored blob.
    async fn file(&self, key: &ContentKey) -> disk::StoredFile {
        let name = FileName::new(Kind::Blob, key);
        let found = self.store.inner.on_disk(move |disk| disk.find(name)).await;
        found.flatten().expect("a file")
    }

    /// Waits for all that is under way, and ends.
    pub(super) async fn end(self) {
        drop(self.store);
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render().expect("text");
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.map_or(0, |value| value.trim().parse().expect("a number"))
    }
}

async fn whole(body: BlobBody) -> Result<Bytes, BlobError> {
    body.collect().await.map(|body| body.to_bytes())
}

/// Bytes that no two positions of nearby blocks share.
pub(super) fn content(length: usize) -> Bytes {
    (0..length).map(|at| ((at * 31) >> 3) as u8).collect()
}

/// Reads `count` bytes, or panics.
async fn read_some(body: &mut BlobBody, count: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < count {
        let frame = body.frame().await.expect("more").expect("no error");
        read.extend_from_slice(&frame.into_data().expect("data"));
    }
    read
}

#[tokio::test]
async fn a_hundred_readers_cost_one_transfer() {
    let world = World::with_directory().await;
    let bytes = content(700_000);
    let key = world.put(&bytes);
    let hold = world.registry.misbehave(Misdeed::Hang);
    let process = world.open();
    let readers = join_all((0..100).map(|_| process.read(&key)));
    let (read, ()) = tokio::join!(readers, async {
        world.registry.wait_for(1, is_blob).await;
        world.registry.forgive(hold);
    });
    for read in read {
        assert_eq!(read.expect("all of it"), bytes);
    }
    assert_eq!(world.blob_requests(), 1);
    // Once more from disk.
    assert_eq!(process.read(&key).await.expect("all of it"), bytes);
    assert_eq!(world.blob_requests(), 1);
    process.end().await;
}

#[tokio::test]
async fn a_hundred_readers_of_a_small_blob_cost_one_transfer_without_a_directory() {
    let world = World::start().await;
    let bytes = content(900);
    let key = world.put(&bytes);
    let hold = world.registry.misbehave(Misdeed::Hang);
    let process = world.open();
    let readers = join_all((0..100).map(|_| process.read(&key)));
    let (read, ()) = tokio::join!(readers, async {
        world.registry.wait_for(1, is_blob).await;
        world.registry.forgive(hold);
    });
    assert!(
        read.into_iter()
            .all(|read| read.expect("all of it") == bytes)
    );
    assert_eq!(world.blob_requests(), 1);
    process.end().await;
}

// What cannot be kept is shared by all who ask at once, however large it is: each piece comes once.
#[tokio::test]
async fn readers_of_a_large_blob_cost_one_transfer_without_a_directory() {
    let world = World::roomy().await;
    let bytes = content(12 << 20);
    let key = world.put(&bytes);
    let hold = world.registry.misbehave(Misdeed::Hang);
    let process = world.open();
    let readers = join_all((0..20).map(|_| process.read(&key)));
    let (read, ()) = tokio::join!(readers, async {
        world.registry.wait_for(1, is_blob).await;
        world.registry.forgive(hold);
    });
    for read in read {
        assert!(read.expect("all of it") == bytes);
    }
    assert_eq!(world.blob_requests(), 1);
    // Nothing is kept of it, nor is anything in its place.
    assert!(process.read(&key).await.expect("all of it") == bytes);
    assert_eq!(world.blob_requests(), 2);
    assert_eq!(process.store.inner.spools.available_permits(), SPOOLS);
    process.end().await;
}

#[tokio::test]
async fn late_comers_read_along_without_a_directory_and_wrong_bytes_have_no_end() {
    let world = World::roomy().await;
    let bytes = content(300_000);
    let key = world.put(&bytes);
    world.hold_half_way();
    let process = world.open();
    let mut first = process.body(&key).await;
    world.held_half_way().await;
    let mut late = process.body(&key).await;
    let (one, other) = tokio::join!(first.frame(), late.frame());
    for frame in [one, other] {
        let frame = frame.expect("more").expect("no error");
        let read = frame.into_data().expect("data");
        assert_eq!(read, bytes[..read.len()]);
    }
    world.registry.behave();
    for body in [first, late] {
        whole(body).await.expect("the rest");
    }
    assert_eq!(world.blob_requests(), 2);

    let mut wrong = bytes.to_vec();
    wrong[299_999] ^= 1;
    world.registry.misbehave(Misdeed::WrongBytes(wrong.into()));
    // It is told before the first byte, or before the last, as it comes.
    let read = async || match process.answer(&key).await {
        Ok(BlobAnswer::Whole { body, .. }) => whole(body).await.map_err(|error| error.to_string()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    };
    let (one, other) = tokio::join!(read(), read());
    for read in [one, other] {
        let error = read.expect_err("wrong bytes have no end");
        assert!(error.contains("sent"), "{error}");
    }
    process.end().await;
}

// Who takes nothing does not keep others from all of it for long.
#[tokio::test]
async fn the_slow_hold_up_nobody_for_long_without_a_directory() {
    let world = World::roomy().await;
    let bytes = content(12 << 20);
    let key = world.put(&bytes);
    let hold = world.registry.misbehave(Misdeed::Hang);
    let process = world.open();
    let (mut slow, quick) = tokio::join!(process.body(&key), async {
        world.registry.wait_for(1, is_blob).await;
        world.registry.forgive(hold);
        process.body(&key).await
    });
    let first = read_some(&mut slow, 1).await;
    assert!(whole(quick).await.expect("all of it") == bytes);
    assert_eq!(world.blob_requests(), 1);
    // The slow one goes on alone from where it stood.
    let rest = whole(slow).await.expect("all of it");
    assert!([first.as_slice(), &rest].concat() == bytes);
    assert_eq!(world.blob_requests(), 2);
    let from = |request: &Recorded| is_blob(request) && request.header("range").is_some();
    assert_eq!(world.registry.count(from), 1);
    process.end().await;
}

#[tokio::test]
async fn late_comers_stream_what_has_arrived_and_follow() {
    let world = World::with_directory().await;
    let bytes = content(300_000);
    let key = world.put(&bytes);
    world.hold_half_way();
    let process = world.open();
    let mut first = process.body(&key).await;
    world.held_half_way().await;
    let mut late = process.body(&key).await;
    for body in [&mut first, &mut late] {
        // All but the last byte, which might have been the last of all.
        let arrived = read_some(body, PART - 1).await;
        assert_eq!(arrived, &bytes[..PART - 1]);
    }
    world.registry.behave();
    for body in [first, late] {
        assert_eq!(whole(body).await.expect("the rest"), bytes[PART - 1..]);
    }
    assert_eq!(world.blob_requests(), 2);
    assert_eq!(
        process.metric("pullgate_upstream_transfers_resumed_total"),
        1
    );
    process.end().await;
}

#[tokio::test]
async fn a_reader_who_leaves_harms_nobody() {
    let world = World::with_directory().await;
    let bytes = content(300_000);
    let key = world.put(&bytes);
    world.hold_half_way();
    let process = world.open();
    let first = process.body(&key).await;
    world.held_half_way().await;
    let other = process.body(&key).await;
    drop(first);
    world.registry.behave();
    assert_eq!(whole(other).await.expect("all of it"), bytes);
    process.end().await;
}

#[tokio::test]
async fn a_fill_goes_on_for_a_while_after_its_last_reader() {
    let world = World::with_directory().await;
    let bytes = content(300_000);
    let key = world.put(&bytes);
    world.hold_half_way();
    let process = world.open();
    drop(process.body(&key).await);
    world.held_half_way().await;
    world.registry.behave();
    assert_eq!(process.read(&key).await.expect("all of it"), bytes);
    assert_eq!(world.blob_requests(), 2);
    process.end().await;
}

#[tokio::test]
async fn an_upstream_that_goes_on_cutting_is_given_up() {
    let world = World::with_directory().await;
    let key = world.put(&content(300_000));
    world
        .registry
        .misbehave(Fault::on(Endpoint::Blobs, Misdeed::CutAfter(10)));
    let process = world.open();
    let error = process.read(&key).await.expect_err("an end");
    assert!(matches!(error, BlobError::Upstream(_)), "{error}");
    assert_eq!(world.blob_requests(), 6);
    process.end().await;
    assert_eq!(world.files("tmp").len() + world.files("blobs").len(), 0);
}

// THREATS B9.
#[tokio::test]
async fn wrong_bytes_are_cut_before_their_end_and_never_kept() {
    for with_directory in [true, false] {
        let world = match with_directory {
            true => World::with_directory().await,
            false => World::start().await,
        };
        let bytes = content(300_000);
        let key = world.put(&bytes);
        let mut wrong = bytes.to_vec();
        wrong[299_999] ^= 1;
        let wrong = Bytes::from(wrong);
        let fault = Fault::on(Endpoint::Blobs, Misdeed::WrongBytes(wrong.clone()));
        world.registry.misbehave(fault.times(2));
        let process = world.open();
        match process.answer(&key).await {
            Ok(BlobAnswer::Whole { mut body, .. }) => {
                let mut read = Vec::new();
                let error = loop {
                    match body.frame().await.expect("an error before the end") {
                        Ok(frame) => read.extend_from_slice(&frame.into_data().expect("data")),
                        Err(error) => break error,
                    }
                };
                assert!(read.len() < wrong.len(), "{error}");
            }
            // The transfer was over before anybody had read of it.
            Err(UpstreamError::WrongBytes { .. }) => {}
            other => panic!("{other:?}"),
        }
        // A part of it is refused outright where the fill comes first.
        let part = process
            .store
            .blob(&process.upstream, &key, Some(ByteRange::Last(1)));
        match part.await {
            Err(UpstreamError::WrongBytes { .. }) if with_directory => {}
            Ok(BlobAnswer::Whole { body, .. }) if !with_directory => {
                assert!(whole(body).await.is_err());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(process.read(&key).await.expect("all of it"), bytes);
        process.end().await;
    }
}

#[tokio::test]
async fn a_small_blob_of_wrong_bytes_is_an_error_and_no_body() {
    let world = World::with_directory().await;
    let key = world.put(&content(500));
    let fault = Fault::on(Endpoint::Blobs, Misdeed::WrongBytes(content(499)));
    world.registry.misbehave(fault);
    let process = world.open();
    let error = process.answer(&key).await.expect_err("wrong bytes");
    assert!(matches!(error, UpstreamError::WrongBytes { .. }), "{error}");
    process.end().await;
    assert_eq!(world.files("blobs").len(), 0);
}

#[tokio::test]
async fn parts_are_served_from_verified_bytes() {
    let world = World::with_directory().await;
    let (large, small) = (content(300_000), content(600));
    for bytes in [&large, &small] {
        let key = world.put(bytes);
        let process = world.open();
        let length = bytes.len();
        assert_eq!(
            process.part(&key, ByteRange::Last(7)).await,
            bytes[length - 7..]
        );
        assert_eq!(
            process.part(&key, ByteRange::FromTo(5, 300)).await,
            bytes[5..=300]
        );
        process.end().await;
        // And by the next process, which has not seen them whole.
        let process = world.open();
        assert_eq!(process.part(&key, ByteRange::From(9)).await, bytes[9..]);
        let outside = ByteRange::From(length as u64);
        let outside = process.store.blob(&process.upstream, &key, Some(outside));
        assert!(matches!(outside.await, Ok(BlobAnswer::Outside { .. })));
        process.end().await;
    }
    assert_eq!(world.blob_requests(), 2);
}

#[tokio::test]
async fn a_part_of_what_cannot_be_kept_is_answered_with_the_whole() {
    let world = World::start().await;
    let bytes = content(300_000);
    let key = world.put(&bytes);
    let process = world.open();
    let answer = process
        .store
        .blob(&process.upstream, &key, Some(ByteRange::Last(7)));
    match answer.await {
        Ok(BlobAnswer::Whole { body, .. }) => assert_eq!(whole(body).await.expect("all"), bytes),
        other => panic!("{other:?}"),
    }
    process.end().await;
}

#[tokio::test]
async fn a_restart_finds_blobs_and_manifests_without_upstream() {
    let world = World::with_directory().await;
    let layer = content(300_000);
    let image = world.registry.put_image(NAME, Some("v1"), &[&layer]);
    let image_key = world.key(image);
    let layer_key = world.key(Digest::sha256(&layer));
    let process = world.open();
    let manifest = process.store.manifest(&world.upstream, &image_key).await;
    let manifest = manifest.expect("a manifest").bytes().clone();
    process.read(&layer_key).await.expect("a layer");
    process.end().await;
    world.registry.stop().await;

    let process = world.open();
    let document = process.store.manifest(&world.upstream, &image_key).await;
    assert_eq!(*document.expect("kept").bytes(), manifest);
    assert_eq!(process.read(&layer_key).await.expect("kept"), layer);
    // A blob of that digest is another thing than a manifest.
    let as_blob = process.answer(&image_key).await;
    assert!(matches!(as_blob, Err(UpstreamError::Unreachable { .. })));
    process.end().await;
}

#[tokio::test]
async fn what_another_repository_has_is_asked_for() {
    let world = World::with_directory().await;
    let bytes = content(300_000);
    let key = world.put(&bytes);
    let process = world.open();
    process.read(&key).await.expect("a blob");
    let foreign = world.key_in("acme/other", key.digest);
    let answer = process.answer(&foreign).await;
    assert!(matches!(answer, Err(UpstreamError::NotFound)));
    // Had from there, too, it is stored once.
    world.registry.put_blob("acme/other", bytes.clone());
    assert_eq!(process.read(&foreign).await.expect("a blob"), bytes);
    assert_eq!(world.files("blobs").len(), 2);
    assert_eq!(process.metric("pullgate_cache_disk_bytes"), 303_104);
    process.end().await;
}

#[tokio::test]
async fn a_damaged_file_is_never_served_and_replaced() {
    let world = World::with_directory().await;
    let bytes = content(300_000);
    let key = world.put(&bytes);
    let process = world.open();
    process.read(&key).await.expect("a blob");
    let damage = |at: usize| {
        let file = world.files("blobs").pop().expect("a file");
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1;
        fs::write(file, damaged).expect("writes");
    };
    // While the process runs, which has seen it whole.
    damage(0);
    process.read(&key).await.expect_err("an end");
    assert_eq!(process.read(&key).await.expect("fetched anew"), bytes);
    process.end().await;
    // Before the process starts: parts are verified, too, and what is missing is noticed.
    damage(299_999);
    let process = world.open();
    assert_eq!(
        process.part(&key, ByteRange::FromTo(0, 9)).await,
        bytes[..10]
    );
    assert_eq!(process.metric("pullgate_cache_disk_corrupt_total"), 1);
    process.end().await;
    let file = world.files("blobs").pop().expect("a file");
    fs::write(file, &bytes[..299_000]).expect("writes");
    let process = world.open();
    process.read(&key).await.expect_err("an end");
    assert_eq!(process.read(&key).await.expect("fetched anew"), bytes);
    process.end().await;
}

// It was seen whole before, and is read without being hashed again: its last bytes wait for the
// file system to say that it is the same still.
#[tokio::test]
async fn a_file_that_changes_while_it_is_read_has_no_end() {
    let world = World::with_directory().await;
    let bytes = content(600_000);
    let key = world.put(&bytes);
    let process = world.open();
    process.read(&key).await.expect("a blob");
    assert_eq!(process.read(&key).await.expect("once more"), bytes);
    let mut body = process.body(&key).await;
    read_some(&mut body, 1).await;
    let file = world.files("blobs").pop().expect("a file");
    let mut damaged = bytes.to_vec();
    damaged[599_999] ^= 1;
    fs::write(file, damaged).expect("writes");
    whole(body).await.expect_err("an end");
    assert_eq!(process.read(&key).await.expect("fetched anew"), bytes);
    process.end().await;
}

// As often as a file is read at once, read while it is hashed, or read in part.
#[tokio::test]
async fn a_reader_gets_all_of_a_file_whatever_its_pace() {
    let world = World::with_directory().await;
    let bytes = content(3_000_001);
    let key = world.put(&bytes);
    let process = world.open();
    process.read(&key).await.expect("a blob");
    process.end().await;
    let process = world.open();
    let small = 128 << 10;
    let (nobody, everybody) = (Paces::new(u64::MAX), Paces::new(1));
    for (quick, steady, most) in [
        (&nobody, false, small),
        (&everybody, true, small),
        (&everybody, false, 4 * small),
        (&nobody, false, small),
    ] {
        for first in [0, 1, 2_999_999] {
            let mut file = process.file(&key).await;
            if first > 0 {
                file.seek(first).expect("a file that is right");
            }
            let (end, tasks) = (bytes.len() as u64, process.tasks.clone());
            let body = BlobBody::file(file, end, key.digest, quick.pace(), tasks);
            let mut body = if steady { body.in_small_pieces() } else { body };
            let (mut read, mut longest) = (Vec::new(), 0);
            while let Some(frame) = body.frame().await {
                let piece = frame.expect("no error").into_data().expect("data");
                longest = longest.max(piece.len());
                read.extend_from_slice(&piece);
            }
            assert!(read == bytes[first as usize..], "from {first}");
            assert_eq!(longest, most.min(read.len()), "from {first}");
        }
    }
    process.end().await;
}

// THREATS B9.
#[tokio::test]
async fn no_pace_hides_that_a_file_is_damaged() {
    let world = World::with_directory().await;
    let bytes = content(3_000_000);
    let key = world.put(&bytes);
    for quick in [Paces::new(u64::MAX), Paces::new(1)] {
        let process = world.open();
        process.read(&key).await.expect("a blob");
        process.end().await;
        let path = world.files("blobs").pop().expect("a file");
        let mut damaged = bytes.to_vec();
        damaged[1_000_000] ^= 1;
        fs::write(path, damaged).expect("writes");
        let process = world.open();
        let (file, tasks) = (process.file(&key).await, process.tasks.clone());
        let end = bytes.len() as u64;
        let body = BlobBody::file(file, end, key.digest, quick.pace(), tasks);
        whole(body).await.expect_err("an end");
        process.end().await;
    }
}

// Whoever can write to the directory can put one file in another's place, and set back the time at
// which it changed.
#[tokio::test]
async fn a_change_that_hides_itself_is_never_served() {
    let world = World::with_directory().await;
    let (one, other) = (content(300_000), content(300_001));
    let (key, other_key) = (world.put(&one), world.put(&other));
    let process = world.open();
    for (key, bytes) in [(&key, &one), (&other_key, &other)] {
        assert!(process.read(key).await.expect("a blob") == bytes);
        assert!(process.read(key).await.expect("once more") == bytes);
    }
    let is_cut = async || process.read(&key).await.is_err();
    let is_right = async || process.read(&key).await.is_ok_and(|read| read == one);
    let file_of = |key: &ContentKey| {
        let mut files = world.files("blobs").into_iter();
        let hex = key.digest.hex();
        let is_it = |path: &PathBuf| path.to_string_lossy().contains(&hex);
        files.rfind(is_it).expect("a file")
    };
    let edit = |key: &ContentKey| {
        let path = file_of(key);
        let before = fs::metadata(&path).and_then(|about| about.modified());
        let mut damaged = one.to_vec();
        damaged[299_999] ^= 1;
        fs::write(&path, damaged).expect("writes");
        let file = fs::File::options().write(true).open(&path).expect("a file");
        file.set_modified(before.expect("a time")).expect("is set");
    };
    fs::hard_link(file_of(&other_key), world.directory().join("link")).expect("a link");
    fs::rename(world.directory().join("link"), file_of(&key)).expect("is in its place");
    assert!(is_cut().await, "another file");
    assert!(is_right().await, "fetched anew");

    edit(&key);
    assert!(is_cut().await, "other bytes");
    assert!(is_right().await, "fetched anew");

    // The same while it is read.
    let mut body = process.body(&key).await;
    read_some(&mut body, 1).await;
    edit(&key);
    assert!(whole(body).await.is_err(), "other bytes");
    assert!(is_right().await, "fetched anew");

    // A change that leaves the bytes alone costs a look at them, and nobody an end.
    let mut body = process.body(&key).await;
    read_some(&mut body, 1).await;
    let path = file_of(&key);
    fs::hard_link(&path, world.directory().join("link")).expect("a link");
    whole(body).await.expect("an end");
    assert!(is_right().await);
    assert_eq!(process.metric("pullgate_cache_disk_corrupt_total"), 3);
    process.end().await;
}

// What lies under a blob's name and is no file would lead out of the directory, or hold up for ever
// whoever opens it.
#[tokio::test]
async fn what_is_no_file_is_not_opened() {
    let world = World::with_directory().await;
    let bytes = content(300_000);
    let key = world.put(&bytes);
    let secret = world.directory().join("secret");
    fs::write(&secret, content(700_000)).expect("writes");
    let process = world.open();
    assert!(process.read(&key).await.is_ok());
    let path = world.files("blobs").pop().expect("a file");
    let put: [(&str, &dyn Fn()); 3] = [
        ("a link", &|| {
            let made = std::os::unix::fs::symlink(&secret, &path);
            made.expect("a link");
        }),
        ("a pipe", &|| {
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.expect("runs").success());
        }),
        ("a folder", &|| fs::create_dir(&path).expect("a folder")),
    ];
    for (what, put) in put {
        fs::remove_file(&path).expect("is removed");
        put();
        let read = tokio::time::timeout(Duration::from_secs(10), process.read(&key)).await;
        let read = read.unwrap_or_else(|_| panic!("{what}: nobody answers"));
        assert!(read.is_ok_and(|read| read == bytes), "{what}");
    }
    process.end().await;
}

#[tokio::test]
async fn a_damaged_manifest_is_fetched_anew() {
    let world = World::with_directory().await;
    let key = world.key(world.registry.put_image(NAME, None, &[b"layer"]));
    let process = world.open();
    let before = process
        .store
        .manifest(&world.upstream, &key)
        .await
        .expect("one");
    process.end().await;
    let file = world.files("manifests").pop().expect("a file");
    fs::write(file, "{}").expect("writes");
    let process = world.open();
    let after = process
        .store
        .manifest(&world.upstream, &key)
        .await
        .expect("one");
    assert_eq!(before.bytes(), after.bytes());
    process.end().await;
}

#[tokio::test]
async fn the_directory_stays_within_its_bound() {
    let mut world = World::with_directory().await;
    world.disk_bytes_max = 1_000_000;
    let process = world.open();
    let blobs: Vec<_> = (0..5)
        .map(|number| {
            let bytes = content(300_000 + number);
            (world.put(&bytes), bytes)
        })
        .collect();
    for (key, bytes) in &blobs {
        assert_eq!(process.read(key).await.expect("a blob"), bytes);
        // The first is used again and again, so it stays.
        process.read(&blobs[0].0).await.expect("a blob");
        let held: u64 = world
            .files("")
            .iter()
            .map(|file| fs::metadata(file).map_or(0, |metadata| metadata.len()))
            .sum();
        assert!(held <= world.disk_bytes_max, "{held}");
    }
    assert_eq!(world.blob_requests(), 5);
    assert_eq!(process.metric("pullgate_cache_disk_evictions_total"), 2);
    process.end().await;
    // A smaller bound holds from the start.
    world.disk_bytes_max = 400_000;
    let process = world.open();
    let too_large = world.put(&content(500_000));
    process.read(&too_large).await.expect("a blob");
    process.end().await;
    assert_eq!(world.files("blobs").len(), 1);
}

#[tokio::test]
async fn a_disk_that_fills_up_does_not_show() {
    let mut world = World::with_directory().await;
    // The blob says no size, so that the end of the room comes in the middle.
    world.disk_bytes_max = 10 << 20;
    let bytes = content(12 << 20);
    let key = world.put(&bytes);
    let fault = Fault::on(Endpoint::Blobs, Misdeed::NoContentLength);
    world.registry.misbehave(fault);
    let process = world.open();
    let readers = join_all((0..3).map(|_| process.read(&key)));
    for read in readers.await {
        assert_eq!(read.expect("all of it"), bytes);
    }
    let failures = r#"pullgate_cache_disk_failures_total{operation="write"}"#;
    assert_eq!(process.metric(failures), 1);
    process.end().await;
    assert_eq!(world.files("tmp").len() + world.files("blobs").len(), 0);
}

/// Needs root: it mounts a file system of two megabytes.
#[tokio::test]
#[ignore = "needs root, for a mount"]
async fn a_real_disk_that_fills_up_does_not_show() {
    let world = World::with_directory().await;
    let mount = |arguments: &[&str]| {
        let directory = world.directory().to_str().expect("text");
        let mut command = std::process::Command::new(arguments[0]);
        let status = command.args(&arguments[1..]).arg(directory).status();
        assert!(status.expect("runs").success());
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs"]);
    let bytes = content(5 << 20);
    let key = world.put(&bytes);
    let process = world.open();
    let readers = join_all((0..3).map(|_| process.read(&key)));
    for read in readers.await {
        assert_eq!(read.expect("all of it"), bytes);
    }
    let failures = r#"pullgate_cache_disk_failures_total{operation="write"}"#;
    assert!(process.metric(failures) > 0);
    process.end().await;
    assert_eq!(world.files("tmp").len() + world.files("blobs").len(), 0);
    mount(&["umount"]);
}

#[test]
fn a_process_that_is_killed_leaves_nothing_that_matters() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runs")
    };
    let outside = runtime();
    let bytes = content(300_000);
    let (world, key) = outside.block_on(async {
        let world = World::with_directory().await;
        let key = world.put(&bytes);
        world.hold_half_way();
        (world, key)
    });
    let killed = runtime();
    let process = killed.block_on(async {
        let process = world.open();
        let mut body = process.body(&key).await;
        world.held_half_way().await;
        read_some(&mut body, PART - 1).await;
        process
    });
    // What a killed process leaves, it leaves without having its destructors run.
    let copy = world.directory().join("copy");
    let under_way = world.files("tmp").pop().expect("a file under way");
    fs::copy(&under_way, &copy).expect("copies");
    drop(process);
    drop(killed);
    fs::rename(copy, under_way).expect("renames");

    world.registry.behave();
    outside.block_on(async {
        let process = world.open();
        assert_eq!(world.files("tmp").len() + world.files("blobs").len(), 0);
        assert_eq!(process.read(&key).await.expect("all of it"), bytes);
        process.end().await;
    });
}

// As after a loss of power: of what was written last there may be a part.
#[tokio::test]
async fn a_file_that_was_cut_short_tells_no_size() {
    let world = World::with_directory().await;
    let bytes = content(700_000);
    let key = world.put(&bytes);
    for ask in 0..3 {
        let process = world.open();
        process.read(&key).await.expect("all of it");
        process.end().await;
        let file = world.files("blobs").pop().expect("a file");
        fs::write(&file, &bytes[..1000 * SMALL as usize / 2]).expect("writes");
        let process = world.open();
        match ask {
            0 => {
                let size = process.store.blob_size(&process.upstream, &key).await;
                assert_eq!(size.expect("a size"), Some(bytes.len() as u64));
            }
            // Behind what is left, and across its end.
            1 => assert_eq!(
                process
                    .part(&key, ByteRange::FromTo(600_000, 600_009))
                    .await,
                bytes[600_000..600_010]
            ),
            _ => assert_eq!(
                process
                    .part(&key, ByteRange::FromTo(499_990, 500_009))
                    .await,
                bytes[499_990..500_010]
            ),
        }
        process.end().await;
    }
}

/// Makes a hundred thousand files and prints how long the start takes.
#[tokio::test]
#[ignore = "takes long to set up"]
async fn a_full_directory_starts_at_once() {
    let world = World::with_directory().await;
    let mark = "0".repeat(32);
    for number in 0..100_000_u32 {
        let hex = Digest::sha256(&number.to_le_bytes()).hex();
        let folder = world.directory().join("blobs/sha256").join(&hex[..2]);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("{hex}.{mark}")), b"x").expect("writes");
    }
    let started = std::time::Instant::now();
    let process = world.open();
    let opened = started.elapsed();
    process.end().await;
    let counted = started.elapsed();
    println!("open after {opened:?}, counted after {counted:?}");
    assert!(opened.as_secs() < 1);
}

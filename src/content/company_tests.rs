//! Processes that share a cache directory.

use std::{fs, time::Duration};

use super::inner::lock;
use super::tests::{Process, World, content};

/// Large enough to be on disk only.
const LARGE: usize = 700_000;

impl Process {
    /// Waits until nothing is under way to the disk.
    async fn settled(&self, world: &World) {
        let is_under_way = || !lock(&self.store.inner.fills).is_empty();
        while is_under_way() || !world.files("tmp").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Takes stock, as it does once a minute.
    async fn take_stock(&self) {
        let counted = self.store.inner.on_disk(|disk| disk.take_stock());
        counted.await.expect("a directory");
    }
}

#[tokio::test]
async fn what_one_has_written_the_others_find_and_hash() {
    let world = World::with_directory().await;
    let (one, other) = (world.open(), world.open());
    let bytes = content(LARGE);
    let key = world.put(&bytes);
    for process in [&one, &other] {
        assert_eq!(process.read(&key).await.expect("all of it"), bytes);
        process.settled(&world).await;
    }
    assert_eq!(world.blob_requests(), 1);
    let file = world.files("blobs").pop().expect("a file");
    let mut edited = bytes.to_vec();
    edited[0] ^= 1;
    fs::write(&file, edited).expect("writes");
    for process in [&one, &other] {
        // Who finds out ends the answer, and the next one is had anew.
        let first = process.read(&key).await;
        assert!(first.is_err() || first.is_ok_and(|read| read == bytes));
        assert_eq!(process.read(&key).await.expect("all of it"), bytes);
        process.settled(&world).await;
    }
    assert_eq!(world.blob_requests(), 2);
    one.end().await;
    other.end().await;
}

#[tokio::test]
async fn who_begins_leaves_alone_what_others_have_under_way() {
    let world = World::with_directory().await;
    let one = world.open();
    let bytes = content(LARGE);
    let key = world.put(&bytes);
    world.hold_half_way();
    let reader = one.read(&key);
    let (read, ()) = tokio::join!(reader, async {
        world.held_half_way().await;
        assert_eq!(world.files("tmp").len(), 1);
        let other = world.open();
        assert_eq!(world.files("tmp").len(), 1);
        world.registry.behave();
        other.end().await;
    });
    assert_eq!(read.expect("all of it"), bytes);
    one.settled(&world).await;
    assert_eq!(world.files("blobs").len(), 1);
    one.end().await;
}

#[tokio::test]
async fn what_others_removed_is_counted_no_more() {
    let world = World::with_directory().await;
    let process = world.open();
    for length in [LARGE, LARGE + 1] {
        let key = world.put(&content(length));
        process.read(&key).await.expect("all of it");
    }
    process.settled(&world).await;
    let disk = process.store.inner.disk.as_ref().expect("a directory");
    assert_eq!(disk.holds().0, 2);
    let file = world.files("blobs").pop().expect("a file");
    fs::remove_file(file).expect("removes");
    process.take_stock().await;
    let (files, bytes) = disk.holds();
    assert_eq!(files, 1);
    assert!(bytes < 2 * LARGE as u64, "{bytes}");
    process.end().await;
}

#[tokio::test]
async fn all_together_keep_the_bound() {
    let mut world = World::with_directory().await;
    // Hints have a part of it.
    world.disk_bytes_max = 4 * (LARGE as u64);
    let (one, other) = (world.open(), world.open());
    let there = || {
        let files = world.files("blobs");
        let size = |file| fs::metadata(file).expect("a file").len();
        files.iter().map(size).sum::<u64>()
    };
    let mut keys = Vec::new();
    for round in 0..4 {
        for process in [&one, &other] {
            let key = world.put(&content(LARGE - keys.len()));
            process.read(&key).await.expect("all of it");
            process.settled(&world).await;
            keys.push(key);
        }
        for process in [&one, &other] {
            process.take_stock().await;
            assert!(there() <= world.disk_bytes_max, "{round}");
            let disk = process.store.inner.disk.as_ref().expect("a directory");
            let (files, bytes) = disk.holds();
            assert_eq!(files, world.files("blobs").len(), "{round}");
            assert!(bytes >= there(), "{round}");
        }
    }
    // What the others removed is had anew.
    for (number, key) in keys.iter().enumerate() {
        for process in [&one, &other] {
            let read = process.read(key).await.expect("all of it");
            assert_eq!(read, content(LARGE - number));
            process.settled(&world).await;
        }
    }
    one.end().await;
    other.end().await;
}

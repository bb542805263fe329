//! podman and skopeo, which share a library and its configuration.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::clients::Client;
use crate::clients::Route;
use crate::harness::World;
use crate::harness::catalogue::Entry;
use crate::harness::image::FILE;
use crate::harness::image::Image;
use crate::harness::image::sha256;
use crate::harness::process::command;
use crate::harness::process::must;
use crate::harness::process::run;

/// The configuration that both read, apart from that of the machine.
struct Settings {
    folder: PathBuf,
}

impl Settings {
    fn write(world: &World, name: &str, route: Route) -> Self {
        let folder = world.undertaker.folder(&format!("{name}-{route:?}"));
        let registries: String = world
            .sites
            .iter()
            .map(|site| {
                let original = site.front.host();
                let location = route.address(site);
                format!(
                    "[[registry]]\nprefix = \"{original}\"\nlocation = \"{location}\"\n\
                     insecure = true\n"
                )
            })
            .collect();
        // The programs' own signature check is not what is tested here.
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        for (file, text) in [
            ("registries.conf", registries.as_str()),
            ("policy.json", policy),
        ] {
            std::fs::write(folder.join(file), text).expect("a client's settings");
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = command(program);
        command
            .env("HOME", &self.folder)
            .env("XDG_RUNTIME_DIR", &self.folder)
            .env("CONTAINERS_REGISTRIES_CONF", self.path("registries.conf"));
        command
    }
}

/// Has podman keep its images and all else in `folder`, apart from those of the machine.
pub(crate) fn keep_apart(podman: &mut Command, folder: &Path) {
    podman
        .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
        .args(["--events-backend", "none"]);
    for name in ["root", "runroot", "tmpdir"] {
        podman.arg(format!("--{name}")).arg(folder.join(name));
    }
}

/// podman, with image storage of its own.
pub(crate) struct Podman(Settings);

impl Podman {
    fn command(&self) -> Command {
        let mut command = self.0.command("podman");
        keep_apart(&mut command, &self.0.folder);
        command
    }
}

impl Client for Podman {
    fn set_up(world: &'static World, route: Route) -> Self {
        Self(Settings::write(world, "podman", route))
    }

    fn pull(&self, entry: &Entry) -> Result<(), String> {
        let mut command = self.command();
        command.args(["pull", "--quiet", "--signature-policy"]);
        let finished = run(command
            .arg(self.0.path("policy.json"))
            .arg(&entry.reference));
        finished.success.then_some(()).ok_or(finished.said)
    }

    fn compare(&self, entry: &Entry) {
        compare_stored(|| self.command(), &entry.reference, &entry.image);
    }
}

/// Panics unless podman, as `podman` starts it, stores this image under this name.
pub(super) fn compare_stored(podman: impl Fn() -> Command, reference: &str, image: &Image) {
    let format = ["image", "inspect", "--format", "{{json .RepoDigests}}"];
    let digests = must(podman().args(format).arg(reference));
    assert!(digests.contains(&image.digest), "{digests}");
    let files = PathBuf::from(must(podman().args(["image", "mount", reference])));
    let text = std::fs::read_to_string(files.join(FILE)).expect("the image's file");
    assert_eq!(text, image.text);
    must(podman().args(["image", "unmount", reference]));
}

/// skopeo, which copies an image into a folder.
pub(crate) struct Skopeo(Settings);

impl Skopeo {
    fn copy_of(&self, entry: &Entry) -> PathBuf {
        self.0.path(&sha256(entry.reference.as_bytes()))
    }
}

impl Client for Skopeo {
    fn set_up(world: &'static World, route: Route) -> Self {
        Self(Settings::write(world, "skopeo", route))
    }

    fn pull(&self, entry: &Entry) -> Result<(), String> {
        let finished = run(self
            .0
            .command("skopeo")
            .arg("--policy")
            .arg(self.0.path("policy.json"))
            .arg("--registries-conf")
            .arg(self.0.path("registries.conf"))
            .args(["copy", "--quiet", "--all"])
            .arg(format!("docker://{}", entry.reference))
            .arg(format!("dir:{}", self.copy_of(entry).display())));
        finished.success.then_some(()).ok_or(finished.said)
    }

    fn compare(&self, entry: &Entry) {
        compare_folder(&self.copy_of(entry), &entry.image);
    }
}

/// Panics unless a folder that skopeo has copied an image into holds its very bytes.
pub(super) fn compare_folder(copy: &Path, image: &Image) {
    let root = &image.contents[0];
    assert_eq!(read(&copy.join("manifest.json")), root.bytes);
    for content in &image.contents[1..] {
        let blob = copy.join(&content.hex);
        let manifest = copy.join(format!("{}.manifest.json", content.hex));
        let path = if blob.exists() { blob } else { manifest };
        assert_eq!(read(&path), content.bytes, "{}", path.display());
    }
}

pub(super) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

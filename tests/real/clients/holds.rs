//! What the programs that log in hold after a pull, byte for byte.

use std::path::Path;

use crate::clients::CraneLogin;
use crate::clients::Cri;
use crate::clients::CtrLogin;
use crate::clients::LogsIn;
use crate::clients::OrasLogin;
use crate::clients::PodmanLogin;
use crate::clients::SkopeoLogin;
use crate::clients::containers::compare_folder;
use crate::clients::containers::compare_stored;
use crate::clients::containers::read;
use crate::clients::logins::LOGINS;
use crate::harness::image::Image;

/// A program whose images can be looked at.
pub(crate) trait Holds: LogsIn {
    /// Panics unless it holds the very bytes of the image that it pulled last, as `reference`.
    fn compare(&self, reference: &str, image: &Image);
}

/// Panics unless an OCI layout holds the very bytes of an image, of all platforms.
pub(super) fn compare_layout(layout: &Path, image: &Image) {
    for content in &image.contents {
        let blob = layout.join("blobs/sha256").join(&content.hex);
        assert_eq!(read(&blob), content.bytes, "{}", blob.display());
    }
}

impl Holds for PodmanLogin {
    fn compare(&self, reference: &str, image: &Image) {
        compare_stored(|| self.command(), reference, image);
    }
}

impl Holds for SkopeoLogin {
    fn compare(&self, _reference: &str, image: &Image) {
        compare_folder(&self.0.pulled(), image);
    }
}

impl Holds for CraneLogin {
    fn compare(&self, _reference: &str, image: &Image) {
        compare_layout(&self.0.pulled(), image);
    }
}

impl Holds for OrasLogin {
    fn compare(&self, _reference: &str, image: &Image) {
        compare_layout(&self.0.pulled(), image);
    }
}

impl Holds for CtrLogin {
    fn compare(&self, _reference: &str, image: &Image) {
        self.0.compare(LOGINS, image);
    }
}

impl Holds for Cri {
    fn compare(&self, _reference: &str, image: &Image) {
        self.compare_image(image);
    }
}

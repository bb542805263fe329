//! The programs that pull, each told to ask the gate and nobody else.

mod buildah;
mod containerd;
mod containers;
mod cri;
mod docker;
mod helm;
mod holds;
mod logins;
mod regctl;

use crate::harness::Site;
use crate::harness::World;
use crate::harness::catalogue::Entry;

pub(crate) use crate::clients::buildah::BuildahLogin;
pub(crate) use crate::clients::containerd::Ctr;
pub(crate) use crate::clients::containers::Podman;
pub(crate) use crate::clients::containers::Skopeo;
pub(crate) use crate::clients::containers::keep_apart;
pub(crate) use crate::clients::cri::Cri;
pub(crate) use crate::clients::docker::DockerLogin;
pub(crate) use crate::clients::helm::HelmLogin;
pub(crate) use crate::clients::holds::Holds;
pub(crate) use crate::clients::logins::CraneLogin;
pub(crate) use crate::clients::logins::CtrLogin;
pub(crate) use crate::clients::logins::Login;
pub(crate) use crate::clients::logins::LogsIn;
pub(crate) use crate::clients::logins::OrasLogin;
pub(crate) use crate::clients::logins::PodmanLogin;
pub(crate) use crate::clients::logins::SkopeoLogin;
pub(crate) use crate::clients::regctl::RegctlLogin;

/// Whom a client asks for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Sealed: the gate stands for the registry, and there is no way around it.
    Gate,
    /// Sealed, and the gate is down.
    Down,
    /// As installed: the registry that the image is named after.
    Original,
}

impl Route {
    /// Where images of this site are asked for.
    pub(crate) fn address(self, site: &Site) -> String {
        match self {
            Self::Gate => site.gate.address().to_owned(),
            // Nothing listens on the port of the discard service.
            Self::Down => "127.0.0.1:9".to_owned(),
            Self::Original => site.front.host(),
        }
    }
}

/// A program that pulls images.
pub(crate) trait Client {
    /// Sets it up with storage of its own.
    fn set_up(world: &'static World, route: Route) -> Self
    where
        Self: Sized;

    /// Pulls; an error is what it says to its user.
    fn pull(&self, entry: &Entry) -> Result<(), String>;

    /// Panics unless it holds the very bytes that were published.
    fn compare(&self, entry: &Entry);
}

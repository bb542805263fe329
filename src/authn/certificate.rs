//! Who holds a client certificate. The TLS library has proven that it was issued by one of the
//! configured authorities, is in its time, is not revoked, and that the client has its key.

use std::sync::Arc;

use crate::authn::known::Known;

/// The holder of the certificate that a connection was opened with. Made by
/// [`Authn::certify`](crate::authn::Authn::certify) only.
#[derive(Debug, Clone)]
pub struct Certified(pub(super) Arc<Known>);

//! Which token services belong to a registry (THREATS A1, A2).

use http::Uri;

use super::{
    RealmRefusal,
    origin::{Origin, is_under},
};

/// The URL of a token service, where it belongs to the registry that named it: it is the
/// registry's own origin, or it is https on a name under the same registered domain, as
/// `auth.docker.io` is to `registry-1.docker.io`. Everything else, and whatever does not
/// parse, gets no request and no credentials.
pub(super) fn realm_of(realm: &str, registry: &Origin) -> Result<Uri, RealmRefusal> {
    let uri: Uri = realm.parse().map_err(|_| RealmRefusal::NotAnUrl)?;
    let origin = Origin::of(&uri).map_err(|_| RealmRefusal::NotAnUrl)?;
    if origin == *registry {
        return Ok(uri);
    }
    if !same_registered_domain(origin.host(), registry.host()) {
        return Err(RealmRefusal::Foreign);
    }
    if !origin.is_secure() {
        return Err(RealmRefusal::Plain);
    }
    Ok(uri)
}

/// Domains under which strangers are neighbours, so that a common ending says nothing. Not
/// complete, and need not be: a registry that is hosted there asks tokens of itself.
const SHARED_DOMAINS: [&str; 23] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "aliyuncs.com",
    "appspot.com",
    "azurecr.cn",
    "azurecr.io",
    "azurecr.us",
    "azurewebsites.net",
    "cloudapp.net",
    "cloudfront.net",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "jfrog.io",
    "netlify.app",
    "ngrok.io",
    "pages.dev",
    "pkg.dev",
    "run.app",
    "vercel.app",
    "windows.net",
    "workers.dev",
];

/// True when two host names surely belong to one owner: they are equal names of two labels or
/// more, or end in the same registered domain. Addresses have no owner that a name tells.
fn same_registered_domain(one: &str, other: &str) -> bool {
    let labels = |host: &str| -> Vec<String> { host.rsplit('.').map(str::to_owned).collect() };
    if is_address(one) || is_address(other) {
        return false;
    }
    let common: Vec<String> = labels(one)
        .into_iter()
        .zip(labels(other))
        .take_while(|(one, other)| one == other)
        .map(|(label, _)| label)
        .collect();
    let [top, second, ..] = common.as_slice() else {
        return false;
    };
    let shared = |domain: &&str| is_under(one, domain) && is_under(other, domain);
    if SHARED_DOMAINS.iter().any(shared) {
        return one == other;
    }
    // Under country codes the second label is often a register of its own (co.uk, com.au,
    // gov.br); then the owner's name is the third.
    let register = top.len() == 2 && second.len() <= 3;
    common.len() > 2 || !register
}

/// True for IP addresses, also in forms that only system resolvers take for one (`0x7f.1`).
fn is_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    host.starts_with('[') || last.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::of(&url.parse().expect("a URL")).expect("an origin")
    }

    // THREATS A1, A2 (CVE-2026-33540).
    #[test]
    fn realms_that_belong() {
        for (realm, registry) in [
            (
                "https://auth.docker.io/token",
                "https://registry-1.docker.io",
            ),
            (
                "https://AUTH.Docker.io/token",
                "https://registry-1.docker.io",
            ),
            ("https://ghcr.io/token", "https://ghcr.io"),
            ("https://ghcr.io:443/token", "https://ghcr.io"),
            ("https://gitlab.com/jwt/auth", "https://registry.gitlab.com"),
            ("https://auth.quay.io/token", "https://quay.io"),
            ("https://r.azurecr.io/oauth2/token", "https://r.azurecr.io"),
            ("https://r.azurecr.cn/oauth2/token", "https://r.azurecr.cn"),
            (
                "https://auth.acme.com.cn/token",
                "https://registry.acme.com.cn",
            ),
            (
                "https://auth.notamazonaws.com.cn/token",
                "https://registry.notamazonaws.com.cn",
            ),
            (
                "https://auth.acme.co.uk/token",
                "https://registry.acme.co.uk",
            ),
            (
                "https://registry.acme.test:5001/t",
                "https://registry.acme.test:5000",
            ),
            (
                "https://auth.acme.test/token",
                "http://registry.acme.test:5000",
            ),
            ("http://127.0.0.1:5000/token", "http://127.0.0.1:5000"),
            ("http://[::1]:5000/token", "http://[::1]:5000"),
            ("http://registry:5000/token", "http://registry:5000"),
        ] {
            let registry = origin(registry);
            assert!(realm_of(realm, &registry).is_ok(), "{realm} for {registry}");
        }
    }

    #[test]
    fn foreign_realms() {
        use RealmRefusal::{Foreign, NotAnUrl, Plain};
        for (realm, registry, refusal) in [
            (
                "https://evil-docker.io/t",
                "https://registry-1.docker.io",
                Foreign,
            ),
            (
                "https://auth.evil-docker.io/t",
                "https://registry-1.docker.io",
                Foreign,
            ),
            (
                "https://docker.io.evil.test/t",
                "https://registry-1.docker.io",
                Foreign,
            ),
            (
                "https://auth.docker.io.evil.test/t",
                "https://registry-1.docker.io",
                Foreign,
            ),
            (
                "https://auth.docker.com/t",
                "https://registry-1.docker.io",
                Foreign,
            ),
            ("https://io/t", "https://registry-1.docker.io", Foreign),
            (
                "https://auth.docker.io@evil.test/t",
                "https://registry-1.docker.io",
                NotAnUrl,
            ),
            (
                "https://user@auth.docker.io/t",
                "https://registry-1.docker.io",
                NotAnUrl,
            ),
            (
                "https://auth.docker.io./t",
                "https://registry-1.docker.io",
                NotAnUrl,
            ),
            (
                "https://auth.docker.io:/t",
                "https://registry-1.docker.io",
                NotAnUrl,
            ),
            (
                "http://auth.docker.io/t",
                "https://registry-1.docker.io",
                Plain,
            ),
            (
                "http://registry-1.docker.io/t",
                "https://registry-1.docker.io",
                Plain,
            ),
            (
                "http://auth.acme.test/t",
                "http://registry.acme.test",
                Plain,
            ),
            ("https://evil.co.uk/t", "https://registry.co.uk", Foreign),
            (
                "https://auth.evil.com.au/t",
                "https://registry.acme.com.au",
                Foreign,
            ),
            (
                "https://evil.azurecr.io/t",
                "https://acme.azurecr.io",
                Foreign,
            ),
            (
                "https://evil.azurecr.cn/t",
                "https://acme.azurecr.cn",
                Foreign,
            ),
            (
                "https://evil.azurecr.us/t",
                "https://acme.azurecr.us",
                Foreign,
            ),
            (
                "https://2.dkr.ecr.cn-north-1.amazonaws.com.cn/t",
                "https://1.dkr.ecr.cn-north-1.amazonaws.com.cn",
                Foreign,
            ),
            (
                "https://evil.github.io/t",
                "https://acme.github.io",
                Foreign,
            ),
            ("https://10.0.0.1/t", "https://10.0.0.2", Foreign),
            (
                "https://127.0.0.1:5001/t",
                "https://127.0.0.1:5000",
                Foreign,
            ),
            ("http://127.0.0.1:5001/t", "http://127.0.0.1:5000", Foreign),
            ("http://127.0.0.1/t", "http://127.0.0.1:5000", Foreign),
            ("https://[::1]:5001/t", "https://[::1]:5000", Foreign),
            ("https://1.0x7f.1/t", "https://2.0x7f.1", Foreign),
            ("http://registry:5001/t", "http://registry:5000", Foreign),
            ("https://localhost/t", "https://ghcr.io", Foreign),
            ("file:///etc/passwd", "https://ghcr.io", NotAnUrl),
            ("ftp://ghcr.io/t", "https://ghcr.io", NotAnUrl),
            ("data:text/plain,x", "https://ghcr.io", NotAnUrl),
            ("/token", "https://ghcr.io", NotAnUrl),
            ("//ghcr.io/token", "https://ghcr.io", NotAnUrl),
            ("https:///token", "https://ghcr.io", NotAnUrl),
            ("", "https://ghcr.io", NotAnUrl),
            ("https://ghcr.io\\@evil.test/", "https://ghcr.io", NotAnUrl),
            ("https://gh\u{441}r.io/t", "https://ghcr.io", NotAnUrl),
        ] {
            let registry = origin(registry);
            assert_eq!(
                realm_of(realm, &registry).err(),
                Some(refusal),
                "{realm} for {registry}"
            );
        }
    }
}

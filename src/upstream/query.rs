//! Queries, percent-encoded (RFC 3986, 3.4).

use std::fmt::Write as _;

use http::{Uri, uri::PathAndQuery};

/// A query under construction.
#[derive(Debug, Default)]
pub(super) struct Query(String);

impl Query {
    /// Starts with the query that `uri` has.
    pub(super) fn of(uri: &Uri) -> Self {
        Self(uri.query().unwrap_or_default().to_owned())
    }

    /// Adds a parameter.
    pub(super) fn push(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                // Writing to a text cannot fail.
                let _ = write!(self.0, "%{byte:02X}");
            }
        }
    }

    /// `path`, with the query behind it where there is one.
    pub(super) fn behind(&self, path: &str) -> String {
        if self.0.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", self.0)
        }
    }

    /// `uri` with this query in place of its own.
    pub(super) fn on(&self, uri: Uri) -> Result<Uri, http::Error> {
        let path: PathAndQuery = self.behind(uri.path()).parse()?;
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(path);
        Ok(Uri::from_parts(parts)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_parameter() {
        let mut query = Query::default();
        assert_eq!(query.behind("/p"), "/p");
        query.push("service", "a&b=c#d e\r\n%ä");
        query.push("scope", "repository:a/b:pull");
        assert_eq!(
            query.behind("/p"),
            "/p?service=a%26b%3Dc%23d%20e%0D%0A%25%C3%A4&scope=repository:a/b:pull"
        );
    }

    #[test]
    fn a_realm_keeps_its_own_query() {
        let realm: Uri = "https://r.test/token?tenant=1".parse().expect("a URL");
        let mut query = Query::of(&realm);
        query.push("service", "r");
        let whole = query.on(realm).expect("a URL").to_string();
        assert_eq!(whole, "https://r.test/token?tenant=1&service=r");
    }
}

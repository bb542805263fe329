//! `WWW-Authenticate` (RFC 9110, 11.6.1), as far as registries use it.

use http::{HeaderMap, header};

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a token from the service at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
    },
    /// With a user name and password.
    Basic,
}

impl Challenge {
    /// The challenge that can be answered best: Bearer before Basic. The scope that a
    /// registry names is not read; what we ask for is known here.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for value in headers.get_all(header::WWW_AUTHENTICATE) {
            for (scheme, parameters) in value.to_str().map(parse).unwrap_or_default() {
                if scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
                let parameter = |name: &str| {
                    let mut all = parameters.iter();
                    all.find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, value)| value.clone())
                };
                if scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = parameter("realm")
                {
                    let service = parameter("service");
                    return Some(Self::Bearer { realm, service });
                }
            }
        }
        basic
    }
}

/// A scheme and its parameters.
type Parsed = (String, Vec<(String, String)>);

/// Reads `scheme name=value, name="value", scheme ...`; stops at what it does not understand.
fn parse(text: &str) -> Vec<Parsed> {
    let mut challenges: Vec<Parsed> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let (word, after) = rest.split_at(rest.find(|c| !is_token(c)).unwrap_or(rest.len()));
        if word.is_empty() {
            return challenges;
        }
        let Some(value) = after.trim_start().strip_prefix('=') else {
            challenges.push((word.to_owned(), Vec::new()));
            rest = after;
            continue;
        };
        let (Some((value, after)), Some((_, parameters))) =
            (parse_value(value.trim_start()), challenges.last_mut())
        else {
            return challenges;
        };
        parameters.push((word.to_owned(), value));
        rest = after;
    }
}

/// A token, or a quoted string with its escapes resolved; and what follows.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, after) = text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()));
        return Some((word.to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[position + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                header::WWW_AUTHENTICATE,
                value.parse().expect("a header value"),
            );
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        })
    }

    #[test]
    fn challenges_as_registries_send_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#;
        let expected = bearer("https://auth.docker.io/token", Some("registry.docker.io"));
        assert_eq!(challenge(&[hub]), expected);
        assert_eq!(
            challenge(&[r#"Basic realm="x", bearer Realm = "https://a.test/t" "#]),
            bearer("https://a.test/t", None)
        );
        assert_eq!(
            challenge(&[r#"Basic realm="a, Bearer realm=x""#]),
            Some(Challenge::Basic)
        );
        assert_eq!(
            challenge(&["Basic realm=x", r#"Bearer realm="q\"uoted""#]),
            bearer("q\"uoted", None)
        );
    }

    #[test]
    fn what_is_no_challenge() {
        for text in [
            "",
            "Negotiate",
            "Bearer",
            "=",
            "Bearer realm=\"x",
            "realm=x",
        ] {
            assert_eq!(challenge(&[text]), None, "{text}");
        }
        assert_eq!(challenge(&[]), None);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_headers_never_panic(text: String) {
            parse(&text);
        }
    }
}

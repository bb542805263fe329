//! Credentials, as any text.

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use proptest::prelude::*;

use super::credential::{Credential, NoCredential, header_of};
use super::own_token::{OwnRefusal, TokenKey, verify};

proptest! {
    #[test]
    fn any_header_is_a_credential_or_not(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        like in "(Basic|bearer|BASIC|Negotiate)? {0,2}[A-Za-z0-9+/=.,:-]{0,40}",
    ) {
        for value in [&bytes[..], like.as_bytes()] {
            let parsed = Credential::parse(value);
            let Ok(value) = HeaderValue::from_bytes(value) else { continue };
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.clone());
            let one = header_of(&headers).and_then(Credential::parse);
            prop_assert!(one == parsed);
            headers.append(header::AUTHORIZATION, value);
            prop_assert_eq!(header_of(&headers), Err(NoCredential::Several));
        }
    }

    #[test]
    fn a_password_is_read_as_it_was_written(user in "[a-z]{1,8}", password in "[!-9;-~]{1,16}") {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let parsed = Credential::parse(format!("Basic {encoded}").as_bytes());
        let is_jwt = password.starts_with("eyJ");
        let same = parsed == Ok(Credential::Password { user, password });
        prop_assert!(is_jwt || same);
    }

    #[test]
    fn any_text_is_a_foreign_token(text in "\\PC{0,60}", like in "pullgate\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,44}") {
        let key = TokenKey::shared(&[7; 32]).expect("a key");
        for token in [text, like] {
            let refusal = verify(&key, &token, Timestamp::UNIX_EPOCH).err();
            prop_assert_eq!(refusal, Some(OwnRefusal::Foreign));
        }
    }
}

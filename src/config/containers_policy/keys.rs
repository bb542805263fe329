//! Where a requirement has its keys and certificates from: `...Path`, `...Paths`, `...Data` and
//! `...Datas`.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::config::reader::Fields;
use crate::config::reader::Value;

/// The bytes of one source, and where they stand.
pub(super) struct Given<'a> {
    pub(super) value: Value<'a>,
    /// What messages begin with: the file's name and a colon, or nothing.
    pub(super) place: String,
    /// A short name for people: the file's, or the key's.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// The keys of one kind of source, in the order path, paths, data, datas; a kind that a
/// requirement does not have is left out.
pub(super) type Forms = &'static [&'static str];

/// What the one of `forms` that is given names. `None` when none is right, which was told.
pub(super) fn given<'a>(fields: &Fields<'a>, forms: Forms, mend: &str) -> Option<Vec<Given<'a>>> {
    let (form, value) = fields.exactly_one(forms, mend)?;
    let several = form.ends_with('s');
    let values = match several {
        true => value.filled_list("name at least one")?,
        false => vec![value],
    };
    let read: Vec<Given<'_>> = values
        .iter()
        .filter_map(|value| match form.contains("Path") {
            true => file(value),
            false => data(value, form),
        })
        .collect();
    (read.len() == values.len()).then_some(read)
}

/// Whether the one of `forms` that is given has the right shape; nothing is read.
pub(super) fn has_shape(fields: &Fields<'_>, forms: Forms, mend: &str) -> Option<()> {
    let (form, value) = fields.exactly_one(forms, mend)?;
    if !form.ends_with('s') {
        return value.text().map(drop);
    }
    let values = value.filled_list("name at least one")?;
    let texts = values.iter().map(Value::text);
    texts.collect::<Option<Vec<_>>>().map(drop)
}

fn file<'a>(value: &Value<'a>) -> Option<Given<'a>> {
    let (path, bytes) = value.file()?;
    Some(Given {
        value: value.clone(),
        place: format!("{}: ", path.display()),
        name: value.text()?.to_owned(),
        bytes,
    })
}

fn data<'a>(value: &Value<'a>, form: &str) -> Option<Given<'a>> {
    let text = value.text()?;
    // Line breaks are passed over there as well.
    let text: String = text
        .chars()
        .filter(|one| !matches!(one, '\r' | '\n'))
        .collect();
    match STANDARD.decode(text) {
        Ok(bytes) => Some(Given {
            value: value.clone(),
            place: String::new(),
            name: form.to_owned(),
            bytes,
        }),
        Err(_) => {
            value.error(
                "this is not Base64",
                "encode the whole file: base64 --wrap=0 FILE",
            );
            None
        }
    }
}

//! Where every decision is written to, lowered.

use crate::config::AuditSettings;
use crate::config::reader::Value;
use crate::config::schema;
use crate::config::units;

/// `stderr`, or a file.
pub(super) fn lower(value: &Value<'_>) -> Option<AuditSettings> {
    if value.as_text().is_some() {
        return value
            .choice(&[("stderr", ())])
            .map(|()| AuditSettings::Stderr);
    }
    let fields = value.fields(&schema::AUDIT)?;
    let path = fields
        .required(
            "file",
            "name the file: { file: /var/log/pullgate/audit.jsonl }",
        )
        .and_then(|value| value.path_value());
    let bytes_max = fields
        .at("bytes_max")
        .map_or(Some(AuditSettings::BYTES_MAX), |value| {
            let bytes = value.parsed(units::bytes, units::SIZE_MEND)?;
            not_none(&value, bytes > 0)?;
            Some(bytes)
        });
    let files_max = fields
        .at("files_max")
        .map_or(Some(AuditSettings::FILES_MAX), |value| {
            let number = |text: &str| text.parse::<u16>().map_err(|_| "not a number of files");
            let files = value.parsed(number, "write a whole number, like 5")?;
            not_none(&value, files > 0)?;
            Some(usize::from(files))
        });
    Some(AuditSettings::File {
        path: path?,
        bytes_max: bytes_max?,
        files_max: files_max?,
    })
}

fn not_none(value: &Value<'_>, is_some: bool) -> Option<()> {
    if !is_some {
        value.error(
            "nothing could be written with that",
            "give a larger number, or remove the line for the default",
        );
    }
    is_some.then_some(())
}

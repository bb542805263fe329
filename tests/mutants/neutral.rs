//! The places that nobody signed and nothing depends on.

/// Whether a change leaves the meaning as it was, or takes away what is not needed.
pub(crate) fn is_neutral(format: &str, change: &str) -> bool {
    NEUTRAL.iter().any(|neutral| {
        format.contains(neutral.format) && neutral.places.iter().any(|place| change.contains(place))
    })
}

struct Neutral {
    /// A part of the format's name; empty for all.
    format: &'static str,
    /// Parts of a change.
    places: &'static [&'static str],
    /// Why.
    #[expect(dead_code, reason = "for whoever reads the list")]
    why: &'static str,
}

const NEUTRAL: &[Neutral] = &[];

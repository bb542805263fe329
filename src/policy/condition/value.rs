//! Values while a condition is evaluated: they borrow from the attestation wherever they can.

use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

use super::term::Literal;

#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'a, str>),
    Time(Timestamp),
    Period(SignedDuration),
    /// A list or a map of the attestation.
    Json(&'a Json),
    /// A list that the condition made.
    List(Vec<Self>),
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Self::Int(whole),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(Cow::Borrowed(text)),
            Json::Array(_) | Json::Object(_) => Self::Json(json),
        }
    }
}

impl<'a> From<&'a Literal> for Value<'a> {
    fn from(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(truth) => Self::Bool(*truth),
            Literal::Int(whole) => Self::Int(*whole),
            Literal::Double(number) => Self::Double(*number),
            Literal::Text(text) => Self::Text(Cow::Borrowed(text)),
            Literal::Time(time) => Self::Time(*time),
            Literal::Period(period) => Self::Period(*period),
        }
    }
}

impl Value<'_> {
    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Double(_) => "a number",
            Self::Text(_) => "a text",
            Self::Time(_) => "a timestamp",
            Self::Period(_) => "a duration",
            Self::List(_) | Self::Json(Json::Array(_)) => "a list",
            Self::Json(_) => "a map",
        }
    }

    /// Its type, by its name in CEL.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Period(_) => "google.protobuf.Duration",
            Self::List(_) | Self::Json(Json::Array(_)) => "list",
            Self::Json(_) => "map",
        }
    }

    /// Which comes first, where both are of kinds that have an order.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(one), Self::Int(two)) => Some(one.cmp(two)),
            (Self::Int(one), Self::Double(two)) => whole_and_double(*one, *two),
            (Self::Double(one), Self::Int(two)) => {
                whole_and_double(*two, *one).map(Ordering::reverse)
            }
            (Self::Double(one), Self::Double(two)) => one.partial_cmp(two),
            (Self::Text(one), Self::Text(two)) => Some(one.cmp(two)),
            (Self::Bool(one), Self::Bool(two)) => Some(one.cmp(two)),
            (Self::Time(one), Self::Time(two)) => Some(one.cmp(two)),
            (Self::Period(one), Self::Period(two)) => Some(one.cmp(two)),
            _ => None,
        }
    }
}

/// Compares without rounding: not every whole number has a double of its own.
fn whole_and_double(whole: i64, double: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        None
    } else if double >= BEYOND {
        Some(Ordering::Less)
    } else if double < -BEYOND {
        Some(Ordering::Greater)
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is within the range of whole numbers, and its fraction is compared next"
        )]
        let floor = double.floor() as i64;
        Some(whole.cmp(&floor).then(match double.fract() == 0.0 {
            true => Ordering::Equal,
            false => Ordering::Less,
        }))
    }
}

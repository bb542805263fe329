//! An expression after it was checked: every name in it is known, and every regular expression
//! compiled.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use regex::Regex;

/// A part of an expression.
#[derive(Debug, Clone)]
pub(super) enum Term {
    Literal(Literal),
    Given(Given),
    /// The variable of a loop: how many loops lie between it and the outermost one.
    Local {
        name: String,
        depth: usize,
    },
    Field(Box<Self>, String),
    Has(Box<Self>, String),
    Index(Box<Self>, Box<Self>),
    List(Vec<Self>),
    Not(Box<Self>),
    Negate(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Conditional(Box<[Self; 3]>),
    Equal {
        sides: Box<[Self; 2]>,
        equal: bool,
    },
    Compare(Comparison, Box<[Self; 2]>),
    Arithmetic(Arithmetic, Box<[Self; 2]>),
    In(Box<[Self; 2]>),
    Call(Function, Vec<Self>),
    Matches(Box<Self>, Regex),
    Loop(Box<Loop>),
}

/// A value that is written out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Time(Timestamp),
    Period(SignedDuration),
}

/// The variables that are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    Predicate,
    Subject,
    Image,
    Signer,
    Now,
}

impl Given {
    pub(super) const ALL: [Self; 5] = [
        Self::Predicate,
        Self::Subject,
        Self::Image,
        Self::Signer,
        Self::Now,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Predicate => "predicate",
            Self::Subject => "subject",
            Self::Image => "image",
            Self::Signer => "signer",
            Self::Now => "now",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    LowerAscii,
    UpperAscii,
    Timestamp,
    Duration,
    Int,
    Double,
    String,
    Type,
}

impl Function {
    pub(super) const ALL: [Self; 12] = [
        Self::Size,
        Self::StartsWith,
        Self::EndsWith,
        Self::Contains,
        Self::LowerAscii,
        Self::UpperAscii,
        Self::Timestamp,
        Self::Duration,
        Self::Int,
        Self::Double,
        Self::String,
        Self::Type,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Contains => "contains",
            Self::LowerAscii => "lowerAscii",
            Self::UpperAscii => "upperAscii",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::Int => "int",
            Self::Double => "double",
            Self::String => "string",
            Self::Type => "type",
        }
    }
}

/// One of CEL's macros that go over a list, or over the keys of a map.
#[derive(Debug, Clone)]
pub(super) struct Loop {
    pub(super) kind: LoopKind,
    pub(super) over: Term,
    /// What is asked of each item; for `map` with three arguments, before it is mapped.
    pub(super) test: Option<Term>,
    /// What `map` makes of each item.
    pub(super) body: Option<Term>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

/// The path that a term spells, as far as it is one.
impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(given) => f.write_str(given.as_str()),
            Self::Local { name, .. } => f.write_str(name),
            Self::Field(operand, name) | Self::Has(operand, name) => write!(f, "{operand}.{name}"),
            Self::Index(operand, index) => match &**index {
                Self::Literal(Literal::Text(key)) => write!(f, "{operand}[{key:?}]"),
                Self::Literal(Literal::Int(position)) => write!(f, "{operand}[{position}]"),
                index => write!(f, "{operand}[{index}]"),
            },
            Self::Call(function, arguments) => match arguments.first() {
                Some(first) => write!(f, "{}({first})", function.as_str()),
                None => f.write_str(function.as_str()),
            },
            _ => f.write_str("..."),
        }
    }
}

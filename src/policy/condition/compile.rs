//! From CEL's syntax tree to checked terms.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};
use cel::{Env, ParseError};
use jiff::SignedDuration;
use regex::RegexBuilder;

use super::ConditionError as Error;
use super::term::{Arithmetic, Comparison, Function, Given, Literal, Loop, LoopKind, Term};

/// How much memory a regular expression may take once it is compiled.
const REGEX_BYTES_MAX: usize = 256 << 10;

const IMAGE: &[&str] = &["name", "registry", "repository", "digest"];
const SIGNER: &[&str] = &["issuer", "subject", "claims", "key"];

/// The checked term, and whether its value changes with the time.
pub(super) fn compile(text: &str) -> Result<(Term, bool), Error> {
    // Without the standard macros: a loop stays the call it is written as.
    let program = Env::default().compile(text).map_err(|errors| {
        let first = errors.errors.first();
        Error::Syntax(first.map_or_else(|| UNREADABLE.to_owned(), told))
    })?;
    let mut compiler = Compiler::default();
    let (term, kind) = compiler.term(program.expression())?;
    match kind {
        Kind::Bool | Kind::Any => Ok((term, compiler.asks_the_time)),
        other => Err(Error::Kind(format!(
            "it yields {}, and a condition is true or false",
            other.as_str()
        ))),
    }
}

const UNREADABLE: &str = "it does not parse";

/// The parser's first complaint, without all that could have stood there instead.
fn told(error: &ParseError) -> String {
    let line = error.msg.lines().next().unwrap_or(UNREADABLE);
    let line = line.strip_prefix("Syntax error: ").unwrap_or(line);
    let (what, _) = line.split_once(" expecting {").unwrap_or((line, ""));
    let what = match what.split_once(": ").unwrap_or((what, "")) {
        ("token recognition error at", token) => format!("unexpected {token}"),
        _ => what
            .replace("mismatched input '<EOF>'", "it ends too early")
            .replace("'<EOF>'", "its end")
            .replace("mismatched input", "unexpected")
            .replace("extraneous input", "unexpected"),
    };
    match error.pos {
        (line @ 1.., column @ 0..) => format!("{what} (line {line}, column {})", column + 1),
        _ => what,
    }
}

/// What is known of a value before there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    Null,
    Bool,
    Int,
    Double,
    Text,
    Time,
    Period,
    List,
    Map,
    Type,
}

/// The types that values have, by their names in CEL.
const TYPES: &[&str] = &[
    "null_type",
    "bool",
    "int",
    "double",
    "string",
    "list",
    "map",
];

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Null => "null",
            Self::Bool => "a truth value",
            Self::Int => "a whole number",
            Self::Double => "a number",
            Self::Text => "a text",
            Self::Time => "a timestamp",
            Self::Period => "a duration",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Type => "a type",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }

    /// Whether values of the two kinds have an order.
    fn compares_with(self, other: Self) -> bool {
        let ordered = |kind| !matches!(kind, Self::Null | Self::List | Self::Map | Self::Type);
        ordered(self)
            && ordered(other)
            && (self == other
                || self == Self::Any
                || other == Self::Any
                || (self.is_number() && other.is_number()))
    }
}

#[derive(Default)]
struct Compiler {
    /// The variables of the loops around the place that is read, the innermost last.
    locals: Vec<String>,
    asks_the_time: bool,
}

type Checked = Result<(Term, Kind), Error>;

impl Compiler {
    fn term(&mut self, expression: &IdedExpr) -> Checked {
        match &expression.expr {
            Expr::Literal(value) => literal(value),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.field(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let elements = list.elements.iter();
                let terms = elements.map(|element| Ok(self.term(element)?.0));
                let terms = terms.collect::<Result<_, Error>>()?;
                Ok((Term::List(terms), Kind::List))
            }
            Expr::Map(_) | Expr::Struct(_) => Err(Error::Unsupported("a map that is written out")),
            Expr::Comprehension(_) | Expr::Unspecified => Err(Error::Syntax(UNREADABLE.to_owned())),
        }
    }

    fn wanted(&mut self, expression: &IdedExpr, wanted: Kind, by: &str) -> Result<Term, Error> {
        let (term, kind) = self.term(expression)?;
        if kind == wanted || kind == Kind::Any {
            return Ok(term);
        }
        Err(Error::Kind(format!(
            "{by} wants {}, and `{term}` is {}",
            wanted.as_str(),
            kind.as_str()
        )))
    }

    fn variable(&mut self, name: &str) -> Checked {
        if let Some(depth) = self.locals.iter().rposition(|local| local == name) {
            let name = name.to_owned();
            return Ok((Term::Local { name, depth }, Kind::Any));
        }
        if TYPES.contains(&name) {
            let name = Literal::Text(name.to_owned());
            return Ok((Term::Literal(name), Kind::Type));
        }
        let given = Given::ALL.into_iter().find(|given| given.as_str() == name);
        let given = given.ok_or_else(|| Error::Variable(name.to_owned()))?;
        let kind = match given {
            Given::Predicate => Kind::Any,
            Given::Subject => Kind::List,
            Given::Image | Given::Signer => Kind::Map,
            Given::Now => {
                self.asks_the_time = true;
                Kind::Time
            }
        };
        Ok((Term::Given(given), kind))
    }

    fn field(&mut self, select: &SelectExpr) -> Checked {
        let (operand, kind) = self.term(&select.operand)?;
        if !matches!(kind, Kind::Any | Kind::Map) {
            return Err(Error::Kind(format!(
                "`{operand}` is {}, and has no fields",
                kind.as_str()
            )));
        }
        let known = match &operand {
            Term::Given(Given::Image) => Some(IMAGE),
            Term::Given(Given::Signer) => Some(SIGNER),
            _ => None,
        };
        if known.is_some_and(|known| !known.contains(&select.field.as_str())) {
            return Err(Error::Field(operand.to_string()));
        }
        let kind = match &operand {
            Term::Given(Given::Image) => Kind::Text,
            Term::Given(Given::Signer) if select.field == "claims" => Kind::Map,
            Term::Given(Given::Signer) => Kind::Text,
            _ => Kind::Any,
        };
        Ok((Term::Field(Box::new(operand), select.field.clone()), kind))
    }

    fn call(&mut self, call: &CallExpr) -> Checked {
        let name = call.func_name.as_str();
        if let Some(target) = &call.target
            && let Some(kind) = loop_kind(name)
        {
            return self.go_over(kind, name, target, &call.args);
        }
        let arguments: Vec<&IdedExpr> = call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .collect();
        match (name, arguments.as_slice()) {
            ("has", [expression]) => match &expression.expr {
                Expr::Select(select) => match self.field(select)?.0 {
                    Term::Field(operand, name) => Ok((Term::Has(operand, name), Kind::Bool)),
                    term => Ok((term, Kind::Any)),
                },
                _ => Err(Error::Kind("`has` wants a field: has(a.b)".to_owned())),
            },
            ("matches", [text, pattern]) => self.matches(text, pattern),
            (operators::LOGICAL_NOT, [operand]) => {
                let operand = self.wanted(operand, Kind::Bool, "`!`")?;
                Ok((Term::Not(Box::new(operand)), Kind::Bool))
            }
            (operators::NEGATE, [operand]) => {
                let (operand, kind) = self.term(operand)?;
                match kind {
                    Kind::Int | Kind::Double | Kind::Any => {
                        Ok((Term::Negate(Box::new(operand)), kind))
                    }
                    _ => Err(Error::Kind(format!(
                        "`-` wants a number, and has {}",
                        kind.as_str()
                    ))),
                }
            }
            (operators::LOGICAL_AND, [one, two]) => {
                let one = self.wanted(one, Kind::Bool, "`&&`")?;
                let two = self.wanted(two, Kind::Bool, "`&&`")?;
                Ok((Term::And(Box::new(one), Box::new(two)), Kind::Bool))
            }
            (operators::LOGICAL_OR, [one, two]) => {
                let one = self.wanted(one, Kind::Bool, "`||`")?;
                let two = self.wanted(two, Kind::Bool, "`||`")?;
                Ok((Term::Or(Box::new(one), Box::new(two)), Kind::Bool))
            }
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let condition = self.wanted(condition, Kind::Bool, "`?:`")?;
                let ((yes, one), (no, two)) = (self.term(yes)?, self.term(no)?);
                let kind = if one == two { one } else { Kind::Any };
                Ok((Term::Conditional(Box::new([condition, yes, no])), kind))
            }
            (operators::INDEX, [operand, index]) => self.index(operand, index),
            (operators::EQUALS | operators::NOT_EQUALS, [one, two]) => {
                let ((one, first), (two, second)) = (self.term(one)?, self.term(two)?);
                if (first == Kind::Type) != (second == Kind::Type) {
                    let why = "a type can only be compared with a type: type(a.b) == list";
                    return Err(Error::Kind(why.to_owned()));
                }
                let sides = Box::new([one, two]);
                let equal = name == operators::EQUALS;
                Ok((Term::Equal { sides, equal }, Kind::Bool))
            }
            (operators::IN, [item, holder]) => self.contained(item, holder),
            (_, [one, two]) if comparison(name).is_some() => self.compare(name, one, two),
            (_, [one, two]) if arithmetic(name).is_some() => self.compute(name, one, two),
            _ => self.function(name, &arguments),
        }
    }

    fn index(&mut self, operand: &IdedExpr, index: &IdedExpr) -> Checked {
        let ((operand, holder), (index, key)) = (self.term(operand)?, self.term(index)?);
        let fits = match holder {
            Kind::Map => matches!(key, Kind::Text | Kind::Any),
            Kind::List => matches!(key, Kind::Int | Kind::Any),
            Kind::Any => matches!(key, Kind::Text | Kind::Int | Kind::Any),
            _ => false,
        };
        if !fits {
            return Err(Error::Kind(format!(
                "`{operand}` is {}, and cannot be asked for {}",
                holder.as_str(),
                key.as_str()
            )));
        }
        Ok((Term::Index(Box::new(operand), Box::new(index)), Kind::Any))
    }

    fn contained(&mut self, item: &IdedExpr, holder: &IdedExpr) -> Checked {
        let (item, (holder, kind)) = (self.term(item)?.0, self.term(holder)?);
        if !matches!(kind, Kind::List | Kind::Map | Kind::Any) {
            return Err(Error::Kind(format!(
                "`in` wants a list or a map, and `{holder}` is {}",
                kind.as_str()
            )));
        }
        Ok((Term::In(Box::new([item, holder])), Kind::Bool))
    }

    fn compare(&mut self, name: &str, one: &IdedExpr, two: &IdedExpr) -> Checked {
        let ((one, first), (two, second)) = (self.term(one)?, self.term(two)?);
        let comparison = comparison(name).ok_or_else(|| Error::Function(name.to_owned()))?;
        if !first.compares_with(second) {
            return Err(Error::Kind(format!(
                "{} cannot be compared with {}",
                first.as_str(),
                second.as_str()
            )));
        }
        Ok((Term::Compare(comparison, Box::new([one, two])), Kind::Bool))
    }

    fn compute(&mut self, name: &str, one: &IdedExpr, two: &IdedExpr) -> Checked {
        let ((one, first), (two, second)) = (self.term(one)?, self.term(two)?);
        let operator = arithmetic(name).ok_or_else(|| Error::Function(name.to_owned()))?;
        let adds = operator == Arithmetic::Add;
        let moves = adds || operator == Arithmetic::Subtract;
        let kind = match (first, second) {
            (Kind::Any, _) | (_, Kind::Any) => Kind::Any,
            (Kind::Int, Kind::Int) => Kind::Int,
            (Kind::Double, Kind::Double) if operator != Arithmetic::Modulo => Kind::Double,
            (Kind::Text, Kind::Text) if adds => Kind::Text,
            (Kind::Time, Kind::Period) if moves => Kind::Time,
            (Kind::Period, Kind::Time) if adds => Kind::Time,
            (Kind::Time, Kind::Time) if operator == Arithmetic::Subtract => Kind::Period,
            (Kind::Period, Kind::Period) if moves => Kind::Period,
            (one, two) => {
                return Err(Error::Kind(format!(
                    "{} and {} cannot be computed with",
                    one.as_str(),
                    two.as_str()
                )));
            }
        };
        Ok((Term::Arithmetic(operator, Box::new([one, two])), kind))
    }

    fn matches(&mut self, text: &IdedExpr, pattern: &IdedExpr) -> Checked {
        let text = self.wanted(text, Kind::Text, "`matches`")?;
        let Expr::Literal(LiteralValue::String(pattern)) = &pattern.expr else {
            return Err(Error::Unsupported("a regular expression that is computed"));
        };
        let regex = RegexBuilder::new(pattern.inner())
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|_| Error::Kind("`matches` wants a regular expression".to_owned()))?;
        Ok((Term::Matches(Box::new(text), regex), Kind::Bool))
    }

    fn function(&mut self, name: &str, arguments: &[&IdedExpr]) -> Checked {
        let function = Function::ALL
            .into_iter()
            .find(|function| function.as_str() == name)
            .ok_or_else(|| Error::Function(name.to_owned()))?;
        let (count, wanted) = match function {
            Function::StartsWith | Function::EndsWith | Function::Contains => {
                (2, "a text and one argument: a.startsWith(\"b\")")
            }
            _ => (1, "one argument"),
        };
        if arguments.len() != count {
            let name = name.to_owned();
            return Err(Error::Arguments { name, wanted });
        }
        let by = format!("`{name}`");
        let mut terms = Vec::new();
        for argument in arguments {
            terms.push(match function {
                Function::Size
                | Function::Int
                | Function::Double
                | Function::String
                | Function::Type => self.term(argument)?.0,
                Function::Timestamp | Function::Duration => {
                    let (term, kind) = self.term(argument)?;
                    let own = result_of(function);
                    if !matches!(kind, Kind::Any | Kind::Text) && kind != own {
                        return Err(Error::Kind(format!("{by} wants a text")));
                    }
                    constant(function, term)?
                }
                _ => self.wanted(argument, Kind::Text, &by)?,
            });
        }
        let kind = result_of(function);
        match (terms.pop(), function) {
            // It was a constant, and is now its value.
            (Some(term @ Term::Literal(Literal::Time(_) | Literal::Period(_))), _)
                if terms.is_empty() =>
            {
                Ok((term, kind))
            }
            (last, function) => {
                terms.extend(last);
                Ok((Term::Call(function, terms), kind))
            }
        }
    }

    fn go_over(
        &mut self,
        kind: LoopKind,
        name: &str,
        target: &IdedExpr,
        arguments: &[IdedExpr],
    ) -> Checked {
        let wrong = || Error::Arguments {
            name: name.to_owned(),
            wanted: "a variable and what is asked of it: a.all(b, b > 1)",
        };
        let [variable, rest @ ..] = arguments else {
            return Err(wrong());
        };
        let (Expr::Ident(variable), 1..=2) = (&variable.expr, rest.len()) else {
            return Err(wrong());
        };
        let (over, what) = self.term(target)?;
        if !matches!(what, Kind::Any | Kind::List | Kind::Map) {
            return Err(Error::Kind(format!(
                "`{name}` goes over a list or a map, and `{over}` is {}",
                what.as_str()
            )));
        }
        self.locals.push(variable.clone());
        let parts = match (kind, rest) {
            (LoopKind::Map, [body]) => self.term(body).map(|(body, _)| (None, Some(body))),
            (LoopKind::Map, [test, body]) => self
                .wanted(test, Kind::Bool, "`map`")
                .and_then(|test| Ok((Some(test), Some(self.term(body)?.0)))),
            (_, [test]) => self
                .wanted(test, Kind::Bool, &format!("`{name}`"))
                .map(|test| (Some(test), None)),
            _ => Err(wrong()),
        };
        self.locals.pop();
        let (test, body) = parts?;
        let result = match kind {
            LoopKind::Map | LoopKind::Filter => Kind::List,
            _ => Kind::Bool,
        };
        let looped = Loop {
            kind,
            over,
            test,
            body,
        };
        Ok((Term::Loop(Box::new(looped)), result))
    }
}

fn result_of(function: Function) -> Kind {
    match function {
        Function::Size | Function::Int => Kind::Int,
        Function::StartsWith | Function::EndsWith | Function::Contains => Kind::Bool,
        Function::LowerAscii | Function::UpperAscii | Function::String => Kind::Text,
        Function::Timestamp => Kind::Time,
        Function::Duration => Kind::Period,
        Function::Double => Kind::Double,
        Function::Type => Kind::Type,
    }
}

/// A time or duration that is written out is read at load, where a slip is told.
fn constant(function: Function, term: Term) -> Result<Term, Error> {
    let Term::Literal(Literal::Text(text)) = &term else {
        return Ok(term);
    };
    let value = match function {
        Function::Timestamp => text.parse().ok().map(Literal::Time),
        _ => duration(text).map(Literal::Period),
    };
    value.map(Term::Literal).ok_or_else(|| {
        Error::Kind(format!(
            "{text:?} is no {} (write {})",
            function.as_str(),
            match function {
                Function::Timestamp => "2026-12-31T18:00:00Z",
                _ => "1h30m",
            }
        ))
    })
}

/// A duration as CEL writes it: whole hours, minutes, seconds and milliseconds.
pub(super) fn duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit())?;
        let (number, tail) = rest.split_at(end);
        let unit = tail.find(|character: char| character.is_ascii_digit());
        let (unit, tail) = tail.split_at(unit.unwrap_or(tail.len()));
        let milliseconds: i64 = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        let part = number.parse::<i64>().ok()?.checked_mul(milliseconds)?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(SignedDuration::from_millis(if negative {
        -total
    } else {
        total
    }))
}

fn literal(value: &LiteralValue) -> Checked {
    let (literal, kind) = match value {
        LiteralValue::Boolean(truth) => (Literal::Bool(*truth.inner()), Kind::Bool),
        LiteralValue::Int(whole) => (Literal::Int(*whole.inner()), Kind::Int),
        LiteralValue::Double(number) => (Literal::Double(*number.inner()), Kind::Double),
        LiteralValue::String(text) => (Literal::Text(text.inner().to_owned()), Kind::Text),
        LiteralValue::Null => (Literal::Null, Kind::Null),
        LiteralValue::UInt(_) => return Err(Error::Unsupported("an unsigned number")),
        LiteralValue::Bytes(_) => return Err(Error::Unsupported("a row of bytes")),
    };
    Ok((Term::Literal(literal), kind))
}

fn loop_kind(name: &str) -> Option<LoopKind> {
    match name {
        operators::ALL => Some(LoopKind::All),
        operators::EXISTS => Some(LoopKind::Exists),
        operators::EXISTS_ONE => Some(LoopKind::ExistsOne),
        operators::FILTER => Some(LoopKind::Filter),
        operators::MAP => Some(LoopKind::Map),
        _ => None,
    }
}

fn comparison(name: &str) -> Option<Comparison> {
    match name {
        operators::LESS => Some(Comparison::Less),
        operators::LESS_EQUALS => Some(Comparison::LessOrEqual),
        operators::GREATER => Some(Comparison::Greater),
        operators::GREATER_EQUALS => Some(Comparison::GreaterOrEqual),
        _ => None,
    }
}

fn arithmetic(name: &str) -> Option<Arithmetic> {
    match name {
        operators::ADD => Some(Arithmetic::Add),
        operators::SUBSTRACT => Some(Arithmetic::Subtract),
        operators::MULTIPLY => Some(Arithmetic::Multiply),
        operators::DIVIDE => Some(Arithmetic::Divide),
        operators::MODULO => Some(Arithmetic::Modulo),
        _ => None,
    }
}

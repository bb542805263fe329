//! Evaluates a checked condition, step by counted step.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::compile;
use super::term::{Arithmetic, Comparison, Function, Given, Loop, LoopKind, Term};
use super::value::Value;

/// Why there is no value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stop {
    /// A field or an item that is not there: its path.
    Missing(String),
    /// A value of a kind with which nothing can be done: a sentence.
    Kind(String),
    /// The steps are spent.
    Steps,
}

type Answer<'a> = Result<Value<'a>, Stop>;

/// How many bytes of text, and how many values that are copied, are looked at for one step.
const BYTES_PER_STEP: usize = 64;

/// One evaluation of a condition.
pub(super) struct Evaluation<'a> {
    /// Predicate, subject, image and signer.
    given: [&'a Json; 4],
    now: Timestamp,
    steps_left: Cell<usize>,
}

/// The items that the loops around a term stand at, the innermost last.
type Items<'a> = Vec<Value<'a>>;

impl<'a> Evaluation<'a> {
    pub(super) fn new(given: [&'a Json; 4], now: Timestamp, steps_max: usize) -> Self {
        Self {
            given,
            // A whole second, so that an answer holds for as long as it is said to.
            now: Timestamp::from_second(now.as_second()).unwrap_or(now),
            steps_left: Cell::new(steps_max),
        }
    }

    /// Whether the condition is true.
    pub(super) fn truth(&self, term: &'a Term) -> Result<bool, Stop> {
        self.bool(term, &mut Vec::new())
    }

    /// Pays for work that grows with its input.
    fn spend(&self, steps: usize) -> Result<(), Stop> {
        let left = self.steps_left.get().checked_sub(steps);
        self.steps_left.set(left.unwrap_or(0));
        left.map(drop).ok_or(Stop::Steps)
    }

    fn bool(&self, term: &'a Term, items: &mut Items<'a>) -> Result<bool, Stop> {
        match self.value(term, items)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(not(term, "a truth value", &other)),
        }
    }

    fn text(&self, term: &'a Term, items: &mut Items<'a>) -> Result<Cow<'a, str>, Stop> {
        match self.value(term, items)? {
            Value::Text(text) => {
                self.spend(text.len() / BYTES_PER_STEP)?;
                Ok(text)
            }
            other => Err(not(term, "a text", &other)),
        }
    }

    pub(super) fn value(&self, term: &'a Term, items: &mut Items<'a>) -> Answer<'a> {
        self.spend(1)?;
        match term {
            Term::Literal(literal) => Ok(literal.into()),
            Term::Given(given) => Ok(self.given(*given)),
            Term::Local { depth, name } => {
                let item = items.get(*depth).cloned();
                let item = item.ok_or_else(|| Stop::Missing(name.clone()))?;
                self.spend(weight(&item))?;
                Ok(item)
            }
            Term::Field(operand, name) => match self.value(operand, items)? {
                Value::Json(Json::Object(map)) => map
                    .get(name)
                    .map(Value::from)
                    .ok_or_else(|| Stop::Missing(term.to_string())),
                other => Err(not(operand, "a map", &other)),
            },
            Term::Has(operand, name) => match self.value(operand, items)? {
                Value::Json(Json::Object(map)) => Ok(Value::Bool(map.contains_key(name))),
                other => Err(not(operand, "a map", &other)),
            },
            Term::Index(operand, index) => self.index(term, operand, index, items),
            Term::List(terms) => {
                let values = terms.iter().map(|term| self.value(term, items));
                values.collect::<Result<_, _>>().map(Value::List)
            }
            Term::Not(operand) => Ok(Value::Bool(!self.bool(operand, items)?)),
            Term::Negate(operand) => match self.value(operand, items)? {
                Value::Int(whole) => whole.checked_neg().map(Value::Int).ok_or_else(overflow),
                Value::Double(number) => Ok(Value::Double(-number)),
                other => Err(not(operand, "a number", &other)),
            },
            Term::And(one, two) => self.either_way(one, two, false, items),
            Term::Or(one, two) => self.either_way(one, two, true, items),
            Term::Conditional(parts) => {
                let [condition, yes, no] = &**parts;
                let branch = if self.bool(condition, items)? {
                    yes
                } else {
                    no
                };
                self.value(branch, items)
            }
            Term::Equal { sides, equal } => {
                let (one, two) = self.both(sides, items)?;
                Ok(Value::Bool(self.equal(&one, &two)? == *equal))
            }
            Term::Compare(comparison, sides) => self.compare(*comparison, sides, items),
            Term::Arithmetic(operator, sides) => self.arithmetic(*operator, sides, items),
            Term::In(sides) => self.contained(sides, items),
            Term::Call(function, arguments) => self.call(*function, arguments, items),
            Term::Matches(operand, regex) => {
                let text = self.text(operand, items)?;
                // Linear in the text, by a factor of the expression's size.
                self.spend(text.len() / 8)?;
                Ok(Value::Bool(regex.is_match(&text)))
            }
            Term::Loop(looped) => self.go_over(looped, items),
        }
    }

    fn given(&self, given: Given) -> Value<'a> {
        let [predicate, subject, image, signer] = self.given;
        match given {
            Given::Predicate => predicate.into(),
            Given::Subject => subject.into(),
            Given::Image => image.into(),
            Given::Signer => signer.into(),
            Given::Now => Value::Time(self.now),
        }
    }

    fn both(
        &self,
        sides: &'a [Term; 2],
        items: &mut Items<'a>,
    ) -> Result<(Value<'a>, Value<'a>), Stop> {
        let [one, two] = sides;
        Ok((self.value(one, items)?, self.value(two, items)?))
    }

    /// `&&` and `||`: if one side decides, it does not matter that the other has no value.
    fn either_way(
        &self,
        one: &'a Term,
        two: &'a Term,
        decisive: bool,
        items: &mut Items<'a>,
    ) -> Answer<'a> {
        let first = self.bool(one, items);
        if matches!(first, Ok(truth) if truth == decisive) || first == Err(Stop::Steps) {
            return first.map(Value::Bool);
        }
        match (first, self.bool(two, items)) {
            (_, Ok(truth)) if truth == decisive => Ok(Value::Bool(decisive)),
            (Err(stop), _) | (Ok(_), Err(stop)) => Err(stop),
            (Ok(_), Ok(_)) => Ok(Value::Bool(!decisive)),
        }
    }

    fn index(
        &self,
        term: &'a Term,
        operand: &'a Term,
        index: &'a Term,
        items: &mut Items<'a>,
    ) -> Answer<'a> {
        let missing = || Stop::Missing(term.to_string());
        let (holder, key) = (self.value(operand, items)?, self.value(index, items)?);
        match (&holder, &key) {
            (Value::Json(Json::Object(map)), Value::Text(key)) => {
                map.get(key.as_ref()).map(Value::from).ok_or_else(missing)
            }
            (Value::Json(Json::Array(list)), Value::Int(position)) => {
                let item = usize::try_from(*position).ok();
                let item = item.and_then(|position| list.get(position));
                item.map(Value::from).ok_or_else(missing)
            }
            (Value::List(list), Value::Int(position)) => {
                let item = usize::try_from(*position).ok();
                let item = item.and_then(|position| list.get(position));
                item.cloned().ok_or_else(missing)
            }
            _ => Err(Stop::Kind(format!(
                "`{operand}` is {}, and cannot be asked for {}",
                holder.kind(),
                key.kind()
            ))),
        }
    }

    fn compare(
        &self,
        comparison: Comparison,
        sides: &'a [Term; 2],
        items: &mut Items<'a>,
    ) -> Answer<'a> {
        let (one, two) = self.both(sides, items)?;
        if let Value::Text(text) = &one {
            self.spend(text.len() / BYTES_PER_STEP)?;
        }
        let order = one.order(&two).ok_or_else(|| {
            let [first, second] = sides;
            Stop::Kind(format!(
                "`{first}` is {}, and cannot be compared with `{second}`, which is {}",
                one.kind(),
                two.kind()
            ))
        })?;
        Ok(Value::Bool(match comparison {
            Comparison::Less => order == Ordering::Less,
            Comparison::LessOrEqual => order != Ordering::Greater,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::GreaterOrEqual => order != Ordering::Less,
        }))
    }

    /// Values of different kinds are different, numbers aside.
    fn equal(&self, one: &Value<'a>, two: &Value<'a>) -> Result<bool, Stop> {
        self.spend(1)?;
        match (one, two) {
            (Value::Null, Value::Null) => Ok(true),
            (Value::Text(one), Value::Text(two)) => {
                self.spend(one.len().min(two.len()) / BYTES_PER_STEP)?;
                Ok(one == two)
            }
            (Value::Json(Json::Object(one)), Value::Json(Json::Object(two))) => {
                if one.len() != two.len() {
                    return Ok(false);
                }
                for (key, value) in one {
                    let same = match two.get(key) {
                        Some(other) => self.equal(&value.into(), &other.into())?,
                        None => false,
                    };
                    if !same {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => match (length(one), length(two)) {
                (Some(length_of_one), Some(length_of_two)) => {
                    if length_of_one != length_of_two {
                        return Ok(false);
                    }
                    for (one, two) in iterate(one).zip(iterate(two)) {
                        if !self.equal(&one, &two)? {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                }
                _ => Ok(one.order(two) == Some(Ordering::Equal)),
            },
        }
    }

    fn arithmetic(
        &self,
        operator: Arithmetic,
        sides: &'a [Term; 2],
        items: &mut Items<'a>,
    ) -> Answer<'a> {
        let (one, two) = self.both(sides, items)?;
        match (operator, one, two) {
            (_, Value::Int(one), Value::Int(two)) => whole_numbers(operator, one, two),
            (_, Value::Double(one), Value::Double(two)) => doubles(operator, one, two),
            (Arithmetic::Add, Value::Text(one), Value::Text(two)) => {
                self.spend((one.len() + two.len()) / BYTES_PER_STEP)?;
                Ok(Value::Text(Cow::Owned(format!("{one}{two}"))))
            }
            (Arithmetic::Add, Value::Time(time), Value::Period(period))
            | (Arithmetic::Add, Value::Period(period), Value::Time(time)) => {
                let sum = time.checked_add(period);
                sum.map(Value::Time).map_err(|_| overflow())
            }
            (Arithmetic::Subtract, Value::Time(time), Value::Period(period)) => {
                let difference = time.checked_sub(period);
                difference.map(Value::Time).map_err(|_| overflow())
            }
            (Arithmetic::Subtract, Value::Time(one), Value::Time(two)) => {
                Ok(Value::Period(one.duration_since(two)))
            }
            (Arithmetic::Add, Value::Period(one), Value::Period(two)) => {
                one.checked_add(two).map(Value::Period).ok_or_else(overflow)
            }
            (Arithmetic::Subtract, Value::Period(one), Value::Period(two)) => {
                one.checked_sub(two).map(Value::Period).ok_or_else(overflow)
            }
            (_, one, two) => Err(Stop::Kind(format!(
                "{} and {} cannot be computed with",
                one.kind(),
                two.kind()
            ))),
        }
    }

    fn contained(&self, sides: &'a [Term; 2], items: &mut Items<'a>) -> Answer<'a> {
        let (item, holder) = self.both(sides, items)?;
        if let Value::Json(Json::Object(map)) = &holder {
            return Ok(Value::Bool(match &item {
                Value::Text(key) => map.contains_key(key.as_ref()),
                _ => false,
            }));
        }
        if length(&holder).is_none() {
            return Err(not(&sides[1], "a list or a map", &holder));
        }
        for candidate in iterate(&holder) {
            if self.equal(&item, &candidate)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }

    fn call(&self, function: Function, arguments: &'a [Term], items: &mut Items<'a>) -> Answer<'a> {
        let [first, rest @ ..] = arguments else {
            return Err(Stop::Kind(format!("{} of nothing", function.as_str())));
        };
        match function {
            Function::StartsWith | Function::EndsWith | Function::Contains => {
                let text = self.text(first, items)?;
                let part = match rest.first() {
                    Some(part) => self.text(part, items)?,
                    None => Cow::Borrowed(""),
                };
                Ok(Value::Bool(match function {
                    Function::StartsWith => text.starts_with(part.as_ref()),
                    Function::EndsWith => text.ends_with(part.as_ref()),
                    _ => text.contains(part.as_ref()),
                }))
            }
            Function::LowerAscii => {
                let text = self.text(first, items)?.to_ascii_lowercase();
                Ok(Value::Text(Cow::Owned(text)))
            }
            Function::UpperAscii => {
                let text = self.text(first, items)?.to_ascii_uppercase();
                Ok(Value::Text(Cow::Owned(text)))
            }
            _ => {
                let value = self.value(first, items)?;
                if let Value::Text(text) = &value {
                    self.spend(text.len() / BYTES_PER_STEP)?;
                }
                convert(function, first, value)
            }
        }
    }

    fn go_over(&self, looped: &'a Loop, items: &mut Items<'a>) -> Answer<'a> {
        let over = self.value(&looped.over, items)?;
        if !matches!(over, Value::List(_) | Value::Json(_)) {
            return Err(not(&looped.over, "a list or a map", &over));
        }
        let mut made = Vec::new();
        let mut count = 0_usize;
        let mut first_stop = None;
        for item in iterate(&over) {
            self.spend(1 + weight(&item))?;
            items.push(item);
            let step = self.one_item(looped, items);
            let item = items.pop();
            match (looped.kind, step) {
                (_, Err(Stop::Steps)) => return Err(Stop::Steps),
                // One item that decides makes up for others that have no value.
                (LoopKind::All, Ok((false, _))) => return Ok(Value::Bool(false)),
                (LoopKind::Exists, Ok((true, _))) => return Ok(Value::Bool(true)),
                (LoopKind::All | LoopKind::Exists, Err(stop)) => {
                    first_stop.get_or_insert(stop);
                }
                (_, Err(stop)) => return Err(stop),
                (_, Ok((false, _))) => {}
                (LoopKind::Filter, Ok((true, _))) => made.extend(item),
                (_, Ok((true, value))) => {
                    count += 1;
                    made.extend(value);
                }
            }
        }
        match (looped.kind, first_stop) {
            (_, Some(stop)) => Err(stop),
            (LoopKind::All, None) => Ok(Value::Bool(true)),
            (LoopKind::Exists, None) => Ok(Value::Bool(false)),
            (LoopKind::ExistsOne, None) => Ok(Value::Bool(count == 1)),
            (LoopKind::Filter | LoopKind::Map, None) => Ok(Value::List(made)),
        }
    }

    /// Whether the item passes the loop's test, and what the loop makes of it.
    fn one_item(
        &self,
        looped: &'a Loop,
        items: &mut Items<'a>,
    ) -> Result<(bool, Option<Value<'a>>), Stop> {
        let passes = match &looped.test {
            Some(test) => self.bool(test, items)?,
            None => true,
        };
        let value = match &looped.body {
            Some(body) if passes => Some(self.value(body, items)?),
            _ => None,
        };
        Ok((passes, value))
    }
}

/// What it costs to copy a value that the condition made.
fn weight(value: &Value<'_>) -> usize {
    match value {
        Value::List(list) => list.iter().map(|item| 1 + weight(item)).sum(),
        Value::Text(Cow::Owned(text)) => text.len() / BYTES_PER_STEP,
        _ => 0,
    }
}

/// How many items a list has; `None` for what is no list.
fn length(value: &Value<'_>) -> Option<usize> {
    match value {
        Value::List(list) => Some(list.len()),
        Value::Json(Json::Array(list)) => Some(list.len()),
        _ => None,
    }
}

/// The items of a list, or the keys of a map.
fn iterate<'v, 'a>(value: &'v Value<'a>) -> Box<dyn Iterator<Item = Value<'a>> + 'v> {
    match value {
        Value::List(list) => Box::new(list.iter().cloned()),
        Value::Json(Json::Array(list)) => Box::new(list.iter().map(Value::from)),
        Value::Json(Json::Object(map)) => {
            Box::new(map.keys().map(|key| Value::Text(Cow::Borrowed(key))))
        }
        _ => Box::new(std::iter::empty()),
    }
}

fn convert<'a>(function: Function, term: &Term, value: Value<'a>) -> Answer<'a> {
    let unreadable = |what: &str| Stop::Kind(format!("`{term}` is not {what}"));
    match (function, value) {
        (Function::Size, Value::Text(text)) => whole(text.chars().count()),
        (Function::Size, Value::Json(Json::Object(map))) => whole(map.len()),
        (Function::Size, value) => match length(&value) {
            Some(length) => whole(length),
            None => Err(not(term, "a text, a list or a map", &value)),
        },
        (Function::Timestamp, Value::Text(text)) => match text.parse() {
            Ok(time) => Ok(Value::Time(time)),
            Err(_) => Err(unreadable("a time like 2026-12-31T18:00:00Z")),
        },
        (Function::Timestamp, time @ Value::Time(_)) => Ok(time),
        (Function::Duration, Value::Text(text)) => match compile::duration(&text) {
            Some(period) => Ok(Value::Period(period)),
            None => Err(unreadable("a duration like 1h30m")),
        },
        (Function::Duration, period @ Value::Period(_)) => Ok(period),
        (Function::Int, whole @ Value::Int(_)) => Ok(whole),
        (Function::Int, Value::Text(text)) => match text.parse() {
            Ok(whole) => Ok(Value::Int(whole)),
            Err(_) => Err(unreadable("a whole number")),
        },
        (Function::Int, Value::Double(number)) => truncated(number).ok_or_else(overflow),
        (Function::Int, Value::Time(time)) => Ok(Value::Int(time.as_second())),
        (Function::Double, number @ Value::Double(_)) => Ok(number),
        #[expect(clippy::cast_precision_loss, reason = "what `double` means")]
        (Function::Double, Value::Int(whole)) => Ok(Value::Double(whole as f64)),
        (Function::Double, Value::Text(text)) => match text.parse() {
            Ok(number) => Ok(Value::Double(number)),
            Err(_) => Err(unreadable("a number")),
        },
        (Function::Type, value) => Ok(Value::Text(Cow::Borrowed(value.type_name()))),
        (Function::String, text @ Value::Text(_)) => Ok(text),
        (Function::String, Value::Int(whole)) => Ok(owned(whole.to_string())),
        (Function::String, Value::Double(number)) => Ok(owned(number.to_string())),
        (Function::String, Value::Bool(truth)) => Ok(owned(truth.to_string())),
        (Function::String, Value::Time(time)) => Ok(owned(time.to_string())),
        (function, value) => Err(Stop::Kind(format!(
            "`{term}` is {}, of which there is no {}",
            value.kind(),
            function.as_str()
        ))),
    }
}

fn owned<'a>(text: String) -> Value<'a> {
    Value::Text(Cow::Owned(text))
}

fn whole<'a>(count: usize) -> Answer<'a> {
    i64::try_from(count).map(Value::Int).map_err(|_| overflow())
}

fn truncated<'a>(number: f64) -> Option<Value<'a>> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was checked, and the fraction is to be dropped"
    )]
    (number.abs() < BEYOND).then_some(Value::Int(number as i64))
}

fn whole_numbers<'a>(operator: Arithmetic, one: i64, two: i64) -> Answer<'a> {
    let result = match operator {
        Arithmetic::Add => one.checked_add(two),
        Arithmetic::Subtract => one.checked_sub(two),
        Arithmetic::Multiply => one.checked_mul(two),
        Arithmetic::Divide => one.checked_div(two),
        Arithmetic::Modulo => one.checked_rem(two),
    };
    result.map(Value::Int).ok_or_else(overflow)
}

fn doubles<'a>(operator: Arithmetic, one: f64, two: f64) -> Answer<'a> {
    Ok(Value::Double(match operator {
        Arithmetic::Add => one + two,
        Arithmetic::Subtract => one - two,
        Arithmetic::Multiply => one * two,
        Arithmetic::Divide => one / two,
        Arithmetic::Modulo => {
            return Err(Stop::Kind("`%` is for whole numbers".to_owned()));
        }
    }))
}

fn overflow() -> Stop {
    Stop::Kind("a number, time or duration is out of range, or divided by zero".to_owned())
}

fn not(term: &Term, wanted: &str, found: &Value<'_>) -> Stop {
    Stop::Kind(format!("`{term}` is {}, and not {wanted}", found.kind()))
}

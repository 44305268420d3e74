//! Walks a parsed TOML tree, takes the known fields out of it, and collects every mistake with its
//! line and path. It knows types and spans, but not what a study is.

use std::collections::HashSet;
use std::ops::Range;
use std::str::FromStr;

use edgesmith_search_space::{Multiple, Scheduled};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{SpecError, SpecErrors};
use crate::one_line;

/// Most mistakes that are listed. The others are only counted.
const MAX_LISTED: usize = 100;
/// Longest path and longest message that a mistake is reported with, in characters. Both may quote
/// the file, and a message the names of a network's layers.
const MAX_FIELD: usize = 200;
const MAX_MESSAGE: usize = 2000;

/// The mistakes so far, and where the lines of the text begin. Recording one takes the same time
/// wherever it is, and however many there are.
pub struct Mistakes {
    /// Places of the line breaks, ascending.
    breaks: Vec<usize>,
    /// Whether the study was accepted before, so that no broken rule is reported.
    accepted: bool,
    /// The first ones.
    listed: Vec<SpecError>,
    /// Number of all of them.
    count: usize,
    places: HashSet<Range<usize>>,
}

impl Mistakes {
    /// An empty list of mistakes.
    pub fn new(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at);
        Self {
            breaks: breaks.collect(),
            accepted: false,
            listed: Vec::new(),
            count: 0,
            places: HashSet::new(),
        }
    }

    /// For a study that an earlier version accepted by its own rules: no broken rule is recorded,
    /// only what makes it unreadable. This includes values that cannot be kept as they are, because
    /// a study must never change.
    pub fn of_accepted(text: &str) -> Self {
        Self { accepted: true, ..Self::new(text) }
    }

    /// Whether the study was accepted before, so that no rule is applied.
    pub fn accepted(&self) -> bool {
        self.accepted
    }

    /// Records a mistake at a place of the text.
    pub fn add(
        &mut self,
        span: &Range<usize>,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        if !self.accepted {
            self.refuse(span, field, message);
        }
    }

    /// Records what makes even a study unreadable that was accepted before.
    pub fn refuse(
        &mut self,
        span: &Range<usize>,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.count += 1;
        self.places.insert(span.clone());
        if !self.is_full() {
            let line = 1 + self.breaks.partition_point(|at| *at < span.start);
            let field = one_line(&field.into(), MAX_FIELD);
            let message = one_line(&message.into(), MAX_MESSAGE);
            self.listed.push(SpecError { line, field, message });
        }
    }

    /// Whether a further mistake is only counted.
    pub fn is_full(&self) -> bool {
        self.listed.len() >= MAX_LISTED
    }

    /// Whether a mistake was recorded at exactly this place.
    pub fn has_error_at(&self, span: &Range<usize>) -> bool {
        self.places.contains(span)
    }

    /// Number of mistakes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mistakes, sorted by line.
    pub fn into_errors(mut self) -> SpecErrors {
        self.listed.sort_by_key(|e| e.line);
        SpecErrors { more: self.count - self.listed.len(), listed: self.listed }
    }
}

/// One table of the file. Each field is taken once. Fields left at [`Table::finish`] are unknown.
pub struct Table<'i> {
    path: String,
    span: Range<usize>,
    /// Fields that nothing has taken yet.
    fields: DeTable<'i>,
    /// The place of every field, taken or not.
    places: Vec<(String, Range<usize>)>,
    /// Names that were asked for.
    known: Vec<&'static str>,
}

impl<'i> Table<'i> {
    /// The whole file.
    pub fn root(table: Spanned<DeTable<'i>>) -> Self {
        let span = table.span();
        Self::new(String::new(), span, table.into_inner())
    }

    fn new(path: String, span: Range<usize>, fields: DeTable<'i>) -> Self {
        let place = |(key, value): (&Spanned<_>, &Spanned<DeValue>)| {
            let name: &std::borrow::Cow<str> = key.get_ref();
            (name.to_string(), value.span())
        };
        let places = fields.iter().map(place).collect();
        Self { path, span, fields, places, known: Vec::new() }
    }

    /// Place of the table in the text.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Path of one of its fields.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Place of a field, or of the table if the field is missing.
    pub fn span_of(&self, name: &str) -> Range<usize> {
        let found = self.places.iter().find(|(field, _)| field == name);
        found.map_or_else(|| self.span(), |(_, span)| span.clone())
    }

    /// Whether a field is present and not yet taken.
    pub fn has(&self, name: &str) -> bool {
        self.fields.keys().any(|key| key.get_ref() == name)
    }

    /// Whether a field was present, taken or not.
    pub fn knew(&self, name: &str) -> bool {
        self.places.iter().any(|(field, _)| field == name)
    }

    /// Whether a field is present and is a text.
    pub fn is_text(&self, name: &str) -> bool {
        self.fields.iter().any(|(key, value)| key.get_ref() == name && value.get_ref().is_str())
    }

    fn take(&mut self, name: &'static str) -> Option<Spanned<DeValue<'i>>> {
        self.known.push(name);
        self.fields.remove(name)
    }

    /// A value of type `T`, if the field is present and has this type.
    pub fn optional<T: Scalar>(&mut self, name: &'static str, m: &mut Mistakes) -> Option<T> {
        let value = self.take(name)?;
        T::read_at(&value, &self.path(name), m)
    }

    /// A value with a default.
    pub fn or<T: Scalar>(&mut self, name: &'static str, default: T, m: &mut Mistakes) -> T {
        self.optional(name, m).unwrap_or(default)
    }

    /// A required value.
    pub fn required<T: Scalar>(&mut self, name: &'static str, m: &mut Mistakes) -> Option<T> {
        if !self.has(name) {
            self.known.push(name);
            m.add(&self.span, self.path(name), format!("is missing; {}", T::EXPECTED_FIELD));
            return None;
        }
        self.optional(name, m)
    }

    /// A value with a further check. A mistake is reported at its place, even in a study that was
    /// accepted before: with a default in place of the value it would be another study.
    pub fn checked<T: Scalar, U>(
        &mut self,
        name: &'static str,
        m: &mut Mistakes,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Option<U> {
        let span = self.span_of(name);
        let value = self.optional(name, m)?;
        match check(value) {
            Ok(checked) => Some(checked),
            Err(message) => {
                m.refuse(&span, self.path(name), message);
                None
            }
        }
    }

    /// A value that obeys a rule. In a study that was accepted before, the value is taken even if a
    /// later rule forbids it.
    pub fn obeying<T: Scalar + Copy>(
        &mut self,
        name: &'static str,
        m: &mut Mistakes,
        rule: impl FnOnce(T) -> Result<T, String>,
    ) -> Option<T> {
        let accepted = m.accepted();
        let check = |value: T| if accepted { Ok(value) } else { rule(value) };
        self.checked(name, m, check)
    }

    /// A number within a range, with a default.
    pub fn within<T: Scalar + PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        name: &'static str,
        default: T,
        range: (T, T),
        m: &mut Mistakes,
    ) -> T {
        let (low, high) = range;
        let rule = |v: T| {
            if v >= low && v <= high {
                Ok(v)
            } else {
                Err(format!("{v} is out of range; use {low} to {high}"))
            }
        };
        self.obeying(name, m, rule).unwrap_or(default)
    }

    /// A name from a closed set; `None` if it is absent or unknown.
    pub fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        name: &'static str,
        m: &mut Mistakes,
    ) -> Option<T> {
        self.checked(name, m, |text: String| text.parse().map_err(|e: T::Err| e.to_string()))
    }

    /// A list of values. A single value may be written without brackets. `None` if it is absent or
    /// holds a value of another type.
    pub fn list<T: Scalar>(&mut self, name: &'static str, m: &mut Mistakes) -> Option<Vec<T>> {
        let value = self.take(name)?;
        let path = self.path(name);
        let DeValue::Array(items) = value.get_ref() else {
            return T::read_at(&value, &path, m).map(|one| vec![one]);
        };
        let before = m.count();
        let list: Vec<T> = items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| T::read_at(item, &format!("{path}[{i}]"), m))
            .collect();
        (m.count() == before).then_some(list)
    }

    /// A table within this one, if the field is present and is a table.
    pub fn table(&mut self, name: &'static str, m: &mut Mistakes) -> Option<Table<'i>> {
        let value = self.take(name)?;
        into_table(value, self.path(name), m)
    }

    /// A table within this one, or an empty one if it is absent or not a table.
    pub fn table_or_empty(&mut self, name: &'static str, m: &mut Mistakes) -> Table<'i> {
        let (path, span) = (self.path(name), self.span());
        self.table(name, m).unwrap_or_else(|| Table::new(path, span, DeTable::new()))
    }

    /// A required table within this one. `mend` says what to give.
    pub fn required_table(
        &mut self,
        name: &'static str,
        mend: &str,
        m: &mut Mistakes,
    ) -> Option<Table<'i>> {
        if !self.has(name) {
            self.known.push(name);
            m.add(&self.span, self.path(name), format!("is missing; {mend}"));
            return None;
        }
        self.table(name, m)
    }

    /// A list of tables within this one; empty if it is absent.
    pub fn tables(&mut self, name: &'static str, m: &mut Mistakes) -> Vec<Table<'i>> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let (span, path) = (value.span(), self.path(name));
        match value.into_inner() {
            DeValue::Array(items) => items
                .into_iter()
                .enumerate()
                .filter_map(|(i, item)| into_table(item, format!("{path}[{i}]"), m))
                .collect(),
            other => {
                let message = format!("is {}; write [[{path}]]", kind(&other));
                m.refuse(&span, path, message);
                Vec::new()
            }
        }
    }

    /// Leaves fields unread, whatever they are.
    pub fn pass_over(&mut self, names: &[&'static str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Reports fields that nothing has taken, with the nearest known name.
    pub fn finish(self, m: &mut Mistakes) {
        for key in self.fields.keys() {
            if m.is_full() {
                // The hint would not be read, and finding it takes longest.
                m.add(&key.span(), "", "");
                continue;
            }
            let name = key.get_ref().as_ref();
            let nearest = self.known.iter().min_by_key(|known| distance(known, name));
            let hint = match nearest {
                Some(known) if distance(known, name) <= 1 + known.len() / 3 => {
                    format!("did you mean {known}?")
                }
                _ => format!("known here: {}", self.known.join(", ")),
            };
            m.add(&key.span(), self.path(name), format!("is unknown; {hint}"));
        }
    }
}

/// A type that one TOML value can be.
pub trait Scalar: Sized {
    /// What to give, for example `give a whole number`.
    const EXPECTED_FIELD: &'static str;
    /// The value, or `None` if it has another type or is out of the type's range.
    fn read(value: &DeValue) -> Option<Self>;

    /// What is wrong with a value that cannot be read, and what to give.
    fn mistake(value: &DeValue) -> String {
        format!("is {}; {}", kind(value), Self::EXPECTED_FIELD)
    }

    /// The value at a place of the text, or `None` with the mistake.
    fn read_at(value: &Spanned<DeValue>, path: &str, m: &mut Mistakes) -> Option<Self> {
        read_whole(value, path, m)
    }
}

impl Scalar for String {
    const EXPECTED_FIELD: &'static str = "give a text in quotes";

    fn read(value: &DeValue) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Scalar for bool {
    const EXPECTED_FIELD: &'static str = "give true or false";

    fn read(value: &DeValue) -> Option<Self> {
        value.as_bool()
    }
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Scalar for $type {
            const EXPECTED_FIELD: &'static str = "give a whole number, 0 or more";

            fn read(value: &DeValue) -> Option<Self> {
                let number = value.as_integer()?;
                <$type>::from_str_radix(number.as_str(), number.radix()).ok()
            }
        }
    )*};
}

whole_number!(u32, u64, usize);

impl Scalar for f64 {
    const EXPECTED_FIELD: &'static str = "give a finite number";

    fn read(value: &DeValue) -> Option<Self> {
        let number = match value {
            DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok()? as f64,
            DeValue::Float(n) => n.as_str().parse().ok()?,
            _ => return None,
        };
        number.is_finite().then_some(number)
    }
}

impl Scalar for Multiple {
    const EXPECTED_FIELD: &'static str = "give a whole number, 0 or more, or \"auto\"";

    fn read(value: &DeValue) -> Option<Self> {
        match value.as_str() {
            Some(Multiple::AUTO) => Some(Multiple::Auto),
            Some(_) => None,
            None => u32::read(value).map(Multiple::Of),
        }
    }
}

/// The fields of a number that changes, and what to give.
const SCHEDULE_FIELDS: [(&str, &str); 3] = [
    ("from", "give the number in the first step"),
    ("to", "give the number in the last step"),
    ("schedule", "give \"linear\" or \"cosine\""),
];

impl Scalar for Scheduled {
    const EXPECTED_FIELD: &'static str = "give a finite number, or one that changes: \
        { from = 0.9, to = 0.1, schedule = \"linear\" } or \"cosine\"";

    fn read(value: &DeValue) -> Option<Self> {
        f64::read(value).map(Scheduled::from)
    }

    /// A mistake in a table is reported at the field that is wrong.
    fn read_at(value: &Spanned<DeValue>, path: &str, m: &mut Mistakes) -> Option<Self> {
        let DeValue::Table(fields) = value.get_ref() else {
            return read_whole(value, path, m);
        };
        let mut table = Table::new(path.to_owned(), value.span(), fields.clone());
        for (name, mend) in SCHEDULE_FIELDS {
            if !table.has(name) {
                m.refuse(&value.span(), table.path(name), format!("is missing; {mend}"));
            }
        }
        let (from, to) = (table.optional("from", m), table.optional("to", m));
        let course = table.parsed("schedule", m);
        table.finish(m);
        Some(Scheduled::Changing { from: from?, to: to?, course: course? })
    }
}

fn read_whole<T: Scalar>(value: &Spanned<DeValue>, path: &str, m: &mut Mistakes) -> Option<T> {
    let read = T::read(value.get_ref());
    if read.is_none() {
        // Not even an accepted study goes on with a default in place of what it says.
        m.refuse(&value.span(), path, T::mistake(value.get_ref()));
    }
    read
}

fn into_table<'i>(
    value: Spanned<DeValue<'i>>,
    path: String,
    m: &mut Mistakes,
) -> Option<Table<'i>> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(fields) => Some(Table::new(path, span, fields)),
        other => {
            let message = format!("is {}; write it as a table, [{path}]", kind(&other));
            m.refuse(&span, path, message);
            None
        }
    }
}

/// What a value is, with the value itself if it is short.
fn kind(value: &DeValue) -> String {
    match value {
        DeValue::String(s) => format!("the text {s:?}"),
        DeValue::Integer(n) => format!("the whole number {n}"),
        DeValue::Float(n) => format!("the number {n}"),
        DeValue::Boolean(b) => format!("{b}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{Mistakes, distance};

    #[test]
    fn names_of_layers_are_told_in_full() {
        let names = "model/batch_normalization/FusedBatchNormV3;".repeat(30);
        let mut mistakes = Mistakes::new("");
        mistakes.add(&(0..0), "fp32", names.clone());
        mistakes.add(&(0..0), "fp32", "x".repeat(9999));
        let listed = mistakes.into_errors().listed;
        assert_eq!(listed[0].message, names);
        assert!(listed[1].message.ends_with("x…"), "{}", listed[1]);
    }

    #[test]
    fn edit_distance_counts_single_edits() {
        assert_eq!(distance("epochs", "epochs"), 0);
        assert_eq!(distance("epochs", "epochz"), 1);
        assert_eq!(distance("epochs", "epoch"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

//! Reads a TOML document by the schema: every value has its line, every mistake is noted and none
//! is fatal. A caller reads all keys of a section before it combines them, so that one invalid
//! value does not hide another.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::Hash;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::schema::{self, Expect, Fallback, Key};
use super::value::{self, Parsed, wrong_type};

/// A value and its position.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    pub value: T,
    /// The byte offset in the file; that of the section if the value is a default.
    pub at: usize,
    /// Whether the file has the value; otherwise it is the default.
    pub given: bool,
}

/// A section of the file. A section that the file leaves out reads as an empty one.
#[derive(Clone)]
pub(super) struct Section<'a> {
    doc: &'a Document<'a>,
    entries: Option<&'a DeTable<'a>>,
    /// The position; for a section left out, that of the section around it.
    at: usize,
    /// The dotted path with list indices, for messages.
    path: String,
    /// The dotted path without list indices, for the schema.
    schema: String,
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl<'a> Section<'a> {
    /// Returns the root section, which is the file itself.
    pub fn root(doc: &'a Document<'a>, table: &'a DeTable<'a>) -> Self {
        Self::open(doc, Some(table), 0, String::new(), String::new())
    }

    fn open(
        doc: &'a Document<'a>,
        entries: Option<&'a DeTable<'a>>,
        at: usize,
        path: String,
        schema: String,
    ) -> Self {
        let section = Self { doc, entries, at, path, schema };
        section.note_unknown_keys();
        section
    }

    /// Returns the path of a key in this section, for messages.
    pub fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Returns the section's path, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the section's position.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Returns the line at a byte offset.
    pub fn line(&self, at: usize) -> usize {
        self.doc.line(at)
    }

    /// Notes a mistake at `at`, in the key `name`.
    pub fn error(&self, at: usize, name: &str, message: String) {
        self.doc.error(at, &self.path_of(name), message);
    }

    /// Notes that a key is missing; `why` says what requires it.
    pub fn missing(&self, name: &str, why: &str) {
        if let Some(key) = self.key(name) {
            let message = format!("missing; expected {}{why}", key.expected());
            self.error(self.at, name, message);
        }
    }

    /// Returns the position of a key, if the file has it.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.entry(name).map(|value| value.span().start)
    }

    fn entry(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries.and_then(|entries| entries.get(name))
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        let key = schema::find(&join(&self.schema, name));
        if key.is_none() {
            self.error(self.at, name, "is read but not in the schema".to_owned());
        }
        key
    }

    fn note_unknown_keys(&self) {
        for key in self.entries.into_iter().flat_map(|entries| entries.keys()) {
            let name = key.get_ref();
            if schema::names_in(&self.schema).all(|known| known != name) {
                let nearest = nearest(&self.schema, name);
                let message = format!("unknown key; the nearest known key is {nearest:?}");
                self.error(key.span().start, name, message);
            }
        }
    }

    /// Returns the section `name` within this one.
    pub fn section(&self, name: &str) -> Self {
        let (entries, at) = match self.entry(name) {
            None => (None, self.at),
            Some(value) => {
                let entries = value.get_ref().as_table();
                if entries.is_none() {
                    self.complain(value, name, &wrong_type(value.get_ref()), "a section");
                }
                (entries, value.span().start)
            }
        };
        Self::open(self.doc, entries, at, self.path_of(name), join(&self.schema, name))
    }

    /// Returns the sections `[[name]]` within this one, in the order of the file.
    pub fn sections(&self, name: &str) -> Vec<Self> {
        let Some(key) = self.key(name) else { return Vec::new() };
        let Some(value) = self.entry(name) else {
            if key.fallback == Fallback::Required {
                self.missing(name, "");
            }
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            self.complain(value, name, &wrong_type(value.get_ref()), &key.expected());
            return Vec::new();
        };
        if let Expect::Sections(min, max) = key.expect
            && (list.len() < min || max.is_some_and(|max| list.len() > max))
        {
            let message = format!("has {} entries; expected {}", list.len(), key.expected());
            self.error(value.span().start, name, message);
        }
        let mut sections = Vec::new();
        for (i, entry) in list.iter().enumerate() {
            let name = format!("{name}[{i}]");
            match entry.get_ref().as_table() {
                Some(entries) => sections.push(Self::open(
                    self.doc,
                    Some(entries),
                    entry.span().start,
                    self.path_of(&name),
                    key.path.to_owned(),
                )),
                None => {
                    self.complain(entry, &name, &wrong_type(entry.get_ref()), &key.expected());
                }
            }
        }
        sections
    }

    fn complain(&self, value: &Spanned<DeValue<'_>>, name: &str, what: &str, expected: &str) {
        let shown = self.doc.excerpt(value.span());
        self.error(value.span().start, name, format!("{shown} {what}; expected {expected}"));
    }

    /// Returns the value of a key, from the file or the default. `None` means that a mistake was
    /// noted.
    pub fn found<T>(
        &self,
        name: &str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Found<T>> {
        let key = self.key(name)?;
        let Some(value) = self.entry(name) else { return self.fallback(key, name, parse) };
        match parse(value.get_ref()) {
            Ok(parsed) => Some(Found { value: parsed, at: value.span().start, given: true }),
            Err(what) => {
                self.complain(value, name, &what, &key.expected());
                None
            }
        }
    }

    fn fallback<T>(
        &self,
        key: &Key,
        name: &str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Found<T>> {
        let Fallback::Value(default) = key.fallback else {
            self.missing(name, "");
            return None;
        };
        let default = default.replace("<role>", self.doc.role());
        let parsed = DeValue::parse(&default)
            .map_err(|error| error.message().to_owned())
            .and_then(|value| parse(value.get_ref()));
        match parsed {
            Ok(value) => Some(Found { value, at: self.at, given: false }),
            Err(what) => {
                self.error(self.at, name, format!("has a bad default: {default} {what}"));
                None
            }
        }
    }

    /// Returns the value of an optional key, otherwise as [`Section::found`]; a key that is left
    /// out has the value `None`.
    pub fn optional<T>(
        &self,
        name: &str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Found<Option<T>>> {
        self.if_given(name, || self.found(name, parse))
    }

    /// Returns the result of `read` if the file has the key, otherwise the value `None`.
    pub fn if_given<T>(
        &self,
        name: &str,
        read: impl FnOnce() -> Option<Found<T>>,
    ) -> Option<Found<Option<T>>> {
        if self.entry(name).is_none() {
            return self.key(name).map(|_| Found { value: None, at: self.at, given: false });
        }
        let Found { value, at, given } = read()?;
        Some(Found { value: Some(value), at, given })
    }

    /// Returns an integer within the bounds of the schema.
    pub fn integer<T: TryFrom<u64>>(&self, name: &str) -> Option<Found<T>> {
        let Expect::Integer(min, max) = self.key(name)?.expect else { return None };
        self.found(name, |value| {
            let number = value::integer_in(value, min, max)?;
            T::try_from(number).map_err(|_| "is out of range".to_owned())
        })
    }

    /// Returns the value that `choose` makes of one of the strings in the schema.
    pub fn choice<T>(&self, name: &str, choose: impl Fn(&str) -> Option<T>) -> Option<Found<T>> {
        let Expect::OneOf(names) = self.key(name)?.expect else { return None };
        self.found(name, |value| {
            let text = value.as_str().ok_or_else(|| wrong_type(value))?;
            let chosen = names.contains(&text).then(|| choose(text)).flatten();
            chosen.ok_or_else(|| "is unknown".to_owned())
        })
    }

    /// Returns a list. Its entries are parsed one by one; mistakes say what an entry should be
    /// (`expected`).
    pub fn list<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Found<Vec<T>>> {
        let broken = Cell::new(false);
        let list = self.found(name, |value| {
            let entries = value.as_array().ok_or_else(|| wrong_type(value))?;
            let mut list = Vec::new();
            for (i, entry) in entries.iter().enumerate() {
                match parse(entry.get_ref()) {
                    Ok(value) => list.push(value),
                    Err(what) => {
                        self.complain(entry, &format!("{name}[{i}]"), &what, expected);
                        broken.set(true);
                    }
                }
            }
            Ok(list)
        })?;
        (!broken.get()).then_some(list)
    }

    /// Returns a list of 1 to `most` entries.
    pub fn some<T>(
        &self,
        name: &str,
        most: usize,
        expected: &str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Found<Vec<T>>> {
        let list = self.list(name, expected, parse)?;
        if list.value.is_empty() || list.value.len() > most {
            let expected = self.key(name)?.expected();
            let message = format!("has {} entries; expected {expected}", list.value.len());
            self.error(list.at, name, message);
            return None;
        }
        Some(list)
    }

    /// Returns a list of at least one entry, all different.
    pub fn set<T: Eq + Hash>(
        &self,
        name: &str,
        expected: &str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Found<Vec<T>>> {
        let list = self.some(name, usize::MAX, expected, parse)?;
        self.all_differ(name, &list.value).then_some(list)
    }

    /// Returns whether all entries of a list differ; notes those that do not.
    pub fn all_differ<T: Eq + Hash>(&self, name: &str, list: &[T]) -> bool {
        let mut seen = HashMap::new();
        let mut twice = false;
        for (i, entry) in list.iter().enumerate() {
            if let Some(first) = seen.insert(entry, i) {
                let message = format!("is the same as {name}[{first}]; expected each entry once");
                self.error(self.entry_at(name, i), &format!("{name}[{i}]"), message);
                twice = true;
            }
        }
        !twice
    }

    /// Returns the position of an entry of a list; that of the section if the list is a default.
    pub fn entry_at(&self, name: &str, i: usize) -> usize {
        let list = self.entry(name).and_then(|value| value.get_ref().as_array());
        list.and_then(|list| list.get(i)).map_or(self.at, |entry| entry.span().start)
    }

    /// Returns a list of TCP ports.
    pub fn ports(&self, name: &str) -> Option<Found<Vec<u16>>> {
        self.set(name, "an integer from 1 to 65535", value::port)
    }
}

/// Returns the known key that `name` in the section `schema` was probably meant to be: a key of the
/// section with a similar spelling, else the same name in another section, else the nearest key of
/// the section.
fn nearest(schema: &str, name: &str) -> String {
    let distance = |known: &&str| strsim::damerau_levenshtein(known, name);
    let sibling = schema::names_in(schema).min_by_key(distance);
    let alike = sibling.filter(|known| distance(known) <= known.len().min(6) / 2);
    let elsewhere = || {
        let mut keys = schema::KEYS.iter().map(|key| key.path);
        keys.find(|path| path.rsplit('.').next() == Some(name)).map(str::to_owned)
    };
    alike
        .map(|known| join(schema, known))
        .or_else(elsewhere)
        .or_else(|| sibling.map(|known| join(schema, known)))
        .unwrap_or_default()
}

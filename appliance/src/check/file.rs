//! A configuration file, and the lines of its keys: the settings know none, so the text is read once
//! more.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::{Config, Gateway, Replica, Role, Switch};

/// Why a file cannot be used: its mistakes, a line each.
#[derive(Clone, Debug)]
pub struct Unusable(pub String);

/// A configuration file without mistakes of its own.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name, as given by the caller.
    pub name: String,
    /// Its settings.
    pub config: Config,
    /// The lines of its keys and sections, by their paths.
    lines: BTreeMap<String, usize>,
    /// The numbers in the file of the gateway's services, which are sorted otherwise in its settings.
    order: Vec<usize>,
}

/// A key of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub file: String,
    pub line: usize,
    pub key: String,
}

/// Formats a place as messages about another one name it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key } = self;
        write!(f, "{file}:{line} ({key})")
    }
}

impl File {
    /// Reads a file. With `devices`, it is checked that this machine has what it names.
    ///
    /// # Errors
    /// All mistakes of the file.
    pub fn load(path: &Path, devices: bool) -> Result<Self, Unusable> {
        let name = path.display().to_string();
        let config = Config::load(path).map_err(|errors| Unusable(errors.to_string()))?;
        if devices {
            config.check_presence(&name).map_err(|errors| Unusable(errors.to_string()))?;
        }
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Unusable(format!("{name}: cannot be read: {error}")))?;
        Ok(Self::of(name, config, &text))
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// All mistakes of the text.
    pub fn parse(name: &str, text: &str) -> Result<Self, Unusable> {
        let config = Config::parse(name, text).map_err(|errors| Unusable(errors.to_string()))?;
        Ok(Self::of(name.to_owned(), config, text))
    }

    fn of(name: String, config: Config, text: &str) -> Self {
        let (mut lines, mut order) = (BTreeMap::new(), Vec::new());
        if let Ok(table) = DeTable::parse(text) {
            let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            note(table.get_ref(), "", &line, &mut lines);
            order = gateway_order(table.get_ref());
        }
        Self { name, config, lines, order }
    }

    /// Returns the place of a key; if the file does not have it, its line is that of the section around
    /// it, or 1.
    pub(super) fn place(&self, key: &str) -> Place {
        let mut around = key;
        let line = loop {
            if let Some(line) = self.lines.get(around) {
                break *line;
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None => break 1,
            }
        };
        Place { file: self.name.clone(), line, key: key.to_owned() }
    }

    /// Returns the path of one of the gateway's services, numbered as in its settings.
    pub(super) fn gateway_service(&self, number: usize) -> String {
        format!("gateway.service[{}]", self.order.get(number).copied().unwrap_or(number))
    }

    /// Returns the settings of a gateway.
    pub(super) fn gateway(&self) -> Option<&Gateway> {
        if let Role::Gateway(own) = &self.config.role { Some(own) } else { None }
    }

    /// Returns the settings of a switch.
    pub(super) fn switch(&self) -> Option<&Switch> {
        if let Role::Switch(own) = &self.config.role { Some(own) } else { None }
    }

    /// Returns the settings of a replica.
    pub(super) fn replica(&self) -> Option<&Replica> {
        if let Role::Replica(own) = &self.config.role { Some(own) } else { None }
    }
}

/// Notes the lines of all keys of a table.
fn note(
    table: &DeTable<'_>,
    path: &str,
    line: &impl Fn(usize) -> usize,
    lines: &mut BTreeMap<String, usize>,
) {
    for (key, value) in table {
        let path = match path {
            "" => key.get_ref().to_string(),
            _ => format!("{path}.{}", key.get_ref()),
        };
        note_value(value, &path, line, lines);
    }
}

fn note_value(
    value: &Spanned<DeValue<'_>>,
    path: &str,
    line: &impl Fn(usize) -> usize,
    lines: &mut BTreeMap<String, usize>,
) {
    lines.insert(path.to_owned(), line(value.span().start));
    if let Some(table) = value.get_ref().as_table() {
        note(table, path, line, lines);
    }
    for (i, entry) in value.get_ref().as_array().into_iter().flatten().enumerate() {
        note_value(entry, &format!("{path}[{i}]"), line, lines);
    }
}

/// Returns the numbers of a gateway's services in the order of its settings: the longest prefix first.
fn gateway_order(table: &DeTable<'_>) -> Vec<usize> {
    let services = table
        .get("gateway")
        .and_then(|value| value.get_ref().as_table()?.get("service")?.get_ref().as_array());
    let length = |service: &Spanned<DeValue<'_>>| {
        let address = service.get_ref().as_table()?.get("address")?.get_ref().as_str()?;
        match address.split_once('/') {
            Some((_, length)) => length.parse::<u8>().ok(),
            None if address == "any" => None,
            None => Some(if address.contains(':') { 128 } else { 32 }),
        }
    };
    let lengths: Vec<_> = services.into_iter().flatten().map(length).collect();
    let mut order: Vec<_> = (0..lengths.len()).collect();
    order.sort_by_key(|number| Reverse(lengths[*number]));
    order
}

//! Any text is either accepted or refused with reasons: never a panic, never a refusal without a
//! line that says why.

use firstack::config::Config;
use firstack::config::schema::{Expect, KEYS};
use proptest::prelude::*;

use crate::{EXAMPLES, ROLES, example};

/// Parses, and checks what holds for every refusal.
fn check(text: &str) {
    if let Err(errors) = Config::parse("f.toml", text) {
        assert!(errors.iter().count() > 0);
        let last = text.lines().count() + 1;
        for error in &errors {
            assert!(error.line.is_some_and(|line| (1..=last).contains(&line)), "{error}");
            assert!(!error.message.contains('\n'), "{error}");
            assert!(!error.message.contains("no known reason"), "{error}");
            assert!(!error.message.contains("not in the schema"), "{error}");
            assert!(!error.message.contains("has a bad default"), "{error}");
        }
    }
}

/// Values, valid and invalid.
const VALUES: [&str; 30] = [
    "0",
    "1",
    "-1",
    "65536",
    "18446744073709551616",
    "0x7fffffffffffffff",
    "1.5",
    "nan",
    "true",
    "\"\"",
    "\"any\"",
    "\"5s\"",
    "\"::/0\"",
    "\"10.0.0.0/8\"",
    "\"203.0.113.10\"",
    "\"2001:db8::10\"",
    "\"2001:db8::/32\"",
    "\"tcp://[2001:db8::10]:80\"",
    "\"http://198.51.100.10/\"",
    "\"gue\"",
    "\"direct\"",
    "\"\\u0000\"",
    "\"net_null0\"",
    "[]",
    "[1, 1]",
    "[[]]",
    "{}",
    "{ a = 1 }",
    "[{}]",
    "1979-05-27",
];

/// Returns a key that occurs in a file, so that a mutation changes something that is read.
fn path() -> impl Strategy<Value = &'static str> {
    (0..KEYS.len()).prop_map(|i| KEYS[i].path)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn text_that_looks_like_a_file_never_panics(
        lines in prop::collection::vec((path(), 0..VALUES.len(), any::<bool>()), 0..12),
        role in 0..ROLES.len(),
    ) {
        let mut text = format!("role = {:?}\n", ROLES[role]);
        for (path, value, section) in lines {
            match section {
                true => text.push_str(&format!("[[{path}]]\n")),
                false => text.push_str(&format!("{path} = {}\n", VALUES[value])),
            }
        }
        check(&text);
    }

    #[test]
    fn a_good_file_with_other_values_never_panics(
        file in 0..EXAMPLES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..VALUES.len()), 1..6),
    ) {
        let file = example(EXAMPLES[file]);
        let mut lines: Vec<_> = file.lines().map(str::to_owned).collect();
        for (index, value) in changes {
            let line = index.get_mut(&mut lines);
            if let Some((key, _)) = line.split_once(" = ") {
                *line = format!("{key} = {}", VALUES[value]);
            }
        }
        check(&lines.join("\n"));
    }

    #[test]
    fn a_good_file_with_other_lines_never_panics(
        file in 0..EXAMPLES.len(),
        moves in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 1..8),
    ) {
        let file = example(EXAMPLES[file]);
        let mut lines: Vec<_> = file.lines().collect();
        for [from, to] in moves {
            let line = lines.remove(from.index(lines.len()));
            lines.insert(to.index(lines.len()), line);
        }
        check(&lines.join("\n"));
    }

    #[test]
    fn a_good_file_with_other_bytes_never_panics(
        file in 0..EXAMPLES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut text: Vec<char> = example(EXAMPLES[file]).chars().collect();
        for (index, c) in changes {
            *index.get_mut(&mut text) = c;
        }
        text.truncate(cut.index(text.len() * 2).max(1));
        check(&text.into_iter().collect::<String>());
    }
}

/// Shows that each key of the schema is read by the code: no key takes a date.
#[test]
fn every_key_is_read() {
    for key in KEYS {
        let mut text = String::new();
        let role = key.path.split('.').next().filter(|name| ROLES.contains(name));
        let role = role.unwrap_or("gateway");
        if key.path != "role" {
            text.push_str(&format!("role = {role:?}\n"));
        }
        // A file with the key and the sections around it.
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let mut path = String::new();
        let mut shown = String::new();
        for part in section.split('.').filter(|part| !part.is_empty()) {
            path = if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
            shown = if shown.is_empty() { part.to_owned() } else { format!("{shown}.{part}") };
            let list = KEYS.iter().find(|key| key.path == path);
            if list.is_some_and(|key| matches!(key.expect, Expect::Sections(..))) {
                text.push_str(&format!("[[{path}]]\n"));
                shown.push_str("[0]");
            }
        }
        if !section.is_empty() && !shown.ends_with(']') {
            text.push_str(&format!("[{section}]\n"));
        }
        let line = text.lines().count() + 1;
        text.push_str(&format!("{name} = 1979-05-27\n"));
        let shown = if shown.is_empty() { name.to_owned() } else { format!("{shown}.{name}") };
        let errors = Config::parse("f.toml", &text).unwrap_err().to_string();
        let expected = format!("f.toml:{line}: {shown}: 1979-05-27 is a date or time; expected ");
        assert!(errors.contains(&expected), "{errors}\nlacks\n{expected}\nin\n{text}");
    }
}

//! Citations of the documents, as scenarios and comments write them.
//!
//! | form | cites |
//! |---|---|
//! | `protocol.md 6.3`, `protocol.md 6.3, 5.2` | sections of docs/protocol.md |
//! | `architecture.md "MAC addresses"` | a heading of docs/architecture.md |
//! | `op 510`, `ops 502, 510` | operations of the patent, of those in tests/operations.txt |
//!
//! The head comment of a scenario ends with a line of them, separated by semicolons.

use std::collections::BTreeSet;
use std::path::Path;

/// Where docs/protocol.md is cited.
const PROTOCOL: &str = "protocol.md ";
/// Where docs/architecture.md is cited.
const ARCHITECTURE: &str = "architecture.md ";

/// What there is to cite.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Numbers of the sections of docs/protocol.md.
    sections: BTreeSet<String>,
    /// Headings of docs/architecture.md.
    headings: BTreeSet<String>,
    /// Numbers of operations.
    operations: BTreeSet<String>,
}

impl Documents {
    /// Reads the documents of a repository.
    pub fn load(root: &Path) -> std::io::Result<Self> {
        let read = |name: &str| std::fs::read_to_string(root.join(name));
        let protocol = read("docs/protocol.md")?;
        let operations = read("tests/operations.txt")?;
        let first_word = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let number = |heading: &str| first_word(heading).trim_end_matches('.').to_owned();
        Ok(Self {
            sections: headings(&protocol).map(number).collect(),
            headings: headings(&read("docs/architecture.md")?).map(str::to_owned).collect(),
            operations: operations.lines().map(first_word).collect(),
        })
    }

    /// Checks a scenario's head comment: it has to end with a line of citations, and what they
    /// cite has to exist.
    pub fn check_scenario(&self, text: &str) -> Result<(), String> {
        let head = text.lines().map_while(|line| line.strip_prefix("# "));
        let cites = |line: &&str| !line.starts_with(PROTOCOL) && !line.starts_with(ARCHITECTURE);
        let citations: Vec<_> = head.skip_while(cites).collect();
        if citations.is_empty() {
            return Err("the head comment cites no section".to_owned());
        }
        citations.join(" ").split("; ").try_for_each(|citation| self.check(citation))
    }

    /// Checks the citations of docs/protocol.md and docs/architecture.md anywhere in a text.
    pub fn check_text(&self, text: &str) -> Result<(), String> {
        for (at, _) in text.match_indices(PROTOCOL) {
            let rest = &text[at + PROTOCOL.len()..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && !"., ".contains(c));
            let sections = rest[..end.unwrap_or(rest.len())].trim_end_matches(['.', ',', ' ']);
            if !sections.is_empty() {
                self.check(&format!("{PROTOCOL}{sections}"))?;
            }
        }
        for (at, _) in text.match_indices(ARCHITECTURE) {
            let mut quoted = text[at + ARCHITECTURE.len()..].splitn(3, '"');
            if let (Some(""), Some(heading), Some(_)) =
                (quoted.next(), quoted.next(), quoted.next())
            {
                self.check(&format!("{ARCHITECTURE}\"{heading}\""))?;
            }
        }
        Ok(())
    }

    /// Checks one citation.
    fn check(&self, citation: &str) -> Result<(), String> {
        let (known, list) = if let Some(sections) = citation.strip_prefix(PROTOCOL) {
            (&self.sections, sections)
        } else if let Some(heading) = citation.strip_prefix(ARCHITECTURE) {
            let heading = heading.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let heading = heading.ok_or(format!("{citation}: the heading is not in quotes"))?;
            return if self.headings.contains(heading) {
                Ok(())
            } else {
                Err(format!("docs/architecture.md has no heading \"{heading}\""))
            };
        } else if let Some(numbers) = citation.strip_prefix("ops ").or(citation.strip_prefix("op "))
        {
            (&self.operations, numbers)
        } else {
            return Err(format!("{citation} is no citation"));
        };
        match list.split(", ").find(|number| !known.contains(*number)) {
            Some(number) => Err(format!("{citation}: there is no {number}")),
            None => Ok(()),
        }
    }
}

/// One citation of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationCitation {
    /// The line on which it begins, from 0.
    pub line: usize,
    /// The operations that it lists.
    pub numbers: Vec<u16>,
    /// Whether it gives a range, which hides the operations in between from a search.
    pub has_range: bool,
}

/// Returns the citations of operations in a text: "op 510", "ops 404, 406 and 408". A list may go on
/// in the next line, behind the signs of a comment. A number without "op", such as the status in
/// "HTTP 404", is none.
pub fn operations(text: &str) -> Vec<OperationCitation> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.match_indices("op").map(|(at, _)| at);
    let starts = starts.filter(|&at| !text[..at].ends_with(is_word));
    starts.filter_map(|at| operations_at(text, at)).collect()
}

/// The citation whose "op" stands at `at`.
fn operations_at(text: &str, at: usize) -> Option<OperationCitation> {
    let rest = &text[at + "op".len()..];
    let rest = rest.strip_prefix('s').unwrap_or(rest);
    let line = text[..at].matches('\n').count();
    let mut citation = OperationCitation { line, numbers: Vec::new(), has_range: false };
    let mut next = skip_break(rest).filter(|next| next.len() < rest.len());
    while let Some((number, rest)) = next.and_then(operation_number) {
        citation.numbers.push(number);
        let ranges = ["-", " - ", "\u{2013}", "..", "..=", " to "];
        let after = |sign: &&str| {
            rest.strip_prefix(*sign)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        citation.has_range |= ranges.iter().any(after);
        let comma = rest.strip_prefix(',').and_then(skip_break);
        let and = comma.or(skip_break(rest)).and_then(|rest| rest.strip_prefix("and"));
        next = and.and_then(skip_break).or(comma);
    }
    (!citation.numbers.is_empty()).then_some(citation)
}

/// An operation's number, which has three digits, and what follows it.
fn operation_number(text: &str) -> Option<(u16, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end == 3).then(|| text[..end].parse().ok()).flatten().map(|number| (number, &text[end..]))
}

/// Skips a space, or the end of a line with the signs of a comment that begin the next one.
fn skip_break(text: &str) -> Option<&str> {
    match text.strip_prefix(' ') {
        Some(rest) => Some(rest),
        None => text.strip_prefix('\n').map(|rest| rest.trim_start_matches([' ', '/', '!', '#'])),
    }
}

/// The headings of a document, without the signs in front.
fn headings(document: &str) -> impl Iterator<Item = &str> {
    let lines = document.lines().filter(|line| line.starts_with('#'));
    lines.map(|line| line.trim_start_matches('#').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Documents {
        let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Documents {
            sections: set(&["6", "6.3"]),
            headings: set(&["MAC addresses"]),
            operations: set(&["502", "510"]),
        }
    }

    #[test]
    fn a_scenario_has_to_cite_what_exists() {
        let check = |head: &str| documents().check_scenario(head);
        assert_eq!(check("# Shows it.\n# protocol.md 6.3; op 510\nconfig x"), Ok(()));
        assert_eq!(check("# protocol.md 6, 6.3;\n# architecture.md \"MAC addresses\"\n"), Ok(()));
        for wrong in [
            "# Shows it. op 510\nconfig x\n# protocol.md 6.3",
            "# protocol.md 6.4\n",
            "# protocol.md 6.3; op 511\n",
            "# protocol.md 6.3; ops 502-510\n",
            "# architecture.md \"Cores\"\n",
            "# architecture.md MAC addresses\n",
            "# protocol.md 6.3; section 4\n",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn operations_are_read_as_people_write_them() {
        let read = |text: &str| -> Vec<_> {
            operations(text).into_iter().flat_map(|citation| citation.numbers).collect()
        };
        assert_eq!(read("// op 510: update"), [510]);
        assert_eq!(read("(ops 404, 406) and ops 508, 510 and 512."), [404, 406, 508, 510, 512]);
        assert_eq!(read("\"op 508, 516\""), [508, 516]);
        assert_eq!(read("    /// (ops 404,\n    /// 406, 408). See"), [404, 406, 408]);
        assert_eq!(read("# protocol.md 5; ops\n# 502, 504,\n# 506\nconfig x"), [502, 504, 506]);
        assert_eq!(read("HTTP 404, stop 510, top 510, op x, op-210-tag, op510, op 5100"), [0; 0]);
    }

    #[test]
    fn ranges_of_operations_are_seen() {
        for text in ["op 508-512", "ops 204\u{2013}214", "ops 402, 508 to 516", "(ops 508..512)"] {
            assert!(operations(text)[0].has_range, "{text}");
        }
        assert!(!operations("op 508 - the source, op 510. To").iter().any(|one| one.has_range));
    }

    #[test]
    fn citations_are_found_in_texts() {
        let check = |text: &str| documents().check_text(text);
        assert_eq!(check("as said (protocol.md 6.3). See docs/protocol.md for more"), Ok(()));
        assert_eq!(check("docs/architecture.md \"MAC addresses\" says how"), Ok(()));
        assert!(check("protocol.md 6.3, 7.").is_err());
        assert!(check("architecture.md \"Cores\"").is_err());
    }
}

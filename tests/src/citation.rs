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
    fn citations_are_found_in_texts() {
        let check = |text: &str| documents().check_text(text);
        assert_eq!(check("as said (protocol.md 6.3). See docs/protocol.md for more"), Ok(()));
        assert_eq!(check("docs/architecture.md \"MAC addresses\" says how"), Ok(()));
        assert!(check("protocol.md 6.3, 7.").is_err());
        assert!(check("architecture.md \"Cores\"").is_err());
    }
}

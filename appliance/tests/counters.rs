//! Checks that docs/counters.md lists all verdicts of the code. `FIRSTACK_BLESS=1` rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use pipeline::counters::Generated;
use pipeline::verdict::{Fate, Verdict};

const HEAD: &str = "\
# Counters

What `firstack stats` shows, and `firstack run` prints at its end. Every packet received comes to
exactly one of the verdicts below, so whenever the process is at rest

    received = forwarded + consumed + dropped          on each side
    forwarded + made = sent + unsent                   over both sides

`unsent` counts frames that a port did not take. The operations are those of the patent's figures.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for fate in Fate::ALL {
        let _ = write!(
            page,
            "\n## {}\n\n| counter | operation | meaning |\n|---|---|---|\n",
            title(fate)
        );
        for verdict in Verdict::ALL.iter().filter(|verdict| verdict.fate() == fate) {
            let (name, operation, meaning) =
                (verdict.name(), verdict.operation(), verdict.meaning());
            let _ = writeln!(page, "| `{name}` | {operation} | {meaning} |");
        }
    }
    page.push_str("\n## Made by the appliance\n\n");
    for made in Generated::ALL {
        let _ = writeln!(page, "- `{}`", made.name());
    }
    page
}

fn title(fate: Fate) -> &'static str {
    match fate {
        Fate::Forwarded => "Forwarded to the other side",
        Fate::Consumed => "Consumed by the appliance",
        Fate::Dropped => "Dropped",
    }
}

#[test]
fn the_page_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/counters.md");
    if std::env::var_os("FIRSTACK_BLESS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == page(), "docs/counters.md is out of date: FIRSTACK_BLESS=1 rewrites it");
}

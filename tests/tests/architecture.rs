//! docs/architecture.md against the code: the graphs of stages and verdicts, which this test draws
//! from the sources (`FIRSTACK_BLESS=1` rewrites them), and the paths that the page names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use firstack_tests::sources::{Source, files, read, root};
use pipeline::verdict::{Fate, Roles, Verdict};

const PAGE: &str = "docs/architecture.md";
const BEGIN: &str = "<!-- stages and verdicts: generated -->\n";
const END: &str = "<!-- end -->";

const HEAD: &str = "
One graph per role. A box is a file or folder of `pipeline/src/role/` (*all roles*: one that the
roles share); an arrow to a box is a call. A dashed line leads to the stages that it uses, from
`pipeline/src/stage/`, and a last box shows its verdicts.
";

/// The modules on every packet's way, drawn by hand; arrows between other modules are calls.
const PATH: [&str; 4] = ["owner", "lookup", "fast_path", "mod"];
/// The configuration: it names types of stages, and uses none.
const SETTINGS: &str = "settings";
/// A verdict's names that are listed before those with a common beginning are drawn together.
const MAX_NAMES: usize = 6;

/// What a file or folder contributes to a graph.
#[derive(Debug, Default)]
struct Module {
    code: String,
    stages: BTreeSet<String>,
    verdicts: BTreeSet<usize>,
    /// Functions that others can call.
    functions: BTreeSet<String>,
    is_shared: bool,
}

impl Module {
    fn add(&mut self, source: &Source, role: Roles) {
        let code = source.code();
        self.stages.extend(stages(&code));
        self.verdicts.extend(verdicts(&code, role));
        self.functions.extend(source.visible_functions().map(str::to_owned));
        self.code.push_str(&code);
    }

    /// Whether it is drawn; settings and types alone are not.
    fn is_drawn(&self, name: &str) -> bool {
        let does_nothing = self.stages.is_empty() && self.verdicts.is_empty();
        name != SETTINGS && !does_nothing || PATH.contains(&name)
    }
}

/// One role's graph.
struct Graph {
    role: Roles,
    name: &'static str,
    modules: BTreeMap<String, Module>,
    /// Names of functions that only one file of the role, and none outside the roles, defines.
    unique: BTreeSet<String>,
    parse: Module,
    handoff: Module,
    /// The stages that have verdicts.
    stages: BTreeMap<String, Module>,
}

impl Graph {
    fn of(role: Roles) -> Self {
        let name = role.names().next().unwrap_or_default();
        let folder = format!("pipeline/src/role/{name}/");
        let mut modules: BTreeMap<String, Module> = BTreeMap::new();
        let (mut parse, mut stages) = (Module::default(), BTreeMap::new());
        let mut definitions: BTreeMap<String, usize> = BTreeMap::new();
        for source in Source::below("pipeline/src") {
            let path = source.path.trim_end_matches(".rs");
            let is_other_role = Roles::ALL.names().any(|other| {
                other != name && path.starts_with(&format!("pipeline/src/role/{other}/"))
            });
            if is_other_role {
                continue;
            }
            for function in source.functions().map(str::to_owned).collect::<BTreeSet<_>>() {
                *definitions.entry(function).or_default() += 1;
            }
            if let Some(rest) = path.strip_prefix(&folder) {
                let module = rest.split('/').next().unwrap_or(rest);
                modules.entry(module.to_owned()).or_default().add(&source, role);
            } else if let Some(shared) = path.strip_prefix("pipeline/src/role/") {
                if shared != "mod" {
                    let module = modules.entry(shared.to_owned()).or_default();
                    module.add(&source, role);
                    module.is_shared = true;
                }
            } else if path.starts_with("pipeline/src/packet/view/") {
                parse.add(&source, role);
            } else if let Some(stage) = path.strip_prefix("pipeline/src/stage/") {
                let mut module = Module::default();
                module.add(&source, role);
                if !module.verdicts.is_empty() {
                    stages.insert(stage.to_owned(), module);
                }
            }
        }
        let mut handoff = Module::default();
        Source::below("appliance/src/datapath").iter().for_each(|s| handoff.add(s, role));
        let unique = definitions.into_iter().filter(|(_, count)| *count == 1);
        let unique = unique.map(|(name, _)| name).collect();
        let mut graph = Self { role, name, modules, unique, parse, handoff, stages };
        graph.keep_what_is_called();
        graph
    }

    /// Drops shared modules that the role does not call.
    fn keep_what_is_called(&mut self) {
        let is_own = |name: &&String| !self.modules[*name].is_shared;
        let called: BTreeSet<_> =
            self.modules.keys().filter(is_own).flat_map(|name| self.calls(name)).collect();
        self.modules.retain(|name, module| !module.is_shared || called.contains(name));
    }

    /// The modules that a module calls, but not those of the path.
    fn calls(&self, caller: &str) -> BTreeSet<String> {
        let Module { code, functions: own, .. } = &self.modules[caller];
        let calls = |name: &str, module: &Module| {
            module.functions.iter().any(|function| {
                let is_call = |at: usize| {
                    let before = code[..at].trim_end();
                    let rest = &code[at + function.len()..];
                    (rest.starts_with('(') || rest.starts_with("::<"))
                        && before.ends_with(['.', ':', ' ', '(', '='])
                        && !before.ends_with("fn")
                        && (self.unique.contains(function)
                            || (before.ends_with("self.") && !own.contains(function))
                            || before.ends_with(&format!("{name}."))
                            || before.ends_with(&format!("{name}::")))
                };
                code.match_indices(function.as_str()).any(|(at, _)| is_call(at))
            })
        };
        let others = self.modules.iter().filter(|(name, module)| {
            *name != caller && !PATH.contains(&name.as_str()) && calls(name, module)
        });
        others.map(|(name, _)| name.clone()).collect()
    }

    /// The stages that are drawn.
    fn used_stages(&self) -> BTreeSet<&str> {
        let drawn = self.modules.iter().filter(|(name, module)| module.is_drawn(name));
        drawn.flat_map(|(_, module)| &module.stages).map(String::as_str).collect()
    }

    /// The verdicts that are drawn.
    fn all_verdicts(&self) -> BTreeSet<usize> {
        let used = self.used_stages();
        let stages = self.stages.iter().filter(|(name, _)| used.contains(name.as_str()));
        let modules = self.modules.values().chain(stages.map(|(_, stage)| stage));
        let modules = modules.chain([&self.parse, &self.handoff]);
        modules.flat_map(|module| &module.verdicts).copied().collect()
    }

    fn draw(&self) -> String {
        let name = self.name;
        let title = name[..1].to_uppercase() + &name[1..];
        let mut text = format!("\n### {title}\n\n```mermaid\nflowchart LR\n");
        text.push_str("  receive([receive]) --> parse[\"parse: packet/view\"]\n");
        text.push_str("  parse --> owner[\"owner\"]\n");
        text.push_str("  owner -->|here| lookup[\"classify and look up: lookup\"]\n");
        text.push_str("  owner -->|another worker| handoff[\"datapath/handoff\"] --> lookup\n");
        text.push_str("  lookup --> fast_path[\"fast path: fast_path\"]\n");
        text.push_str("  fast_path -->|no verdict| mod[\"slow path: mod\"]\n");
        let drawn = || self.modules.iter().filter(|(name, module)| module.is_drawn(name));
        for (name, module) in drawn().filter(|(name, _)| !PATH.contains(&name.as_str())) {
            let shared = if module.is_shared { "all roles: " } else { "" };
            let _ = writeln!(text, "  {name}[\"{shared}{name}\"]");
        }
        for (caller, _) in drawn() {
            for callee in self.calls(caller) {
                if self.modules[&callee].is_drawn(&callee) {
                    let _ = writeln!(text, "  {caller} --> {callee}");
                }
            }
        }
        for (name, module) in drawn() {
            let (own, plain): (Vec<_>, Vec<_>) =
                module.stages.iter().partition(|stage| self.stages.contains_key(*stage));
            for stage in own {
                let _ = writeln!(text, "  {name} -.- stage_{stage}([\"{stage}\"])");
            }
            if !plain.is_empty() {
                let plain: Vec<_> = plain.into_iter().map(String::as_str).collect();
                let _ = writeln!(text, "  {name} -.- {name}_stages([\"{}\"])", plain.join(", "));
            }
        }
        let used = self.used_stages();
        let stages = self.stages.iter().filter(|(name, _)| used.contains(name.as_str()));
        let stages = stages.map(|(name, stage)| (format!("stage_{name}"), stage));
        let around = [("parse".to_owned(), &self.parse), ("handoff".to_owned(), &self.handoff)];
        let modules = drawn().map(|(name, module)| (name.clone(), module));
        for (name, module) in around.into_iter().chain(modules).chain(stages) {
            if let Some(groups) = groups(&module.verdicts) {
                let _ = writeln!(text, "  {name} --> {name}_verdicts[\"{groups}\"]:::verdicts");
            }
        }
        text.push_str("  classDef verdicts fill:none,stroke-dasharray:2\n```\n");
        let rest = self.modules.iter().filter(|(name, m)| !m.is_shared && !m.is_drawn(name));
        let rest: Vec<_> = rest.map(|(name, _)| format!("`{name}`")).collect();
        let _ = writeln!(text, "\nNot drawn, because they hold only data: {}.", rest.join(", "));
        text
    }
}

/// The stages that code names in paths: `stage::reset`, `stage::{decap, encap::Outer}`.
fn stages(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::stage::") {
        let rest = &code[at + prefix.len()..];
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or(list),
            None => rest.split([';', '(', '<', ' ', ')']).next().unwrap_or(rest),
        };
        let names = list.split(',').filter_map(|part| part.trim().split("::").next());
        found.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
    }
    found
}

/// The verdicts of a role that code gives, by number. Those that it only compares with are left out.
fn verdicts(code: &str, role: Roles) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for line in code.lines().filter(|line| !line.contains("matches!(")) {
        for (at, prefix) in line.match_indices("Verdict::") {
            let rest = &line[at + prefix.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            let is_pattern = rest[end..].trim_start_matches([')', ' ']).starts_with("=>");
            let is_compared = line[..at].trim_end().ends_with(['=', '!'])
                && !line[..at].trim_end().ends_with(" =");
            // An initial value, before there is a verdict.
            let is_initial = line.contains("last:") || is_pattern || is_compared;
            let verdict = Verdict::ALL.iter().find(|one| format!("{one:?}") == rest[..end]);
            let verdict = verdict.filter(|one| one.roles().has(role) && !is_initial);
            found.extend(verdict.map(|one| *one as usize));
        }
    }
    found
}

/// Verdicts by fate, for a box: those of one fate on one line.
fn groups(verdicts: &BTreeSet<usize>) -> Option<String> {
    let group = |fate: Fate| {
        let names = verdicts.iter().map(|number| Verdict::ALL[*number]);
        let names: Vec<_> = names.filter(|one| one.fate() == fate).map(Verdict::name).collect();
        (!names.is_empty()).then(|| format!("{}: {}", fate.name(), summary(&names)))
    };
    let groups: Vec<_> = Fate::ALL.into_iter().filter_map(group).collect();
    (!groups.is_empty()).then(|| groups.join("<br>"))
}

/// The names; of many, those with a common first word as "untagged_* (9)".
fn summary(names: &[&str]) -> String {
    let first = |name: &str| name.split('_').next().unwrap_or_default().to_owned();
    let like = |name: &str| names.iter().filter(|other| first(other) == first(name)).count();
    let mut all: Vec<String> = Vec::new();
    for name in names {
        let entry = match like(name) {
            count if names.len() > MAX_NAMES && count > 2 => format!("{}_* ({count})", first(name)),
            _ => (*name).to_owned(),
        };
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    all.join(", ")
}

fn graphs() -> [Graph; 3] {
    [Roles::GATEWAY, Roles::SWITCH, Roles::REPLICA].map(Graph::of)
}

#[test]
fn the_graphs_are_up_to_date() {
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).expect("the mark where the graphs begin");
    let (_, after) = rest.split_once(END).expect("the mark where the graphs end");
    let graphs: String = graphs().iter().map(Graph::draw).collect();
    let drawn = format!("{before}{BEGIN}{HEAD}{graphs}\n{END}{after}");
    if std::env::var_os("FIRSTACK_BLESS").is_some() {
        std::fs::write(root().join(PAGE), &drawn).unwrap();
        return;
    }
    assert!(page == drawn, "the graphs in {PAGE} are out of date: FIRSTACK_BLESS=1 rewrites them");
}

#[test]
fn the_graphs_show_every_verdict_of_each_role() {
    for graph in graphs() {
        let drawn = graph.all_verdicts();
        let ours = Verdict::ALL.iter().filter(|verdict| verdict.roles().has(graph.role));
        let missing: Vec<_> = ours.filter(|one| !drawn.contains(&(**one as usize))).collect();
        assert!(missing.is_empty(), "no module of the {} gives {missing:?}", graph.name);
    }
}

#[test]
fn the_graphs_show_every_stage() {
    let graphs = graphs();
    let drawn: BTreeSet<_> = graphs.iter().flat_map(Graph::used_stages).collect();
    let stages = files("pipeline/src/stage");
    let name =
        |path: &str| path.rsplit('/').next().map(|file| file.trim_end_matches(".rs").to_owned());
    let stages: Vec<_> =
        stages.iter().filter_map(|path| name(path)).filter(|s| s != "mod").collect();
    let missing: Vec<_> = stages.iter().filter(|stage| !drawn.contains(stage.as_str())).collect();
    assert!(missing.is_empty(), "no role uses {missing:?}");
}

/// Where the paths of docs/architecture.md begin.
const FROM: [&str; 4] = ["", "pipeline/src/", "appliance/src/", "docs/"];

fn exists(path: &str) -> bool {
    let endings = ["", ".rs"];
    let is_there =
        |from: &&str| endings.iter().any(|end| root().join(format!("{from}{path}{end}")).exists());
    FROM.iter().any(is_there)
}

/// The folders and files that the listing of the code map names, as paths from the root.
fn listed(page: &str) -> Vec<String> {
    let map = page.split("## Code map").nth(1).expect("a code map");
    let listing = map.split("```").nth(1).expect("a listing");
    let (mut found, mut folder) = (Vec::new(), String::new());
    for line in listing.lines().filter(|line| !line.is_empty()) {
        let entry = line.trim_start().split(' ').next().unwrap_or_default();
        match line.len() - line.trim_start().len() {
            0 => {
                folder = entry.to_owned();
                found.push(folder.clone());
            }
            2 => found.push(format!("{folder}{entry}")),
            _ => {}
        }
    }
    found
}

#[test]
fn the_listing_names_folders_that_exist_and_leaves_none_out() {
    let listed = listed(&read(PAGE));
    assert!(listed.len() > 20, "{listed:?}");
    let missing: Vec<_> = listed.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "not in the repository: {missing:?}");
    for folder in ["pipeline/src", "appliance/src"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap) {
            let path = format!("{folder}/{}/", entry.file_name().display());
            let is_listed = !entry.path().is_dir() || listed.contains(&path);
            assert!(is_listed, "{path} is not in the listing of {PAGE}");
        }
    }
}

#[test]
fn paths_that_the_page_names_exist() {
    let page = read(PAGE);
    let words = page.split('`').skip(1).step_by(2).filter(|word| !word.contains('\n'));
    let is_path = |word: &&str| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        word.chars().all(is_name) && (word.contains('/') || word.ends_with(".rs"))
    };
    let files: Vec<_> = ["pipeline", "appliance"].iter().flat_map(|folder| files(folder)).collect();
    let is_file = |word: &str| files.iter().any(|path| path.ends_with(&format!("/{word}")));
    let missing: Vec<_> = words
        .filter(is_path)
        .filter(|word| !exists(word.trim_end_matches('/')))
        .filter(|word| word.contains('/') || !is_file(word))
        .collect();
    assert!(missing.is_empty(), "{PAGE} names what is not in the repository: {missing:?}");
}

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const WAIT: Duration = Duration::from_millis(20);

fn config(directory: &Path, letter: char) -> Config {
    let text = format!(
        "role = \"gateway\"\nport.inside.device = \"net_null0\"\nport.outside.device = \
         \"net_null1\"\ntable.directory = {:?}\ngateway.configuration = \"{letter}\"\n\
         [[gateway.service]]\naddress = \"any\"\nallowed_replicas = [\"any\"]\n",
        directory.display()
    );
    Config::parse("f.toml", &text).unwrap()
}

struct Place {
    _above: TempDir,
    directory: PathBuf,
}

impl Place {
    fn new() -> Self {
        let above = tempfile::tempdir_in("/dev/shm").unwrap();
        let directory = above.path().join("tables");
        Self { _above: above, directory }
    }

    fn open(&self) -> Kept {
        self.open_as('A', false)
    }

    fn open_as(&self, letter: char, forgets: bool) -> Kept {
        Kept::open(&config(&self.directory, letter), forgets).unwrap().unwrap()
    }

    /// A process that forwards packets, with this much of a state.
    fn run(&self, rss_word: u32) -> Keeper {
        let mut kept = self.open();
        kept.lock(WAIT).unwrap();
        kept.make_tables(&[[5000, 100], [5000, 100]]).unwrap();
        let secrets = Secrets { rss_word, ..Secrets::default() };
        let state = State { secrets, ..kept.new_state() };
        Keeper::begin(kept, state).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<_> = files(&self.directory).unwrap().into_iter().map(name).collect();
        names.sort();
        names
    }
}

fn word(kept: &Kept) -> Option<u32> {
    kept.state().map(|state| state.secrets.rss_word)
}

#[test]
fn the_next_process_finds_what_was_left_and_removes_it_once_it_forwards() {
    let place = Place::new();
    drop(place.run(7));
    assert_eq!(
        place.names(),
        ["1-0-v4.table", "1-0-v6.table", "1-1-v4.table", "1-1-v6.table", "1.json", "lock"]
    );
    let mut kept = place.open();
    kept.lock(WAIT).unwrap();
    assert_eq!((word(&kept), kept.generation()), (Some(7), 2));
    assert_eq!(kept.found_tables().unwrap().len(), 4);
    kept.make_tables(&[[100, 100]]).unwrap();
    let state = kept.new_state();
    let keeper = Keeper::begin(kept, state).unwrap();
    // Until it forwards, the old ones are whole.
    assert_eq!(place.names().len(), 9);
    keeper.settle();
    assert_eq!(place.names(), ["2-0-v4.table", "2-0-v6.table", "2.json", "lock"]);
}

#[test]
fn a_start_that_fails_or_is_killed_leaves_the_old_tables_whole() {
    let place = Place::new();
    drop(place.run(7));
    let before = place.names();
    // It fails: its own files go.
    let mut kept = place.open();
    kept.lock(WAIT).unwrap();
    kept.make_tables(&[[100, 100]]).unwrap();
    drop(kept);
    assert_eq!(place.names(), before);
    // It is killed: its tables stay and have no state, so that they do not count.
    let mut kept = place.open();
    kept.make_tables(&[[100, 100]]).unwrap();
    kept.stays = true;
    drop(kept);
    let mut kept = place.open();
    assert_eq!((word(&kept), kept.generation()), (Some(7), 3));
    assert_eq!(kept.found_tables().unwrap().len(), 4);
    kept.lock(WAIT).unwrap();
    let state = kept.new_state();
    Keeper::begin(kept, state).unwrap().settle();
    assert_eq!(place.names(), ["3.json", "lock"]);
}

#[test]
fn two_processes_cannot_have_the_same_directory() {
    let place = Place::new();
    let keeper = place.run(7);
    // The next one may look, and make its tables, while this one forwards.
    let mut kept = place.open();
    assert_eq!(word(&kept), Some(7));
    kept.make_tables(&[[100, 100]]).unwrap();
    assert!(matches!(kept.lock(WAIT), Err(Error::InUse(_))));
    drop(keeper);
    kept.lock(WAIT).unwrap();
}

#[test]
fn what_is_of_no_use_is_refused_with_a_reason() {
    let place = Place::new();
    drop(place.run(7));
    let why = |kept: &Kept| match kept.found() {
        Found::Refused(why) => why.clone(),
        found => panic!("{found:?}"),
    };
    assert_eq!(why(&place.open_as('A', true)), "--forget");
    assert!(why(&place.open_as('B', false)).contains("configuration A"));
    let state = place.directory.join("1.json");
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, text.replace(&place.open().owner.boot, "another")).unwrap();
    assert_eq!(why(&place.open()), "the machine has been started since");
    std::fs::write(&state, &text[..50]).unwrap();
    assert!(why(&place.open()).contains("1.json"), "{}", why(&place.open()));
    std::fs::remove_file(&state).unwrap();
    assert!(matches!(place.open().found(), Found::Nothing));
}

#[test]
fn a_state_is_written_when_it_has_changed_and_not_more_often_than_needed() {
    let place = Place::new();
    let mut keeper = place.run(7);
    let read = || word(&place.open()).unwrap();
    let set = |word| move |state: &mut State| state.secrets.rss_word = word;
    keeper.step(set(8));
    assert_eq!(read(), 7, "not yet");
    keeper.next = Instant::now();
    keeper.step(set(8));
    assert_eq!(read(), 8);
    let written = keeper.written;
    keeper.next = Instant::now();
    keeper.step(|state| state.clock = (1, 1));
    assert_eq!(keeper.written, written, "only the time has changed");
    keeper.write_now(set(9));
    assert_eq!(read(), 9);
}

#[test]
fn a_directory_that_others_can_get_at_is_refused() {
    let place = Place::new();
    drop(place.open());
    std::fs::set_permissions(&place.directory, PermissionsExt::from_mode(0o755)).unwrap();
    let open = || Kept::open(&config(&place.directory, 'A'), false);
    let error = open().unwrap_err().to_string();
    assert!(error.starts_with("table.directory: ") && error.contains("0755"), "{error}");
    std::fs::remove_dir(&place.directory).unwrap();
    std::os::unix::fs::symlink("/dev/shm", &place.directory).unwrap();
    assert!(open().unwrap_err().to_string().contains("is not a directory"));
}

#[test]
fn without_room_the_error_says_what_to_do() {
    let place = Place::new();
    let kept = place.open();
    let total = kept_memory::room(&place.directory).unwrap().total as usize;
    let error = kept.make_tables(&[[100, 100], [total, 100]]).unwrap_err().to_string();
    assert!(error.contains("table.keep = false"), "{error}");
    drop(kept);
    assert_eq!(place.names(), Vec::<String>::new());
}

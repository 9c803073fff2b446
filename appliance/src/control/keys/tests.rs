use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

const ONE: &str = "000102030405060708090a0b0c0d0e0f";
const TWO: &str = "FFEEDDCCBBAA99887766554433221100";

fn parse(text: &str) -> Result<Keys, String> {
    Keys::parse("keys", text.as_bytes(), Purpose::Sign).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn reads_ids_keys_and_which_one_signs() {
    let text = format!("# both\n\n  0 {ONE}\n255\t{TWO} sign # this year's\r\n#{ONE}");
    let keys = parse(&text).unwrap();
    let one = std::array::from_fn(|n| n as u8);
    let two = std::array::from_fn(|n| 0xff - 0x11 * n as u8);
    assert_eq!(keys.all(), [(0, one), (255, two)]);
    assert_eq!(keys.sign_with(), Some(255));
    let keys = Keys::parse("keys", format!("7 {ONE}").as_bytes(), Purpose::Check).unwrap();
    assert_eq!((keys.all().len(), keys.sign_with()), (1, None));
}

#[test]
fn every_mistake_names_its_line_and_what_is_expected() {
    let id = "the first word is no key id; expected an integer from 0 to 255";
    let digit = "of the key is no hexadecimal digit; expected exactly 32 hexadecimal digits";
    let count = "digits; expected exactly 32 hexadecimal digits";
    let cases = [
        ("", format!("keys:1: the file ends without a key; {LINE}")),
        ("# none\n\n", format!("keys:2: the file ends without a key; {LINE}")),
        (&format!("256 {ONE} sign"), format!("keys:1: {id}")),
        (&format!("+7 {ONE} sign"), format!("keys:1: {id}")),
        (&format!("-1 {ONE} sign"), format!("keys:1: {id}")),
        (&format!("{ONE} 7 sign"), format!("keys:1: {id}")),
        ("7", format!("keys:1: there is no key; {LINE}")),
        ("7 # 00", format!("keys:1: there is no key; {LINE}")),
        (&format!("7 {}", &ONE[1..]), format!("keys:1: the key has 31 {count}")),
        (&format!("7 {ONE}0"), format!("keys:1: the key has 33 {count}")),
        (&format!("7 0x{ONE}"), format!("keys:1: character 2 {digit}")),
        (&format!("7 é{}", &ONE[1..]), format!("keys:1: character 1 {digit}")),
        (
            &format!("7 {ONE} signs"),
            "keys:1: the third word is another; expected `sign`, or none".to_owned(),
        ),
        (
            &format!("7 {ONE} sign {TWO}"),
            "keys:1: there is a fourth word; expected the end of the line".to_owned(),
        ),
        (
            &format!("7 {ONE}\n\n7 {TWO} sign"),
            "keys:3: line 1 has a key with id 7; expected each id once".to_owned(),
        ),
        (
            &format!("7 {ONE} sign\n8 {TWO} sign"),
            "keys:2: the key on line 1 signs; expected one that does".to_owned(),
        ),
        (
            &format!("7 {ONE}\n8 {TWO}\n"),
            "keys:2: the file ends without a key that signs; expected `sign` after one key, as a \
             gateway signs"
                .to_owned(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).unwrap_err(), expected, "{text:?}");
    }
    let mistakes = Keys::parse("keys", b"7 \xff", Purpose::Check).unwrap_err();
    assert_eq!(mistakes.to_string(), format!("keys:1: is not text; {LINE}"));
    let mistakes = Keys::parse("keys", b"x\n7 00\n", Purpose::Check).unwrap_err();
    assert_eq!(mistakes.iter().map(|mistake| mistake.line).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(mistakes.to_string(), format!("keys:1: {id}\nkeys:2: the key has 2 {count}"));
}

#[test]
fn what_a_key_is_shows_nowhere() {
    let keys = parse(&format!("7 {ONE} sign")).unwrap();
    assert_eq!(format!("{keys:?}"), "Keys { ids: [7], sign: Some(7), .. }");
}

/// Returns a file with this text and mode.
fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    (directory, path)
}

#[test]
fn a_file_for_its_owner_alone_is_loaded() {
    for mode in [0o600, 0o400, 0o700] {
        let (_directory, path) = file(&format!("7 {ONE} sign\n"), mode);
        assert_eq!(Keys::load(&path, Purpose::Sign).unwrap().sign_with(), Some(7));
    }
    let (directory, path) = file("7\n", 0o600);
    let mistake = Keys::load(&path, Purpose::Sign).unwrap_err().to_string();
    assert!(mistake.starts_with(&format!("{}:1: there is no key", path.display())), "{mistake}");
    let gone = Keys::load(&directory.path().join("gone"), Purpose::Sign).unwrap_err();
    assert!(gone.to_string().contains("cannot be read: No such file"), "{gone}");
}

#[test]
fn a_file_that_others_get_at_is_refused() {
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666] {
        let (_directory, path) = file(&format!("7 {ONE} sign\n"), mode);
        let error = Keys::load(&path, Purpose::Sign).unwrap_err().to_string();
        assert!(error.contains(&format!("has mode {mode:04o}")), "{error}");
    }
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    for path in [&*fifo, directory.path(), Path::new("/dev/null")] {
        let error = Keys::load(path, Purpose::Check).unwrap_err().to_string();
        assert!(error.contains("is not a regular file"), "{error}");
    }
    let (_directory, path) = file(&"# long\n".repeat(1 << 18), 0o600);
    let error = Keys::load(&path, Purpose::Check).unwrap_err().to_string();
    assert!(error.contains("has more than"), "{error}");
}

/// Returns text that is nearly a key file.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[0-9]{1,4}",
        "[0-9a-fA-F]{32}",
        "[0-9a-f]{30,34}",
        Just("sign".to_owned()),
        Just("#".to_owned()),
        "\\PC{0,5}",
    ];
    let line = proptest::collection::vec(word, 0..5).prop_map(|words| words.join(" "));
    proptest::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
}

/// Checks that any text gives either valid keys or mistakes that reveal no key.
fn check(text: &[u8]) {
    match Keys::parse("file", text, Purpose::Sign) {
        Ok(keys) => {
            let mut ids: Vec<_> = keys.all().iter().map(|(id, _)| *id).collect();
            assert!(ids.contains(&keys.sign_with().unwrap()));
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), keys.all().len());
        }
        Err(mistakes) => {
            let shown = mistakes.to_string().replace(LINE, "").to_lowercase();
            let words = String::from_utf8_lossy(text).to_lowercase();
            // Shorter words may occur in any sentence.
            let mut long = words.split_whitespace().filter(|word| word.len() >= 12);
            assert!(long.all(|word| !shown.contains(word)), "{shown}");
            assert_eq!(shown.lines().count(), mistakes.iter().count());
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_keys_or_mistakes(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&text);
    }

    #[test]
    fn what_is_nearly_a_key_file_is_keys_or_mistakes(text in nearly()) {
        check(text.as_bytes());
    }
}

//! Checks of the key file and the password file: each must exist, be a regular file, and be
//! protected.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use firstack::sys::kept_memory;

use crate::{SERVICE, accepted};

/// Returns the error about a key file; empty if there is none.
fn complaint(keys: &Path) -> String {
    let text = format!("[worker]\ncores = [0]\n[tag]\nkeys = {keys:?}\n{SERVICE}");
    match accepted("gateway", &text).check_presence("f.toml") {
        Ok(()) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

const EXPECTED: &str =
    "expected a regular file of this process's user or root, without access for others";

#[test]
fn the_key_file_is_for_its_owner_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path();
    let shown = path.display();
    for (mode, good) in [
        (0o600, true),
        (0o400, true),
        (0o700, true),
        (0o640, false),
        (0o620, false),
        (0o610, false),
        (0o604, false),
        (0o602, false),
        (0o601, false),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let expected = match good {
            true => String::new(),
            false => format!(
                "f.toml:7: tag.keys: {shown} has mode {mode:04o}, which lets others get at \
                 it; {EXPECTED}"
            ),
        };
        assert_eq!(complaint(path), expected);
    }
}

#[test]
fn the_key_file_is_a_file_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("keys");
    let expected = format!("f.toml:7: tag.keys: {} is not there: ", missing.display());
    assert!(complaint(&missing).starts_with(&expected), "{}", complaint(&missing));
    let expected = format!(
        "f.toml:7: tag.keys: {} is not a regular file; {EXPECTED}",
        folder.path().display()
    );
    assert_eq!(complaint(folder.path()), expected);
    // A symbolic link counts as its target.
    std::fs::write(folder.path().join("target"), "").unwrap();
    std::fs::set_permissions(folder.path().join("target"), std::fs::Permissions::from_mode(0o600))
        .unwrap();
    symlink("target", &missing).unwrap();
    assert_eq!(complaint(&missing), "");
}

#[test]
fn the_key_file_belongs_to_this_user_or_root() {
    let file = tempfile::NamedTempFile::new().unwrap();
    if chown(file.path(), Some(54321), None).is_err() {
        return; // Only root can give files away.
    }
    let shown = file.path().display();
    let expected = format!("f.toml:7: tag.keys: {shown} belongs to user 54321; {EXPECTED}");
    assert_eq!(complaint(file.path()), expected);
}

#[test]
fn the_key_file_can_be_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o200)).unwrap();
    if std::fs::File::open(file.path()).is_ok() {
        return; // Root reads what it likes.
    }
    let expected = format!("f.toml:7: tag.keys: {} cannot be read: ", file.path().display());
    assert!(complaint(file.path()).starts_with(&expected), "{}", complaint(file.path()));
}

#[test]
fn the_password_file_is_protected_like_the_key_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path();
    let shown = path.display();
    let text = format!(
        "[gateway.share]\nserver = \"store:1\"\npassword_file = {path:?}\n\
         {SERVICE}"
    );
    let config = accepted("gateway", &text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    config.check_presence("f.toml").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let expected = format!(
        "f.toml:6: gateway.share.password_file: {shown} has mode 0644, which lets others get at \
         it; {EXPECTED}"
    );
    assert_eq!(config.check_presence("f.toml").unwrap_err().to_string(), expected);
}

#[test]
fn tables_beyond_this_machines_memory_are_refused() {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let kib: u64 = total.trim().trim_end_matches(" kB").parse().unwrap();
    let text = "[worker]\ncores = [0]\n[table]\nkeep = false\nmax_connections = 67108864\n\
                [[gateway.service]]\naddress = \"any\"\nallowed_replicas = [\"any\"]\n";
    let complaint = match accepted("gateway", text).check_presence("f.toml") {
        Ok(()) => String::new(),
        Err(errors) => errors.to_string(),
    };
    // 67108864 connections of each family: 77 and 141 bytes each.
    let needed = 13_952;
    match kib >> 10 < needed {
        true => {
            let expected = format!("table.max_connections: the tables take {} GiB", needed >> 10);
            assert!(complaint.contains(&expected), "{complaint}");
        }
        false => assert!(!complaint.contains("table.max_connections"), "{complaint}"),
    }
}

#[test]
fn tables_that_are_kept_are_on_a_tmpfs_that_has_room_for_them() {
    let complaint = |table: &str| {
        let text = format!("[worker]\ncores = [0]\n[table]\n{table}\n{SERVICE}");
        match accepted("gateway", &text).check_presence("f.toml") {
            Ok(()) => String::new(),
            Err(errors) => errors.to_string(),
        }
    };
    assert_eq!(complaint("directory = \"/dev/shm/not-there-yet\""), "");
    let refused = complaint("directory = \"/proc/tables\"");
    assert!(refused.starts_with("f.toml:7: table.directory: /proc is not on a tmpfs"), "{refused}");
    assert!(refused.contains("mount -t tmpfs") && refused.contains("table.keep = false"));
    assert_eq!(complaint("directory = \"/proc/tables\"\nkeep = false"), "");
    let refused = complaint("max_connections = 67108864\nmax_connections_v6 = 67108864");
    let room = kept_memory::room(Path::new("/dev/shm")).unwrap();
    let expected = "f.toml:6: table.directory: the tables take 14 GiB";
    assert_eq!(refused.contains(expected), room.total < 28 << 30, "{refused}");
}

use proptest::prelude::*;

use super::*;

fn socket() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/control.sock");
    (directory, path)
}

/// Returns the answer to a request whose sender waits for it, with its end closed or open.
fn exchange(request: &[u8], end: bool) -> String {
    let (mut client, server) = UnixStream::pair().unwrap();
    client.write_all(request).unwrap();
    if end {
        client.shutdown(std::net::Shutdown::Write).unwrap();
    }
    // A request that is too long is answered before it is read to its end, which resets the sender.
    let mut server = Client::new(server).unwrap();
    let mut answer = |command| Answer::Done(format!("{command:?}")).into();
    while server.step(&mut answer).unwrap_or(false) {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(server);
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_request_is_answered_and_nonsense_is_refused() {
    let (_directory, path) = socket();
    let mut server = Server::bind(&path).unwrap();
    let client = std::thread::spawn({
        let path = path.clone();
        move || {
            let drained = ask(&path, Command::Drain { name: None }).unwrap();
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(b"nonsense\n").unwrap();
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            (drained, line)
        }
    });
    while !client.is_finished() {
        server.serve(|command| Answer::Done(format!("{command:?}")));
        std::thread::sleep(Duration::from_millis(1));
    }
    let (drained, line) = client.join().unwrap();
    assert!(matches!(drained, Answer::Done(text) if text == "Drain { name: None }"));
    assert!(line.contains("cannot parse the request"), "{line}");
}

#[test]
fn replaces_a_dead_socket_but_not_a_live_one() {
    let (_directory, path) = socket();
    let server = Server::bind(&path).unwrap();
    assert!(matches!(Server::bind(&path), Err(Error::InUse(_))));
    drop(server);
    assert!(!path.exists());
    assert!(matches!(ask(&path, Command::Stats), Err(Error::NotRunning(_))));
    // As a killed process leaves it behind.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Server::bind(&path).unwrap());
    // A mistake in the configuration destroys no file.
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Server::bind(&path), Err(Error::Occupied(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn commands_are_one_flat_object() {
    let name: Name = "shop/web1".parse().unwrap();
    let cases = [
        (Command::Stats, r#"{"command":"stats"}"#),
        (Command::Drain { name: None }, r#"{"command":"drain"}"#),
        (Command::Undrain { name: None }, r#"{"command":"undrain"}"#),
        (Command::Drain { name: Some(name.clone()) }, r#"{"command":"drain","name":"shop/web1"}"#),
        (Command::Undrain { name: Some(name) }, r#"{"command":"undrain","name":"shop/web1"}"#),
        (Command::Busy, r#"{"command":"busy"}"#),
        (Command::Unbusy, r#"{"command":"unbusy"}"#),
        (Command::Reload { dry_run: false }, r#"{"command":"reload"}"#),
        (Command::Reload { dry_run: true }, r#"{"command":"reload","dry_run":true}"#),
    ];
    for (command, text) in cases {
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
        assert_eq!(parse(format!("{text}\nand more").as_bytes()), Ok(command));
    }
    assert_eq!(parse(br#"{"command":"drain","name":null}"#), Ok(Command::Drain { name: None }));
}

#[test]
fn an_invalid_command_is_refused_with_the_reason() {
    let cases = [
        ("", "EOF"),
        ("\n{\"command\":\"stats\"}", "EOF"),
        ("{}", "missing field `command`"),
        (r#"{"command":"stop"}"#, "unknown variant `stop`"),
        (r#"{"command":"stats"} {"#, "trailing characters"),
        (r#"{"command":"drain","name":""}"#, "expected a name of 1 to 200 printable characters"),
        (r#"{"command":"drain","name":"a b"}"#, "expected a name"),
        (r#"{"command":"drain","name":"a\u001b[2J"}"#, "expected a name"),
        (r#"{"command":"drain","name":7}"#, "invalid type: integer `7`"),
    ];
    for (request, expected) in cases {
        let error = parse(request.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{request}: {error}");
    }
    let name = |length| Name::try_from("x".repeat(length));
    assert!(name(Name::LONGEST).is_ok() && name(Name::LONGEST + 1).is_err());
}

#[test]
fn a_sender_that_does_not_end_its_line_is_answered() {
    assert!(exchange(b"", false).contains("cannot parse the request"));
    assert!(exchange(br#"{"command":"#, false).contains("cannot parse the request"));
    assert!(exchange(br#"{"command":"stats"}"#, false).contains("Stats"));
}

#[test]
fn silent_clients_neither_stall_the_server_nor_keep_others_from_their_answer() {
    let (_directory, path) = socket();
    let mut server = Server::bind(&path).unwrap();
    let silent: Vec<_> = (0..100).map(|_| UnixStream::connect(&path).unwrap()).collect();
    // One that has begun a line, and one that does not read its long answer.
    let mut begun = UnixStream::connect(&path).unwrap();
    begun.write_all(b"{\"command\"").unwrap();
    let mut deaf = UnixStream::connect(&path).unwrap();
    deaf.write_all(b"{\"command\":\"stats\"}\n").unwrap();
    let client = std::thread::spawn({
        let path = path.clone();
        move || {
            let start = std::time::Instant::now();
            let answer = ask(&path, Command::Reload { dry_run: false }).unwrap();
            (answer, start.elapsed())
        }
    });
    let mut longest = Duration::ZERO;
    while !client.is_finished() {
        let start = std::time::Instant::now();
        server.serve(|command| match command {
            Command::Stats => Answer::Done("x".repeat(10 << 20)),
            command => Answer::Done(format!("{command:?}")),
        });
        longest = longest.max(start.elapsed());
        assert!(server.clients.len() <= MOST_CLIENTS);
        std::thread::sleep(Duration::from_millis(1));
    }
    let (answer, waited) = client.join().unwrap();
    assert!(matches!(answer, Answer::Done(text) if text == "Reload { dry_run: false }"));
    // Generously, for a machine that is busy: one silent client alone used to take half a second.
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    assert!(longest < Duration::from_millis(400), "{longest:?}");
    // They are let go, too.
    let start = std::time::Instant::now();
    while !server.clients.is_empty() && start.elapsed() < Duration::from_secs(60) {
        server.serve(|_| Answer::Done(String::new()));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(server.clients.is_empty());
    drop((silent, begun, deaf));
}

#[test]
fn a_process_that_is_about_to_end_is_waited_for() {
    let (_directory, path) = socket();
    let dying = Server::bind(&path).unwrap();
    let again = Server::bind_within(&path, Duration::from_millis(50));
    assert!(matches!(again, Err(Error::InUse(_))));
    let end = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(dying);
    });
    let next = Server::bind_within(&path, Duration::from_secs(60)).unwrap();
    end.join().unwrap();
    assert!(path.exists());
    drop(next);
    assert!(!path.exists());
}

#[test]
fn an_answer_may_follow_after_another_process_serves_the_socket() {
    let (_directory, path) = socket();
    let mut old = Server::bind(&path).unwrap();
    let client = std::thread::spawn({
        let path = path.clone();
        move || {
            let command = Command::Upgrade { binary: None, timeout: 1 };
            ask_within(&path, command, Duration::from_secs(60)).unwrap()
        }
    });
    while !old.clients.iter().any(Client::waits) {
        old.serve(|_| Reply::Later);
    }
    // Longer than the patience with other clients.
    std::thread::sleep(MAX_WAIT + Duration::from_millis(50));
    old.serve(|_| Reply::Later);
    old.let_go();
    let new = Server::bind(&path).unwrap();
    old.serve(|_| Reply::Later);
    old.answer_waiting(&Answer::Done("upgraded".to_owned()));
    drop(old);
    assert!(matches!(client.join().unwrap(), Answer::Done(text) if text == "upgraded"));
    assert!(path.exists(), "the new process's socket was removed");
    drop(new);
}

#[test]
fn only_the_owner_has_access_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = socket();
    let _server = Server::bind(&path).unwrap();
    let mode = std::fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A link that waits at the early name is not followed.
    let other = path.with_file_name("precious");
    std::fs::write(&other, "precious").unwrap();
    let second = path.with_file_name("second.sock");
    std::os::unix::fs::symlink(&other, second.with_extension("new")).unwrap();
    drop(Server::bind(&second).unwrap());
    assert_eq!(std::fs::read(&other).unwrap(), b"precious");
    let mode = std::fs::metadata(&other).unwrap().permissions().mode();
    assert_ne!(mode & 0o777, 0o600);
}

#[test]
fn an_answer_without_end_is_not_read_for_ever() {
    let path = Path::new("somewhere");
    let endless = read_answer(std::io::repeat(b'x'), path);
    assert!(matches!(endless, Err(Error::TooLong(_))), "{endless:?}");
    assert!(matches!(read_answer(&b"nonsense\n"[..], path), Err(Error::Answer { .. })));
}

#[test]
fn a_request_that_is_too_long_is_refused() {
    for end in [false, true] {
        let line = exchange(&b" ".repeat(10 * LONGEST), end);
        assert!(line.contains("longer than 4096 bytes"), "{line}");
    }
    // As long as it may be.
    let mut longest = br#"{"command":"reload"}"#.to_vec();
    longest.resize(LONGEST, b' ');
    longest.push(b'\n');
    assert!(exchange(&longest, false).contains("Reload"));
}

/// Returns text that is nearly a request.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let commands = "(stats|drain|undrain|busy|unbusy|reload|[a-z]{0,6})";
    let text =
        format!("\\{{?\"command\":\"{commands}\"(,\"name\":(null|\"\\PC{{0,9}}\"|[0-9]))?\\}}?");
    proptest::string::string_regex(&text).unwrap().prop_map(String::into_bytes)
}

proptest! {
    #[test]
    fn any_request_is_answered_by_one_line(
        request in prop_oneof![proptest::collection::vec(any::<u8>(), 0..600), nearly()],
    ) {
        let line = exchange(&request, true);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let answer = serde_json::from_str::<Answer>(&line).unwrap();
        match parse(&request) {
            Ok(command) => {
                let done = matches!(&answer, Answer::Done(text) if *text == format!("{command:?}"));
                prop_assert!(done, "{answer:?}");
                // It is one that a client would send.
                let sent = serde_json::to_vec(&command).unwrap();
                prop_assert_eq!(parse(&sent), Ok(command));
            }
            Err(error) => {
                let reported = matches!(&answer, Answer::Error(text) if text.ends_with(&error));
                prop_assert!(reported, "{answer:?}");
            }
        }
    }
}

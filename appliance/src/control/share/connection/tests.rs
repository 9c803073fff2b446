use std::io::Cursor;
use std::os::unix::net::UnixListener;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn read_all(bytes: &[u8]) -> io::Result<Vec<u8>> {
    read_reply(&mut Cursor::new(bytes))
}

#[test]
fn a_reply_ends_where_it_ends() {
    for reply in [
        "+OK\r\n",
        ":7\r\n",
        "-ERR no\r\n",
        "$-1\r\n",
        "$0\r\n\r\n",
        "$3\r\na\r\n\r\n",
        "*0\r\n",
        "*-1\r\n",
        "*2\r\n$1\r\na\r\n:1\r\n",
    ] {
        let both = format!("{reply}+next\r\n");
        assert_eq!(read_all(both.as_bytes()).unwrap(), reply.as_bytes(), "{reply:?}");
        redis::parse_redis_value(reply.as_bytes()).unwrap();
        for short in 0..reply.len() {
            let error = read_all(&reply.as_bytes()[..short]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{:?}", &reply[..short]);
        }
    }
}

#[test]
fn a_reply_that_no_command_has_is_refused() {
    for reply in [
        "\r\n",
        "+OK\n",
        "*65\r\n",
        "*1000000000\r\n",
        "$65537\r\n",
        "$9223372036854775807\r\n",
        "$-2\r\n",
        "$x\r\n",
        "$\r\n",
        "*1\r\n*1\r\n",
        "%1\r\n+a\r\n+b\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
        &format!("+{}\r\n", "a".repeat(1024)),
    ] {
        let error = read_all(reply.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{reply:?}");
    }
    let long = format!("*3\r\n{}", format!("$65536\r\n{}\r\n", "a".repeat(65536)).repeat(3));
    assert_eq!(read_all(long.as_bytes()).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// Returns the error of a command to a server that does this.
fn error_of(serve: impl FnOnce(UnixStream) + Send + 'static) -> RedisError {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || serve(listener.accept().unwrap().0));
    let mut connection = Connection::open(&StoreServer::Unix(path)).unwrap();
    let error = redis::cmd("PING").exec(&mut connection).unwrap_err();
    assert!(!connection.is_open());
    let again = redis::cmd("PING").exec(&mut connection).unwrap_err();
    assert!(reason(&again).contains("not connected"), "{again}");
    drop(connection);
    server.join().unwrap();
    error
}

#[test]
fn a_server_that_says_nothing_or_slowly_is_left() {
    let silent = |mut stream: UnixStream| drop(stream.read_to_end(&mut Vec::new()));
    assert_eq!(reason(&error_of(silent)), "no answer in time");
    let slow = |mut stream: UnixStream| {
        while stream.write_all(b"+").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    assert_eq!(reason(&error_of(slow)), "no answer in time");
}

#[test]
fn a_server_that_says_too_much_is_left() {
    for begin in ["+", "$9\r\n", "*64\r\n"] {
        let endless = move |mut stream: UnixStream| {
            let _ = stream.write_all(begin.as_bytes());
            while stream.write_all(&[b'a'; 4096]).is_ok() {}
        };
        error_of(endless);
    }
    let strings = |mut stream: UnixStream| {
        let _ = stream.write_all(b"*64\r\n");
        let string = format!("$60000\r\n{}\r\n", "a".repeat(60_000));
        while stream.write_all(string.as_bytes()).is_ok() {}
    };
    assert!(reason(&error_of(strings)).contains("too long"));
}

#[test]
fn a_server_that_accepts_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let _listener = UnixListener::bind(&path).unwrap();
    // The queue of the listener is full at some time, which a plain connect() would wait for.
    let mut waiting = Vec::new();
    let server = StoreServer::Unix(path);
    let full = (0..10_000).find_map(|_| match Connection::open(&server) {
        Ok(connection) => {
            waiting.push(connection);
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    let gone = Connection::open(&StoreServer::Unix(Path::new("/nonexistent/store").into()));
    assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_reason_is_one_short_line() {
    let error = io::Error::other(format!("a\nb\u{1b}[2J{}", "c".repeat(1000)));
    let shown = reason(&error.into());
    assert!(shown.chars().count() <= 200 && !shown.contains(char::is_control), "{shown:?}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_a_reply_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(reply) = read_all(&bytes) {
            let _ = redis::parse_redis_value(&reply);
        }
    }

    #[test]
    fn what_is_nearly_a_reply_is_one_or_an_error(
        parts in vec(prop_oneof!["[-+:$*%~>|=!(,#_]", "-?[0-9]{1,3}", Just("\r\n".to_owned()), "[a-z]{0,4}"], 0..20)
    ) {
        if let Ok(reply) = read_all(parts.concat().as_bytes()) {
            let _ = redis::parse_redis_value(&reply);
        }
    }
}

//! The subset of HTTP/1.1 that a probe needs: a GET request and the first bytes of the answer.

use super::Http;

/// Bytes of an answer that are read: "HTTP/1.1 200" and the character after it.
pub const NEEDED: usize = 13;

/// Returns the request of a check.
pub(super) fn request(http: &Http) -> Vec<u8> {
    let Http { host, path, .. } = http;
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: firstack/{}\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    )
    .into_bytes()
}

/// The result of parsing the beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// More bytes are needed.
    More,
    /// The status code.
    Status(u16),
    /// The answer is not HTTP/1.
    Garbage,
}

/// Parses a status line as soon as its code is complete; later bytes are ignored.
pub fn status(line: &[u8]) -> Line {
    let fits = |(at, byte): (usize, &u8)| match at {
        0..=6 => b"HTTP/1."[at] == *byte,
        7 | 10 | 11 => byte.is_ascii_digit(),
        8 => *byte == b' ',
        9 => matches!(byte, b'1'..=b'9'),
        // The end of the code: a space and a reason, or the end of the line.
        12 => matches!(byte, b' ' | b'\r' | b'\n'),
        _ => true,
    };
    if !line.iter().enumerate().all(fits) {
        return Line::Garbage;
    }
    match line.get(9..NEEDED) {
        None => Line::More,
        Some(code) => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Line::Status(digit(code[0]) * 100 + digit(code[1]) * 10 + digit(code[2]))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_code_is_read_as_soon_as_it_is_there() {
        let cases: [(&[u8], Line); 14] = [
            (b"", Line::More),
            (b"HTT", Line::More),
            (b"HTTP/1.1 200", Line::More),
            (b"HTTP/1.1 200 ", Line::Status(200)),
            (b"HTTP/1.0 404\r", Line::Status(404)),
            (b"HTTP/1.1 503\nRetry-After: 1", Line::Status(503)),
            (b"HTTP/1.1 999 Request denied", Line::Status(999)),
            (b"HTTP/2 200\r\n", Line::Garbage),
            (b"HTTP/1.1 2000", Line::Garbage),
            (b"HTTP/1.1 020 ", Line::Garbage),
            (b"HTTP/1.1  200", Line::Garbage),
            (b"HTTP/1.1 20x ", Line::Garbage),
            (b"SSH-2.0-OpenSSH_9.2", Line::Garbage),
            (b"\x15\x03\x01\x00\x02", Line::Garbage),
        ];
        for (line, expected) in cases {
            assert_eq!(status(line), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn the_request_is_whole() {
        let (host, path) = ("[2001:db8::1]:8080".to_owned(), "/health?deep=1".to_owned());
        let request = request(&Http { host, path, tells_busy: false });
        let request = String::from_utf8(request).unwrap();
        assert!(request.starts_with("GET /health?deep=1 HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n"));
        assert!(request.ends_with("\r\nConnection: close\r\n\r\n"), "{request:?}");
    }

    proptest! {
        /// A decision stays the same whatever bytes follow.
        #[test]
        fn more_bytes_change_no_decision(
            line in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..30),
                "HTTP/1.[0-9] [0-9]{3}[ \r\n]?[a-z]{0,10}".prop_map(String::into_bytes),
            ],
        ) {
            let mut decided = Line::More;
            for length in 0..=line.len() {
                let now = status(&line[..length]);
                prop_assert!(decided == Line::More || now == decided);
                decided = now;
            }
            prop_assert!(decided != Line::More || line.len() < NEEDED);
        }
    }
}

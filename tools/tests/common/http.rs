//! A server of a test's own, on this machine only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// What a client asks for.
pub(crate) struct Asked {
    /// Method and path, as in `POST /digest`.
    pub(crate) what: String,
    /// Head lines, in small letters.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A status line's end, and what comes with it.
pub(crate) type Answer = (&'static str, Vec<u8>);

/// Answers whoever asks, until the test is over; gives its address.
pub(crate) fn serve(mut answer: impl FnMut(&Asked) -> Answer + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            // A client may ask for several things, one after the other.
            while let Some(asked) = read(&mut stream) {
                let (status, body) = answer(&asked);
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                if stream.get_mut().write_all(&[head.as_bytes(), &body].concat()).is_err() {
                    break;
                }
            }
        }
    });
    url
}

/// `None` when the client has gone.
fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        (stream.read_until(b'\n', &mut head).ok()? > 0).then_some(())?;
    }
    let head = String::from_utf8(head).unwrap();
    let what = head.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Asked { what, head, body })
}

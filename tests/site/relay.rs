//! What stands between an importer and its server: a network or a pooler that fails at the worst moment.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Where a connection is cut, or held up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    /// The server never hears of the commit.
    BeforeTheServer,
    /// The server commits, its answer is lost.
    AfterTheServer,
    /// The server commits, its answer is lost, and a pooler in between says so in its own words.
    BehindAPooler,
    /// The server never hears of the commit, and the importer waits.
    Held,
    /// The server commits, and the importer waits for its answer.
    Unanswered,
}

pub struct Relay {
    pub port: u16,
    /// Told of the word COMMIT, when it has been dealt with.
    pub committing: Receiver<()>,
}

/// A relay between the importer and the server that cuts the connection, or holds it up, at the word COMMIT.
pub fn relay(server: u16, cut: Cut) -> Relay {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (dealt_with, committing) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut upstream = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let (mut from_server, mut to_client) =
                (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            // From the commit on, what the server says goes nowhere.
            let told = Arc::new(AtomicBool::new(false));
            let silent = Arc::clone(&told);
            let dealt_with = dealt_with.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(n) = from_server.read(&mut buffer) {
                    if n == 0 || silent.load(Ordering::SeqCst) || to_client.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                if !silent.load(Ordering::SeqCst) {
                    let _ = to_client.shutdown(Shutdown::Both);
                }
            });
            std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(n) = client.read(&mut buffer) {
                    // A simple query: Q, a length, the text, a zero.
                    let is_commit = buffer[..n].starts_with(b"Q") && buffer[..n].ends_with(b"COMMIT\0");
                    if n == 0 || (is_commit && cut == Cut::BeforeTheServer) {
                        break;
                    }
                    if is_commit && matches!(cut, Cut::Held | Cut::Unanswered) {
                        if cut == Cut::Unanswered {
                            told.store(true, Ordering::SeqCst);
                            upstream.write_all(&buffer[..n]).unwrap();
                        }
                        let _ = dealt_with.send(());
                        // Until the importer is gone.
                        continue;
                    }
                    if is_commit {
                        if cut == Cut::BehindAPooler {
                            told.store(true, Ordering::SeqCst);
                        } else {
                            client.shutdown(Shutdown::Both).unwrap();
                        }
                        upstream.write_all(&buffer[..n]).unwrap();
                        std::thread::sleep(Duration::from_millis(500));
                        if cut == Cut::BehindAPooler {
                            let words = b"SFATAL\0VFATAL\0C08P01\0Mserver conn crashed?\0\0";
                            let length = (words.len() as u32 + 4).to_be_bytes();
                            client.write_all(&[b"E", &length[..], words].concat()).unwrap();
                        }
                        break;
                    }
                    if upstream.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
                let _ = upstream.shutdown(Shutdown::Both);
            });
        }
    });
    Relay { port, committing }
}

/// A pooler in transaction mode at its worst: what begins with one of `elsewhere` goes to another session of
/// the same database, with all that follows until a query that begins with one of `back`. `set_up` is what that
/// session has done before.
pub fn pooler(server: u16, database: &str, set_up: &str, elsewhere: &'static str, back: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = session(server, database, set_up);
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let own = TcpStream::connect(("127.0.0.1", server)).unwrap();
        for server in [&own, &other] {
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
        }
        let (mut now, mut buffer) = (&own, [0; 65536]);
        while let Ok(n @ 1..) = client.read(&mut buffer) {
            // A simple query: Q, a length, the text.
            let query = buffer[..n].strip_prefix(b"Q").and_then(|rest| rest.get(4..)).unwrap_or_default();
            if query.starts_with(elsewhere.as_bytes()) {
                now = &other;
            } else if query.starts_with(back.as_bytes()) {
                now = &own;
            }
            if now.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        for server in [&own, &other] {
            let _ = server.shutdown(Shutdown::Both);
        }
    });
    port
}

/// A session that is through with its greeting, and with a query.
fn session(server: u16, database: &str, query: &str) -> TcpStream {
    let mut session = TcpStream::connect(("127.0.0.1", server)).unwrap();
    let hello = format!("\0\x03\0\0user\0postgres\0database\0{database}\0\0");
    session.write_all(&(hello.len() as u32 + 4).to_be_bytes()).unwrap();
    session.write_all(hello.as_bytes()).unwrap();
    until_ready(&mut session);
    session.write_all(b"Q").unwrap();
    session.write_all(&(query.len() as u32 + 5).to_be_bytes()).unwrap();
    session.write_all(query.as_bytes()).unwrap();
    session.write_all(b"\0").unwrap();
    until_ready(&mut session);
    session
}

/// Reads messages (a letter, a length, the rest) until the server waits for a query.
fn until_ready(session: &mut TcpStream) {
    let mut head = [0; 5];
    while head[0] != b'Z' {
        session.read_exact(&mut head).unwrap();
        assert_ne!(head[0], b'E', "the server refuses it");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        session.read_exact(&mut vec![0; length - 4]).unwrap();
    }
}

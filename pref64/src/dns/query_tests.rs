use super::*;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

/// How a server on loopback treats each UDP message: `None` is silence.
type Reaction = fn(usize, &[u8]) -> Option<Vec<u8>>;

/// Serves UDP, and TCP on the same port, until the test process ends.
fn server(udp: Reaction, tcp: Reaction) -> Server {
    // The same port for both: try until one is free in both spaces.
    let (socket, listener) = (0..100)
        .find_map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let listener = TcpListener::bind(socket.local_addr().unwrap()).ok()?;
            Some((socket, listener))
        })
        .unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        for round in 0.. {
            let Ok((len, peer)) = socket.recv_from(&mut buffer) else { return };
            if let Some(answer) = udp(round, &buffer[..len]) {
                let _ = socket.send_to(&answer, peer);
            }
        }
    });
    thread::spawn(move || {
        for (round, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut len = [0; 2];
            if stream.read_exact(&mut len).is_err() {
                continue;
            }
            let mut message = vec![0; u16::from_be_bytes(len).into()];
            if stream.read_exact(&mut message).is_err() {
                continue;
            }
            if let Some(answer) = tcp(round, &message) {
                let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
                framed.extend(answer);
                // In two pieces: the client must put them together.
                let (first, second) = framed.split_at(framed.len() / 2);
                let _ = stream.write_all(first);
                thread::sleep(Duration::from_millis(20));
                let _ = stream.write_all(second);
            }
        }
    });
    Server { addr: address.ip(), port: address.port(), scope: None }
}

/// A response with `flags` in its second octet pair, the question repeated, and this answer section.
fn reply(query: &[u8], flags: u16, answers: u16, records: &[u8]) -> Option<Vec<u8>> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0)? + 5;
    let mut message = query[..end].to_vec();
    message[2..4].copy_from_slice(&(flags | 0x8180).to_be_bytes());
    message[4..12].copy_from_slice(&[0, 1, 0, answers as u8, 0, 0, 0, 0]);
    message.extend(records);
    Some(message)
}

fn good(_: usize, query: &[u8]) -> Option<Vec<u8>> {
    reply(query, 0, 1, &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1])
}

fn silent(_: usize, _: &[u8]) -> Option<Vec<u8>> {
    None
}

fn refuse(_: usize, query: &[u8]) -> Option<Vec<u8>> {
    reply(query, 5, 0, &[])
}

fn quick() -> Options {
    Options { timeout: Duration::from_millis(500), rounds: 2 }
}

fn ask(servers: &[Server]) -> Result<Answer, Failure> {
    lookup(servers, &Name::parse("www.example.org").unwrap(), RecordType::A, quick())
}

fn is_found(answer: &Result<Answer, Failure>) -> bool {
    let expected = Found {
        addresses: vec!["192.0.2.1".parse().unwrap()],
        aliases: vec![],
        ttl: Duration::from_secs(60),
    };
    matches!(answer, Ok(Answer::Found(found)) if *found == expected)
}

fn failure(answer: Result<Answer, Failure>) -> String {
    answer.expect_err("an error").to_string()
}

#[test]
fn an_answer() {
    let server = server(good, silent);
    assert!(is_found(&ask(&[server])));
}

#[test]
fn silence_errors_and_closed_ports_lead_to_the_next_server() {
    let closed = {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Server { addr: Ipv4Addr::LOCALHOST.into(), port: socket.local_addr().unwrap().port(), scope: None }
    };
    let (mute, refusing, fine) = (server(silent, silent), server(refuse, silent), server(good, silent));
    assert!(is_found(&ask(&[closed.clone(), mute.clone(), refusing.clone(), fine])));
    assert_eq!(failure(ask(std::slice::from_ref(&mute))), format!("DNS server {mute}: no answer"));
    assert_eq!(failure(ask(&[mute, refusing.clone()])), format!("DNS server {refusing}: REFUSED"));
    assert!(failure(ask(&[closed])).contains("refused"));
    assert!(matches!(ask(&[]), Err(Failure::NoServer)));
    let nowhere = Server { scope: Some("no-such-if".into()), ..Server::new("fe80::1".parse().unwrap()) };
    assert!(failure(ask(&[nowhere])).contains("fe80::1%no-such-if"));
}

#[test]
fn a_lost_packet_is_repeated() {
    fn second_time(round: usize, query: &[u8]) -> Option<Vec<u8>> {
        (round > 0).then(|| good(round, query)).flatten()
    }
    let server = server(second_time, silent);
    assert!(is_found(&ask(&[server])));
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp() {
    fn truncated(_: usize, query: &[u8]) -> Option<Vec<u8>> {
        reply(query, 0x0200, 0, &[])
    }
    assert!(is_found(&ask(&[server(truncated, good)])));
    // Truncated even there: unusable, and no loop.
    assert!(failure(ask(&[server(truncated, truncated)])).contains("cut off even over TCP"));
}

#[test]
fn a_server_without_edns_is_asked_without() {
    fn old(_: usize, query: &[u8]) -> Option<Vec<u8>> {
        let has_opt = query[11] == 1;
        if has_opt { reply(query, 1, 0, &[]) } else { good(0, query) }
    }
    let server = server(old, silent);
    assert!(is_found(&ask(&[server])));
}

#[test]
fn guesses_are_ignored() {
    fn wrong_first(round: usize, query: &[u8]) -> Option<Vec<u8>> {
        let mut answer = good(round, query)?;
        if round == 0 {
            answer[0] ^= 0xff;
        }
        Some(answer)
    }
    let server = server(wrong_first, silent);
    assert!(is_found(&ask(&[server])));
}

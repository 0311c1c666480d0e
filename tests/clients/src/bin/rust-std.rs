//! The standard library's sockets: `rust-std tcp|udp|packet SERVER`.
use std::io::{Error, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let server = SocketAddr::from((args[2].parse::<Ipv4Addr>().map_err(Error::other)?, 7));
    let (timeout, mut buf) = (Some(Duration::from_secs(9)), [0; 9]);
    let n = match args[1].as_str() {
        "tcp" => {
            let mut s = TcpStream::connect_timeout(&server, Duration::from_secs(9))?;
            assert_eq!(s.peer_addr()?, server);
            s.write_all(b"rust-ok")?;
            s.set_read_timeout(timeout)?;
            s.read(&mut buf)?
        }
        how => {
            let s = UdpSocket::bind("0.0.0.0:0")?;
            s.set_read_timeout(timeout)?;
            if how == "udp" {
                s.connect(server)?;
                s.send(b"rust-ok")?;
                s.recv(&mut buf)?
            } else {
                s.send_to(b"rust-ok", server)?;
                let (n, from) = s.recv_from(&mut buf)?;
                assert_eq!(from, server);
                n
            }
        }
    };
    println!("{}", String::from_utf8_lossy(&buf[..n]));
    Ok(())
}

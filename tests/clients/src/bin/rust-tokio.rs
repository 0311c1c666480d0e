//! tokio, which registers descriptors with epoll as soon as it has them: `rust-tokio tcp|udp|packet SERVER`.
use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let server = SocketAddr::from((args[2].parse::<Ipv4Addr>().map_err(Error::other)?, 7));
    let got = tokio::time::timeout(Duration::from_secs(9), talk(&args[1], server))
        .await
        .map_err(Error::other)??;
    println!("{got}");
    Ok(())
}

async fn talk(how: &str, server: SocketAddr) -> Result<String> {
    let mut buf = [0; 9];
    let n = match how {
        "tcp" => {
            let mut s = TcpStream::connect(server).await?;
            assert_eq!(s.peer_addr()?, server);
            s.write_all(b"rust-ok").await?;
            s.read(&mut buf).await?
        }
        _ => {
            let s = UdpSocket::bind("0.0.0.0:0").await?;
            if how == "udp" {
                s.connect(server).await?;
                s.send(b"rust-ok").await?;
                s.recv(&mut buf).await?
            } else {
                s.send_to(b"rust-ok", server).await?;
                let (n, from) = s.recv_from(&mut buf).await?;
                assert_eq!(from, server);
                n
            }
        }
    };
    Ok(String::from_utf8_lossy(&buf[..n]).into_owned())
}

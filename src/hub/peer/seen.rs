//! What the kernel says of the other end of a connection. Blocks: not for the loop's thread.

use super::place;
use crate::config::Hub;
use nft::Error;
use nft::conntrack::translated;
use nft::sock_diag::{OtherEnd, SocketOwner, Sockets};
use quantities::{CgroupId, CgroupPath};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

/// A hub that has not taken a connection by then is as good as down.
pub(super) const ACCEPTS_WITHIN: Duration = Duration::from_secs(10);
const LOOKS_EVERY: Duration = Duration::from_millis(10);
/// Where the kernel shows network devices.
const DEVICES: &str = "/sys/class/net";

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// A process of this network namespace.
    Here(Owner),
    /// Whatever has this address.
    Elsewhere {
        address: IpAddr,
        /// It is reached through a network card, and was not sent elsewhere by NAT.
        by_a_card: bool,
    },
    /// A socket listens, and no process takes the connection.
    NotAccepted,
    /// The address is this node's, and the other end is in no network namespace that can be seen.
    OutOfSight,
}

/// Who owns a socket here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// Its address and port.
    pub at: SocketAddr,
    pub uid: u32,
    /// None where its cgroup is gone or cannot be told.
    pub cgroup: Option<CgroupPath>,
}

impl Owner {
    fn new(at: SocketAddr, owner: SocketOwner, root: &Path, hub: &Hub) -> Owner {
        let cgroup = owner.cgroup;
        let cgroup = cgroup.and_then(|id| place::find(root, CgroupId(id.0), hub));
        let uid = owner.uid;
        Owner { at, uid, cgroup }
    }
}

/// Follows a connection to its other end.
pub(super) fn look(
    ours: SocketAddr,
    theirs: SocketAddr,
    root: &Path,
    hub: &Hub,
) -> Result<Seen, Error> {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (ours, theirs) = (canonical(ours), canonical(theirs));
    // As the other end sees it, where NAT changed the addresses.
    let (mut back, mut there) = (ours, theirs);
    let mut sockets = Sockets::open()?;
    let until = Instant::now() + ACCEPTS_WITHIN;
    loop {
        let seen = match sockets.other_end(back, there)? {
            OtherEnd::Accepted(owner) => {
                return Ok(Seen::Here(Owner::new(there, owner, root, hub)));
            }
            OtherEnd::Waiting => Seen::NotAccepted,
            OtherEnd::Absent => {
                if let Some(sent) = translated(ours, theirs)?
                    && sent != (back, there)
                {
                    (back, there) = sent;
                    continue;
                }
                if !is_of_this_node(there.ip()) {
                    return Ok(Seen::Elsewhere {
                        address: there.ip(),
                        by_a_card: there == theirs && is_on_a_card(ours.ip()),
                    });
                }
                Seen::OutOfSight
            }
        };
        // The kernel makes the other end's socket a moment after ours is connected.
        if Instant::now() > until {
            return Ok(seen);
        }
        std::thread::sleep(LOOKS_EVERY);
    }
}

/// Everything that listens on these ports.
pub(super) fn listeners(ports: &[u16], root: &Path, hub: &Hub) -> Result<Vec<Owner>, Error> {
    let mut sockets = Sockets::open()?;
    let mut found = Vec::new();
    for port in ports {
        let listeners = sockets.listeners(*port)?;
        found.extend(
            listeners
                .iter()
                .map(|one| Owner::new(one.at, one.owner, root, hub)),
        );
    }
    Ok(found)
}

fn is_of_this_node(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Whether an address of this node is a network card's. Behind bridges and tunnels may be
/// containers and virtual machines, some of them users'.
fn is_on_a_card(ours: IpAddr) -> bool {
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let named = addresses.filter(|one| {
        let address = one.address.as_ref();
        let v4 = address.and_then(|a| a.as_sockaddr_in().map(|a| IpAddr::from(a.ip())));
        let v6 = address.and_then(|a| a.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())));
        v4.or(v6) == Some(ours)
    });
    let mut names = named.map(|one| one.interface_name).peekable();
    let is_card = |name: String| Path::new(DEVICES).join(name).join("device").exists();
    names.peek().is_some() && names.all(is_card)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn who_accepts_is_seen_with_uid_and_cgroup() {
        let hub = Config::default().hub;
        let root = cgroup::find_root().unwrap();
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let _accepted = listener.accept().unwrap();
            let (ours, theirs) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let Seen::Here(owner) = look(ours, theirs, &root, &hub).unwrap() else {
                panic!("{at}");
            };
            assert_eq!(
                (owner.at, owner.uid),
                (theirs, nix::unistd::getuid().as_raw())
            );
            let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
            let here = text.lines().find_map(|line| line.strip_prefix("0::"));
            assert_eq!(owner.cgroup, here.map(CgroupPath::new));
            let listeners = listeners(&[theirs.port()], &root, &hub).unwrap();
            assert_eq!(listeners, [owner]);
        }
    }

    #[test]
    fn addresses_of_this_node_are_told_from_others() {
        assert!(is_of_this_node("127.0.0.1".parse().unwrap()));
        assert!(!is_of_this_node("192.0.2.1".parse().unwrap()));
        assert!(!is_on_a_card("127.0.0.1".parse().unwrap()));
        assert!(!is_on_a_card("192.0.2.1".parse().unwrap()));
    }
}

use std::{
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
};

use proptest::prelude::*;

use super::*;

/// Asks until the kernel has made the other end's socket.
fn other_end(stream: &TcpStream) -> OtherEnd {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (ours, theirs) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    let mut sockets = Sockets::open().unwrap();
    sockets
        .other_end(canonical(ours), canonical(theirs))
        .unwrap()
}

fn owner(end: OtherEnd) -> SocketOwner {
    match end {
        OtherEnd::Accepted(owner) => owner,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_has_an_owner_once_it_is_accepted() {
    for (listens, connects) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
    ] {
        let listener = TcpListener::bind(listens).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = TcpStream::connect((connects, port)).unwrap();
        assert_eq!(other_end(&stream), OtherEnd::Waiting, "{listens}");
        let accepted = listener.accept().unwrap();
        let owner = owner(other_end(&stream));
        assert_eq!(owner.uid, nix::unistd::getuid().as_raw());
        let mut sockets = Sockets::open().unwrap();
        let [listener] = sockets.listeners(port).unwrap()[..] else {
            panic!("{listens}");
        };
        assert_eq!(listener.owner.cgroup, owner.cgroup);
        drop(accepted);
    }
}

#[test]
fn the_owner_s_cgroup_is_a_directory_of_cgroup_v2() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _accepted = listener.accept().unwrap();
    let owner = owner(other_end(&stream));
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let here = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let of_cgroups = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
    let root = mounts.lines().find(of_cgroups).unwrap();
    let root = std::path::Path::new(root.split(' ').nth(1).unwrap());
    let here = std::fs::metadata(root.join(here)).unwrap();
    assert_eq!(owner.cgroup, Some(CgroupId(here.ino())));
}

#[test]
fn a_connection_to_nowhere_here_is_absent() {
    let mut sockets = Sockets::open().unwrap();
    let (ours, theirs) = ("192.0.2.1:1".parse(), "192.0.2.2:2".parse());
    let found = sockets.other_end(ours.unwrap(), theirs.unwrap());
    assert_eq!(found.unwrap(), OtherEnd::Absent);
}

#[test]
fn a_listener_is_not_the_other_end_whatever_its_address() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in ["127.0.0.1", "192.0.2.2"] {
        let theirs = SocketAddr::new(address.parse().unwrap(), port);
        let ours = SocketAddr::new(theirs.ip(), 1);
        let found = Sockets::open().unwrap().other_end(ours, theirs);
        assert_eq!(found.unwrap(), OtherEnd::Absent, "{address}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }

    #[test]
    fn only_an_established_socket_of_both_ends_is_accepted(
        state in 0..13u8,
        inode in 0..2u32,
        ports in (1..4u16, 1..4u16),
    ) {
        let end = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let owner = SocketOwner { cgroup: None, uid: 0 };
        let (local, remote) = (end(ports.0), end(ports.1));
        let socket = Socket { state, local, remote, inode, owner, sent: None, received: None };
        let accepted = socket.as_other_end(end(1), end(2)) == OtherEnd::Accepted(owner);
        prop_assert_eq!(accepted, state == ESTABLISHED && inode > 0 && ports == (2, 1));
    }
}

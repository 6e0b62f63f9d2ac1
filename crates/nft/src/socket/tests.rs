use super::*;
use crate::nla::Writer;

/// A message of a kind with these flags, number and payload.
fn message(kind: u16, flags: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(seq.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

const OBJECT: u16 = 99;

/// How the answers to request 7 end, and how many objects are in them.
fn ends(datagrams: &[Vec<Vec<u8>>]) -> (Option<End>, usize) {
    let mut answers = Answers::to(7);
    let mut objects = 0;
    for datagram in datagrams {
        let bytes = datagram.concat();
        let end = answers.take(Replies(&bytes), &mut |_| {
            objects += 1;
            ControlFlow::Continue(())
        });
        if end.is_some() {
            return (end, objects);
        }
    }
    (None, objects)
}

fn object() -> Vec<u8> {
    message(OBJECT, 0, 7, &[1, 2, 3, 4])
}

fn done() -> Vec<u8> {
    message(NLMSG_DONE, 0, 7, &[0; 4])
}

fn error(errno: i32) -> Vec<u8> {
    let payload = [&(-errno).to_ne_bytes()[..], &[0; 16]].concat();
    message(NLMSG_ERROR, 0, 7, &payload)
}

#[test]
fn a_dump_is_whole_once_its_end_has_come() {
    assert_eq!(ends(&[vec![object(), object()]]), (None, 2));
    let parts = [vec![object(), object()], vec![object()], vec![done()]];
    assert_eq!(ends(&parts), (Some(End::Whole), 3));
}

#[test]
fn what_answers_another_request_or_none_is_passed_over() {
    let stray = message(OBJECT, 0, 6, &[0; 4]);
    let old = message(NLMSG_DONE, 0, 6, &[0; 4]);
    let notice = message(OBJECT, NLM_F_DUMP_INTR, 0, &[0; 4]);
    let refused = message(NLMSG_ERROR, 0, 8, &(-libc::EPERM).to_ne_bytes());
    let parts = [vec![stray, old], vec![notice, object(), refused, done()]];
    assert_eq!(ends(&parts), (Some(End::Whole), 1));
}

#[test]
fn a_dump_that_met_a_change_is_broken_however_the_kernel_says_so() {
    let marked = message(OBJECT, NLM_F_DUMP_INTR, 7, &[0; 4]);
    let parts = [vec![marked], vec![object(), done()]];
    assert_eq!(ends(&parts), (Some(End::Broken), 2));
    let at_end = message(NLMSG_DONE, NLM_F_DUMP_INTR, 7, &[0; 4]);
    assert_eq!(ends(&[vec![object(), at_end]]), (Some(End::Broken), 1));
    let parts = [vec![object(), error(libc::EINTR)]];
    assert_eq!(ends(&parts), (Some(End::Broken), 1));
}

#[test]
fn a_dump_of_which_something_was_lost_is_broken_at_its_end() {
    let mut answers = Answers::to(7);
    answers.whole = false;
    let bytes = done();
    let end = answers.take(Replies(&bytes), &mut |_| ControlFlow::Continue(()));
    assert_eq!(end, Some(End::Broken));
}

#[test]
fn a_refusal_names_what_was_asked_for_with_the_kernels_words() {
    let mut w = Writer::default();
    w.text(NLMSGERR_ATTR_MSG, "no such thing");
    let head = [&(-libc::ENOENT).to_ne_bytes()[..], &[0; 16]].concat();
    let payload = [head, w.finish().unwrap()].concat();
    let flags = NLM_F_CAPPED | NLM_F_ACK_TLVS;
    let refused = message(NLMSG_ERROR, flags, 7, &payload);
    let (end, _) = ends(&[vec![object(), refused]]);
    let request = Message::nft(0, 0, "list things".to_owned(), Writer::default()).unwrap();
    let error = end.unwrap().outcome("look", &request).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("kernel refused to list things: ENOENT"),
        "{error}"
    );
    assert!(error.to_string().contains("(no such thing)"), "{error}");
}

#[test]
fn an_end_that_is_cut_short_is_malformed() {
    let short = message(NLMSG_DONE, 0, 7, &[0; 2]);
    let (end, _) = ends(&[vec![short]]);
    assert_eq!(end, Some(End::Malformed));
}

#[test]
fn who_has_enough_ends_the_answer() {
    let mut answers = Answers::to(7);
    let bytes = [object(), object(), done()].concat();
    let mut seen = 0;
    let end = answers.take(Replies(&bytes), &mut |_| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!((end, seen), (Some(End::Whole), 1));
}

#[test]
fn numbers_of_requests_never_come_to_zero() {
    let mut netlink = Netlink::of(SockProtocol::NetlinkRoute, SockFlag::empty()).unwrap();
    assert_eq!((netlink.reserve(3), netlink.reserve(1)), (1, 4));
    netlink.seq = u32::MAX - 1;
    assert_eq!((netlink.reserve(1), netlink.reserve(1)), (u32::MAX - 1, 1));
}

#[test]
fn a_datagram_longer_than_the_buffer_counts_as_lost() {
    let mut netlink = Netlink::of(SockProtocol::NetlinkRoute, SockFlag::empty()).unwrap();
    netlink.buffer.truncate(20);
    // RTM_GETLINK of an interface that is not there: an error of 36 bytes at least.
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
    let request = Message::new(18, 0, "ask".to_owned(), &header, Writer::default()).unwrap();
    netlink.tell("ask", &request).unwrap();
    let lost = netlink.receive(MsgFlags::empty()).map(drop);
    assert_eq!(lost, Err(Errno::ENOBUFS));
}

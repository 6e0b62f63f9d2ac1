use super::*;
use crate::{
    encode,
    ruleset::{Chain, Expr, Rule, Ruleset, Verdict},
};

/// Calls a function on a thread of its own in a network namespace of its own.
fn apart<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        // SAFETY: `unshare` takes no memory; it gives this thread, which ends with this
        // closure, a network namespace of its own.
        let result = unsafe { nix::libc::unshare(nix::libc::CLONE_NEWNET) };
        assert_eq!(
            result, 0,
            "this test makes a network namespace: run as root"
        );
        call()
    });
    thread.join().unwrap()
}

fn ruleset(leads_to: &str) -> Ruleset {
    let verdict = Expr::Verdict(Verdict::Goto(leads_to.to_owned()));
    let rule = |expr| Rule {
        exprs: vec![expr],
        comment: String::new(),
    };
    let rules = vec![rule(Expr::Counter), rule(verdict)];
    let chain = |name: &str, rules| Chain {
        device: None,
        name: name.to_owned(),
        hook: None,
        rules,
    };
    Ruleset {
        family: NFPROTO_INET,
        table: "t".to_owned(),
        chains: vec![chain("a", rules), chain("b", Vec::new())],
        ..Ruleset::default()
    }
}

#[test]
fn the_first_message_refused_is_named_and_nothing_was_changed() {
    apart(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink
            .transact("try", &encode::create(&ruleset("b")).unwrap())
            .unwrap();
        let before = netlink.generation().unwrap();
        let wrong = encode::replace(&ruleset("nowhere")).unwrap();
        let error = netlink.transact("try", &wrong).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOENT));
        let text = error.to_string();
        assert!(
            text.starts_with("kernel refused to add rule 2 of chain a: ENOENT"),
            "{text}"
        );
        assert_eq!(netlink.generation().unwrap(), before);
        netlink
            .transact("try", &encode::remove(NFPROTO_INET, "t").unwrap())
            .unwrap();
    });
}

#[test]
fn a_batch_of_megabytes_with_every_message_refused_is_answered() {
    apart(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut rules = ruleset("nowhere");
        let rule = rules.chains[0].rules[1].clone();
        rules.chains[0].rules = vec![rule; 20_000];
        let messages = encode::create(&rules).unwrap();
        let error = netlink.transact("try", &messages).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOENT), "{error}");
        rules.chains[0]
            .rules
            .iter_mut()
            .for_each(|rule| rule.exprs = vec![Expr::Counter]);
        netlink
            .transact("try", &encode::replace(&rules).unwrap())
            .unwrap();
    });
}

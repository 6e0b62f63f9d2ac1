//! Others at our table: noticed and put right at once, with who it was.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use egress::{
    Admitted, CgroupId, Error, Firewall, ForeignWrite, Kernel, Mode, Monitor, Policy, Repair,
    RepairThread, Writer,
};
use tokio::sync::mpsc;

use crate::bed::Netns;

fn server(number: u32) -> Admitted {
    Admitted {
        cgroup: CgroupId(1_000_000 + u64::from(number)),
        level: 2,
        class: "standard".parse().unwrap(),
        number,
    }
}

/// Runs what needs an event loop in a namespace.
fn in_loop<T: Send>(netns: &Netns, call: impl AsyncFnOnce() -> T + Send) -> T {
    netns.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(call())
    })
}

async fn next(monitor: &mut Monitor) -> Option<ForeignWrite> {
    let quiet = Duration::from_millis(300);
    let next = tokio::time::timeout(quiet, monitor.next()).await;
    next.ok().map(Result::unwrap)
}

fn load(nft: &mut Kernel) {
    let servers: Vec<_> = (1..=100).map(server).collect();
    nft.load(&Policy::standard(Mode::Enforce), &[CgroupId(7)], &servers)
        .unwrap();
}

#[test]
fn whoever_else_changes_the_table_is_named_and_we_ourselves_are_not() {
    let netns = Netns::new();
    in_loop(&netns, async || {
        let mut nft = Kernel::open().unwrap();
        let mut monitor = Monitor::listen(nft.watch().unwrap()).unwrap();
        load(&mut nft);
        nft.admit(&[server(200)]).unwrap();
        netns.exec("nft", &["add", "table", "inet", "another"]);
        netns.exec("nft", &["add", "table", "ip", "hubwarden"]);
        assert_eq!(next(&mut monitor).await, None);

        for change in [
            "add rule inet hubwarden pending accept",
            "delete element inet hubwarden hub_ports { 8081 }",
            "flush map inet hubwarden servers2",
            "flush chain inet hubwarden output",
            "delete table inet hubwarden",
            "flush ruleset",
        ] {
            load(&mut nft);
            netns.exec("nft", &change.split(' ').collect::<Vec<_>>());
            match next(&mut monitor).await {
                Some(ForeignWrite::By(Writer { pid, name }, damage)) => {
                    assert_eq!(name, "nft", "{change}");
                    assert_ne!(pid, 0, "{change}");
                    assert_ne!(nft.verify().unwrap(), [], "{change}");
                    assert!(nft.repair(&damage).unwrap(), "{change}: {damage}");
                }
                other => panic!("{change}: {other:?}"),
            }
            assert_eq!(next(&mut monitor).await, None, "{change}: our own repair");
            assert_eq!(nft.verify().unwrap(), [], "{change}");
        }
    });
}

/// A loaded table with its repair thread, in the calling thread's namespace.
struct Kept {
    rules: Arc<Mutex<Kernel>>,
    repairs: mpsc::Receiver<Repair>,
    thread: JoinHandle<Result<(), Error>>,
}

impl Kept {
    fn new() -> Self {
        let rules = Arc::new(Mutex::new(Kernel::open().unwrap()));
        let repair_thread = RepairThread::open(Arc::clone(&rules)).unwrap();
        let (tell, repairs) = mpsc::channel(1_000);
        let thread = std::thread::spawn(move || repair_thread.run(&tell));
        load(&mut rules.lock().unwrap());
        Self {
            rules,
            repairs,
            thread,
        }
    }

    fn rules(&self) -> MutexGuard<'_, Kernel> {
        self.rules.lock().unwrap()
    }

    fn wait_until_put_back(&self, change: &str) {
        let begun = Instant::now();
        while !self.rules().verify().unwrap().is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{change}: not put back"
            );
        }
    }

    /// A daemon that ends does not listen any more; the repair thread sees it at the next change.
    fn end(self, netns: &Netns) {
        drop(self.repairs);
        netns.exec("nft", &["delete", "table", "inet", "hubwarden"]);
        self.thread.join().unwrap().unwrap();
    }
}

#[test]
fn the_repair_thread_puts_back_what_others_do_while_the_daemon_is_busy_and_tells_who_it_was() {
    let netns = Netns::new();
    netns.within(|| {
        let mut kept = Kept::new();
        // Whoever waits for repairs here stands for the daemon's loop: it need not come to them.
        for change in [
            "delete table inet hubwarden",
            "flush map inet hubwarden servers2",
        ] {
            netns.exec("nft", &change.split(' ').collect::<Vec<_>>());
            kept.wait_until_put_back(change);
        }
        for said in [
            "the table was deleted",
            "100 elements of set servers2 were deleted",
        ] {
            let Repair {
                by,
                change: damage,
                outcome,
            } = kept.repairs.blocking_recv().unwrap();
            assert!(outcome.unwrap(), "{said}");
            assert_eq!(damage.to_string(), said);
            assert!(
                by.iter().all(|writer| writer.name == "nft") && by.len() == 1,
                "{by:?}"
            );
        }

        // Switched off: what is not to be there is not put back.
        kept.rules().remove().unwrap();
        netns.exec("nft", &["add", "table", "inet", "hubwarden"]);
        let repair = kept.repairs.blocking_recv().unwrap();
        assert!(
            matches!(repair.outcome, Err(Error::NotLoaded { .. })),
            "{repair:?}"
        );
        assert_eq!(
            netns.exec("nft", &["list", "ruleset"]),
            "table inet hubwarden {\n}\n"
        );

        kept.end(&netns);
    });
}

#[test]
fn what_another_does_while_the_table_is_made_anew_is_undone_whenever_it_was() {
    let netns = Netns::new();
    netns.within(|| {
        let mut kept = Kept::new();
        let mut another = Kernel::open().unwrap();
        load(&mut another);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // What it remembers need not stand any more; then its change is a table anew.
                for slice in (8..)
                    .map(CgroupId)
                    .take_while(|_| !over.load(Ordering::Relaxed))
                {
                    let _ = another.set_guarded(&[slice]);
                }
            });
            for _ in 0..40 {
                load(&mut kept.rules());
            }
            over.store(true, Ordering::Relaxed);
        });
        kept.wait_until_put_back("changes all the time");
        let mut heard = 0;
        while kept.repairs.try_recv().is_ok() {
            heard += 1;
        }
        assert!(heard > 0, "nobody wrote at the same time");
        kept.end(&netns);
    });
}

#[test]
fn an_audit_ends_early_when_the_table_is_written_meanwhile() {
    let netns = Netns::new();
    netns.within(|| {
        let mut nft = Kernel::open().unwrap();
        load(&mut nft);
        let audit = nft.audit().unwrap();
        assert_eq!(audit().unwrap().differences, []);
        let audit = nft.audit().unwrap();
        nft.admit(&[server(200)]).unwrap();
        assert!(matches!(
            audit(),
            Err(Error::Kernel(nft::Error::Overtaken { .. }))
        ));
        let audit = nft.audit().unwrap();
        assert_eq!(audit().unwrap().differences, []);
    });
}

#[test]
fn more_changes_than_the_queue_holds_are_no_error_but_doubt() {
    let netns = Netns::new();
    in_loop(&netns, async || {
        let mut nft = Kernel::open().unwrap();
        let mut monitor = Monitor::listen(nft.watch().unwrap()).unwrap();
        let begun = Instant::now();
        let policy = Policy::standard(Mode::Enforce);
        let servers: Vec<_> = (1..=5000).map(server).collect();
        while begun.elapsed() < Duration::from_secs(20) {
            for _ in 0..20 {
                nft.load(&policy, &[], &servers).unwrap();
            }
            if next(&mut monitor).await == Some(ForeignWrite::Unknown) {
                netns.exec("nft", &["flush", "ruleset"]);
                let after = next(&mut monitor).await;
                assert!(matches!(after, Some(ForeignWrite::By(..))), "{after:?}");
                return;
            }
        }
        panic!("the queue never overflowed");
    });
}

/// What `nft` says to a command in a namespace; the exit code alone tells refused from done.
fn nft_may(netns: &Netns, change: &str) -> bool {
    let mut arguments = vec!["netns", "exec", netns.name(), "nft"];
    arguments.extend(change.split(' '));
    let output = std::process::Command::new("ip").args(arguments).output();
    output.unwrap().status.success()
}

#[test]
fn an_owned_table_is_out_of_others_reach_stays_when_its_writer_ends_and_is_taken_over() {
    let netns = Netns::new();
    netns.within(|| {
        let mut nft = Kernel::open().unwrap().owning();
        if !nft.owns() {
            eprintln!("NOT TESTED: this kernel cannot keep an owned table (6.9 and later can)");
            assert!(std::env::var_os("CI").is_none());
            return;
        }
        load(&mut nft);
        assert_eq!(nft.verify().unwrap(), []);
        for change in [
            "add rule inet hubwarden pending accept",
            "delete element inet hubwarden hub_ports { 8081 }",
            "flush map inet hubwarden servers2",
            "delete table inet hubwarden",
        ] {
            assert!(!nft_may(&netns, change), "{change}");
        }
        // Succeeds, and passes by what is another's.
        assert!(nft_may(&netns, "flush ruleset"));
        assert_eq!(nft.verify().unwrap(), []);
        let mut second = Kernel::open().unwrap();
        let error = second.remove().unwrap_err();
        assert!(error.to_string().contains("systemctl stop"), "{error}");
        nft.admit(&[server(300)]).unwrap();
        nft.forget(&[server(300).cgroup]).unwrap();

        // Killed and started again: never a moment without rules, and nobody's meanwhile.
        drop(nft);
        let list = netns.exec("nft", &["list", "table", "inet", "hubwarden"]);
        assert!(list.contains("socket cgroupv2 level 2 vmap @servers2"));
        let mut next = Kernel::open().unwrap().owning();
        load(&mut next);
        assert_eq!(next.verify().unwrap(), []);
        assert!(!nft_may(&netns, "delete table inet hubwarden"));

        // Stopped and switched off by hand, or by an older version.
        drop(next);
        second.remove().unwrap();
        assert_eq!(netns.exec("nft", &["list", "ruleset"]), "");

        // Made by an older version, and taken into possession.
        load(&mut second);
        let mut next = Kernel::open().unwrap().owning();
        load(&mut next);
        assert_ne!(second.verify().unwrap(), [], "it is another's now");
        next.remove().unwrap();
        assert_eq!(netns.exec("nft", &["list", "ruleset"]), "");
    });
}

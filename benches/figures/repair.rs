//! How long the packet rules stay wrong after somebody else changed them: the real daemon with
//! 5,000 servers and a table that it does not own, as before kernel 6.9.

use crate::bed::Bed;
use crate::{daemon, figure};
use hubwarden::daemon::run as run_daemon;
use hubwarden::egress::{CgroupId, Error, Firewall, Intrusion, Mode, Monitor, Nft, Policy};
use nix::sched::{CloneFlags, unshare};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const SERVERS: usize = 5_000;
const TIMES: usize = 50;
/// Until everybody is found.
const SETTLE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(5);

/// A process of its own, since it changes its network namespace.
pub fn child() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of our own (root is needed)");
    let bed = Bed::new(SERVERS);
    let slice = std::fs::metadata(bed.slice()).expect("the slice").ino();
    let state = tempfile::tempdir().expect("a directory");
    let (finish, finished) = oneshot::channel::<()>();
    let faults = std::thread::spawn(move || {
        let mut took = runtime().block_on(faults(CgroupId(slice)));
        let _ = finish.send(());
        took.sort_by(f64::total_cmp);
        took
    });
    runtime().block_on(async {
        let nft = Nft::open().expect("nftables");
        let mut monitor = Monitor::listen(nft.port().expect("a number")).expect("a monitor");
        let (tell, intrusions) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok(intrusion) = monitor.next().await {
                let _ = tell.send(intrusion).await;
            }
        });
        let mut parts = daemon::parts(&bed, state.path());
        parts.firewall = Box::new(nft);
        parts.intrusions = intrusions;
        let shutdown = async { drop(finished.await) };
        run_daemon(parts, shutdown).await.expect("the daemon runs");
    });
    let took = faults.join().expect("faults and repairs");
    let p99 = took[(took.len() * 99).div_ceil(100) - 1];
    eprintln!("{} repairs, p50 {:.1} ms", took.len(), took[took.len() / 2]);
    figure("egress_repair_p99_ms", p99, "ms");
}

/// A change by another.
type Fault<'a> = &'a dyn Fn(&mut Nft) -> Result<(), Error>;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Milliseconds from each fault until the daemon's repair was committed.
async fn faults(slice: CgroupId) -> Vec<f64> {
    tokio::time::sleep(SETTLE).await;
    let mut another = Nft::open().expect("nftables");
    let port = another.port().expect("a number");
    let mut watch = Monitor::listen(port).expect("a monitor");
    let policy = Policy::standard(Mode::Enforce);
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let table = |nft: &mut Nft| nft.remove();
        let content = |nft: &mut Nft| nft.load(&policy, &[slice], &[]);
        let element = |nft: &mut Nft| nft.set_guarded(&[]);
        let faults: [Fault<'_>; 3] = [&table, &content, &element];
        for fault in faults {
            // What the daemon does for other reasons is not a repair.
            while tokio::time::timeout(Duration::from_millis(50), watch.next())
                .await
                .is_ok()
            {}
            fault(&mut another).expect("a change by another");
            let begun = Instant::now();
            let repaired = tokio::time::timeout(PATIENCE, watch.next()).await;
            let repaired = repaired.expect("a repair").expect("a notice");
            assert!(matches!(repaired, Intrusion::By(_)), "{repaired:?}");
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    took
}

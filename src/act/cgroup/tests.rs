use super::*;
use hubwarden_core::undo::{LEAST_QUOTA_USEC, LONGEST_PERIOD_USEC};
use quantities::Cores;

struct Bed {
    root: tempfile::TempDir,
    cgroup: CgroupPath,
    cpu: CgroupCpu,
}

impl Bed {
    fn new(max: &str, weight: &str) -> Bed {
        let root = tempfile::tempdir().unwrap();
        let cgroup = CgroupPath::new("docker/abc");
        let directory = root.path().join(cgroup.as_str());
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(MAX), max).unwrap();
        std::fs::write(directory.join(WEIGHT), weight).unwrap();
        let cpu = CgroupCpu::new(root.path());
        Bed { root, cgroup, cpu }
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join(self.cgroup.as_str())
    }

    fn id(&self) -> CgroupId {
        CgroupId(std::fs::metadata(self.directory()).unwrap().ino())
    }

    fn read(&self) -> Controls {
        self.cpu.read(&self.cgroup, self.id()).unwrap()
    }

    /// The first line: a real cgroup file takes each write as a whole, a plain one keeps the rest.
    fn text(&self, file: &str) -> String {
        let text = std::fs::read_to_string(self.directory().join(file)).unwrap();
        text.lines().next().unwrap_or_default().to_owned()
    }

    fn apply(&self, from: Option<&Controls>, to: &Controls) {
        self.cpu.apply(&self.cgroup, self.id(), from, to).unwrap();
    }
}

fn settings(quota: Option<f64>, period_ms: u64, weight: u64) -> Controls {
    Controls {
        quota: quota.map(Cores),
        period: Some(Duration::from_millis(period_ms)),
        weight: Some(weight),
        ..Controls::default()
    }
}

#[test]
fn max_is_no_quota_and_a_number_is_one() {
    assert_eq!(
        Bed::new("max 100000\n", "100\n").read(),
        settings(None, 100, 100)
    );
    assert_eq!(
        Bed::new("150000 100000\n", "79\n").read(),
        settings(Some(1.5), 100, 79)
    );
}

#[test]
fn a_throttle_is_written_and_what_stood_there_comes_back() {
    let bed = Bed::new("max 100000\n", "100\n");
    let before = bed.read();
    let throttled = settings(Some(0.25), 20, 20);
    bed.apply(Some(&before), &throttled);
    assert_eq!(bed.text(MAX), "5000 20000");
    assert_eq!(bed.text(WEIGHT), "20");
    bed.apply(Some(&throttled), &before);
    assert_eq!(bed.text(MAX), "max 100000");
    assert_eq!(bed.text(WEIGHT), "100");
}

#[test]
fn what_does_not_differ_is_not_written() {
    let bed = Bed::new("max 100000\n", "100\n");
    let before = bed.read();
    std::fs::write(bed.directory().join(WEIGHT), "somebody else's\n").unwrap();
    bed.apply(Some(&before), &settings(Some(1.0), 100, 100));
    assert_eq!(bed.text(MAX), "100000 100000");
    assert_eq!(bed.text(WEIGHT), "somebody else's");
}

#[test]
fn a_low_quota_gets_a_longer_period_instead_of_a_refusal() {
    let low = Controls {
        quota: Some(Cores(0.01)),
        period: Some(Duration::from_millis(20)),
        weight: None,
        ..Controls::default()
    };
    assert_eq!(max_text(&low), "1000 100000");
    assert_eq!(as_held(&low), settings(Some(0.01), 100, 100));
}

#[test]
fn a_path_made_again_is_not_written_to() {
    let bed = Bed::new("max 100000\n", "100\n");
    let other = CgroupId(bed.id().0 + 1);
    let error = bed.cpu.read(&bed.cgroup, other).unwrap_err();
    assert!(error.is_gone(), "{error}");
}

#[test]
fn a_removed_cgroup_is_gone_and_no_failure() {
    let bed = Bed::new("max 100000\n", "100\n");
    let id = bed.id();
    std::fs::remove_dir_all(bed.directory()).unwrap();
    let error = bed.cpu.read(&bed.cgroup, id).unwrap_err();
    assert!(error.is_gone(), "{error}");
}

#[test]
fn nonsense_in_a_file_is_named_with_what_was_expected() {
    let bed = Bed::new("lots\n", "100\n");
    let error = bed.cpu.read(&bed.cgroup, bed.id()).unwrap_err().to_string();
    assert_eq!(
        error,
        "/docker/abc: cpu.max: expected \"max 100000\" or such as \"5000 20000\", found `lots\\n`"
    );
}

/// A cgroup of its own below the host's mount, removed again. Where the cpu controller is on
/// cgroup v2 and handed down to it, the quota is set and read back; elsewhere its absence must be
/// told as what it is. Needs root.
#[test]
fn a_real_cgroup_takes_a_quota_or_says_that_it_has_no_controller() {
    let Ok(root) = cgroup::find_root() else {
        println!("skipped: no cgroup v2 is mounted here");
        return;
    };
    let directory = match test_support::make_cgroup(&root) {
        Ok(directory) => directory,
        Err(error) => {
            println!("skipped: {}: {error}", root.display());
            return;
        }
    };
    let cgroup = CgroupPath::new(directory.file_name().unwrap().to_str().unwrap());
    let id = CgroupId(std::fs::metadata(&directory).unwrap().ino());
    let cpu = CgroupCpu::new(&root);
    let read = cpu.read(&cgroup, id);
    let applied = cpu.apply(&cgroup, id, None, &settings(Some(0.25), 20, 20));
    let again = cpu.read(&cgroup, id);
    std::fs::remove_dir(&directory).unwrap();
    let gone = cpu.read(&cgroup, id).unwrap_err();
    assert!(gone.is_gone(), "{gone}");
    match read {
        Ok(before) => {
            assert_eq!(before, settings(None, 100, 100));
            applied.unwrap();
            assert_eq!(again.unwrap(), settings(Some(0.25), 20, 20));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("the cpu controller is not enabled"), "{text}");
            assert!(text.starts_with(&format!("{cgroup}: cpu.max: ")), "{text}");
        }
    }
}

proptest::proptest! {
    /// Else a daemon would take its own rounding for somebody else's change.
    #[test]
    fn what_is_held_is_held_again(cores in 0.01f64..64.0, period in 1u64..1000, weight in 1u64..10_000) {
        let held = as_held(&settings(Some(cores), period, weight));
        proptest::prop_assert_eq!(as_held(&held), held);
        let (quota, period) = quota_and_period(&held);
        proptest::prop_assert!(quota.unwrap() >= LEAST_QUOTA_USEC && period <= LONGEST_PERIOD_USEC);
    }
}

//! The worker that reads what processes say of themselves, on real ones.

use hubwarden::coverage::WORK;
use hubwarden_core::coverage::{Looks, Said};
use sensors::workers::{Worker, command};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that waits and calls itself something.
struct Called(Child);

impl Called {
    fn new(name: &str, variables: &[(&str, &str)]) -> Called {
        let mut sleep = Command::new("sleep");
        sleep.arg0(name).arg("600").env_clear().stdin(Stdio::null());
        sleep.env("PATH", "/usr/bin:/bin");
        sleep.envs(variables.iter().copied());
        Called(sleep.spawn().unwrap())
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_worker_tells_servers_from_other_processes_and_keeps_no_token() {
    let variables = [
        ("JUPYTERHUB_API_TOKEN", "secret"),
        ("JUPYTERHUB_USER", "alice"),
    ];
    let server = Called::new("jupyterhub-singleuser", &[]);
    let child = Called::new("streamlit", &variables);
    let other = Called::new("sleep", &[]);
    let pids: Vec<u32> = [&server, &child, &other]
        .iter()
        .map(|one| one.0.id())
        .collect();
    let program = command(Path::new(env!("CARGO_BIN_EXE_hubwarden")), WORK);
    let mut worker: Worker<Vec<u32>, Vec<(u32, Said)>> = Worker::start(program).unwrap();
    let by_name = Said {
        looks: Some(Looks::Server),
        ..Said::default()
    };
    let by_environment = Said {
        environment: true,
        user: Some("alice".into()),
        ..Said::default()
    };
    let expected = vec![(pids[0], by_name), (pids[1], by_environment)];
    // A process has its new name only once it has started its program.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        worker.give(&pids).unwrap();
        let said = worker.answer_within(Duration::from_secs(60)).unwrap();
        if said.as_ref() == Some(&expected) {
            return;
        }
        assert!(Instant::now() < until, "{said:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

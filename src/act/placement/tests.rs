//! A made-up system's directories.

use super::*;

struct System {
    directory: tempfile::TempDir,
    placement: Placement,
}

impl System {
    fn new() -> System {
        let directory = tempfile::tempdir().unwrap();
        for path in [
            RUNTIME,
            TRANSIENT,
            "/etc/systemd/system",
            "/cgroup/jupyter.slice",
        ] {
            fs::create_dir_all(directory.path().join(&path[1..])).unwrap();
        }
        let placement = Placement::below(directory.path(), &directory.path().join("cgroup"));
        System {
            directory,
            placement,
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A server that systemd was asked to start, and started in a slice.
    fn spawn(&self, unit: &str, slice: &str) {
        self.write(&format!("run/systemd/transient/{unit}"), "[Service]\n");
        self.write(&format!("cgroup/{slice}/{unit}/cgroup.procs"), "");
    }

    fn ends(&self, unit: &str, slice: &str) {
        let base = self.directory.path();
        fs::remove_file(base.join("run/systemd/transient").join(unit)).unwrap();
        fs::remove_dir_all(base.join("cgroup").join(slice).join(unit)).unwrap();
    }

    /// Every drop-in there is, with the slice it names.
    fn drop_ins(&self) -> Vec<(String, Option<String>)> {
        let ours = self.placement.ours();
        let directories = names(&self.placement.runtime);
        assert_eq!(ours.len(), directories.len(), "{directories:?}");
        let slice = |text: String| slice_of(&text).map(str::to_owned);
        ours.into_iter()
            .map(|(unit, text)| (unit, slice(text)))
            .collect()
    }
}

fn wanted(slice: &str) -> NewServers {
    NewServers {
        slice: slice.into(),
        prefixes: ["jupyter-".into(), "lab@".into(), "odd".into()].into(),
    }
}

fn drop_in(unit: &str, slice: &str) -> (String, Option<String>) {
    (unit.to_owned(), Some(slice.to_owned()))
}

#[test]
fn new_servers_are_started_in_the_slice_and_units_with_a_file_are_not() {
    let system = System::new();
    system.write("etc/systemd/system/jupyter-hub.service", "[Service]\n");
    system.write("usr/lib/systemd/system/traefik.service", "[Service]\n");
    system
        .placement
        .bring_about(Some(&wanted("jupyter.slice")))
        .unwrap();
    let slice = |name| drop_in(name, "jupyter.slice");
    let hub = ("jupyter-hub.service".to_owned(), None);
    let all = [slice("jupyter-.service"), hub, slice("lab@.service")];
    assert_eq!(system.drop_ins(), all);
    system.placement.bring_about(None).unwrap();
    assert_eq!(system.drop_ins(), []);
}

#[test]
fn a_drop_in_can_be_read_by_all_as_unit_files_can() {
    let system = System::new();
    system
        .placement
        .bring_about(Some(&wanted("jupyter.slice")))
        .unwrap();
    let directory = system.placement.runtime.join("jupyter-.service.d");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&directory), mode(&directory.join(FILE))),
        (0o755, 0o644)
    );
}

#[test]
fn a_server_that_runs_in_the_slice_stays_there_in_systemds_mind_until_it_ends() {
    let system = System::new();
    system
        .placement
        .bring_about(Some(&wanted("jupyter.slice")))
        .unwrap();
    system.spawn("jupyter-alice.service", "jupyter.slice");
    system.spawn("jupyter-bob.service", "system.slice");
    system.placement.bring_about(None).unwrap();
    let alice = drop_in("jupyter-alice.service", "jupyter.slice");
    assert_eq!(system.drop_ins(), [alice]);
    // What another daemon left is known for what it is.
    system.placement.bring_about(None).unwrap();
    assert_eq!(system.drop_ins().len(), 1);
    system
        .placement
        .bring_about(Some(&wanted("jupyter.slice")))
        .unwrap();
    assert!(
        system
            .drop_ins()
            .iter()
            .all(|(unit, _)| !unit.contains("alice"))
    );
    system.placement.bring_about(None).unwrap();
    system.ends("jupyter-alice.service", "jupyter.slice");
    system.placement.bring_about(None).unwrap();
    assert_eq!(system.drop_ins(), []);
}

#[test]
fn a_server_that_ended_is_started_again_where_its_spawner_puts_it() {
    let system = System::new();
    system.write("etc/systemd/system/jupyter-hub.service", "[Service]\n");
    let placement = &system.placement;
    placement
        .bring_about(Some(&wanted("jupyter.slice")))
        .unwrap();
    let ended = |unit: &str| placement.ended(&UnitName(unit.to_owned())).unwrap();
    // Those for the beginning of names, and for what is no server, are nobody's server's.
    let before = system.drop_ins();
    ended("jupyter-hub.service");
    ended("jupyter-alice.service");
    assert_eq!(system.drop_ins(), before);
    system.spawn("jupyter-alice.service", "jupyter.slice");
    placement.bring_about(None).unwrap();
    let alice = drop_in("jupyter-alice.service", "jupyter.slice");
    assert_eq!(system.drop_ins(), [alice]);
    ended("jupyter-alice.service");
    assert_eq!(system.drop_ins(), []);
}

#[test]
fn after_a_change_of_the_slice_each_server_stays_where_it_was_started() {
    let system = System::new();
    system
        .placement
        .bring_about(Some(&wanted("jupyter.slice")))
        .unwrap();
    system.spawn("jupyter-alice.service", "jupyter.slice");
    system
        .placement
        .bring_about(Some(&wanted("hub.slice")))
        .unwrap();
    system.spawn("jupyter-bob.service", "hub.slice");
    let drop_ins = system.drop_ins();
    assert!(drop_ins.contains(&drop_in("jupyter-.service", "hub.slice")));
    assert!(drop_ins.contains(&drop_in("jupyter-alice.service", "jupyter.slice")));
    system.placement.bring_about(None).unwrap();
    let alice = drop_in("jupyter-alice.service", "jupyter.slice");
    let bob = drop_in("jupyter-bob.service", "hub.slice");
    assert_eq!(system.drop_ins(), [alice, bob]);
}

#[test]
fn files_of_an_admin_stay_and_what_cannot_be_written_is_named() {
    let system = System::new();
    system.write(
        "run/systemd/system/jupyter-.service.d/20-mine.conf",
        "[Service]\n",
    );
    system
        .placement
        .bring_about(Some(&wanted("jupyter.slice")))
        .unwrap();
    system.placement.bring_about(None).unwrap();
    let mine = system
        .placement
        .runtime
        .join("jupyter-.service.d/20-mine.conf");
    assert!(mine.exists());
    system.write(
        "run/systemd/system/jupyter-.service.d/10-hubwarden.conf",
        "[Service]\nSlice=mine.slice\n",
    );
    system.placement.bring_about(None).unwrap();
    let wants = wanted("jupyter.slice");
    let error = system.placement.bring_about(Some(&wants)).unwrap_err();
    assert!(
        error.to_string().contains("somebody else's file"),
        "{error}"
    );
    let theirs = fs::read_to_string(mine.with_file_name(FILE)).unwrap();
    assert!(theirs.contains("mine.slice"));
    fs::remove_dir_all(&system.placement.runtime).unwrap();
    let error = system
        .placement
        .bring_about(Some(&wanted("jupyter.slice")))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("jupyter-.service.d/10-hubwarden.conf: No such file"),
        "{error}"
    );
}

#[test]
fn the_slice_that_a_spawner_asked_for_is_read() {
    let system = System::new();
    let asked = |unit: &str| system.placement.asked_for(&UnitName(unit.into()));
    system.write(
        "run/systemd/transient/jupyter-a.service",
        "[Unit]\nSlice=x.slice\n[Service]\nSlice=jupyter-users.slice\n",
    );
    system.write(
        "run/systemd/transient/jupyter-b.service",
        "[Service]\nUser=b\n",
    );
    assert_eq!(
        asked("jupyter-a.service").as_deref(),
        Some("jupyter-users.slice")
    );
    assert_eq!(
        (asked("jupyter-b.service"), asked("jupyter-c.service")),
        (None, None)
    );
}

use super::*;
use test_support::Bed;

fn path_of(bed: &Bed) -> CgroupPath {
    CgroupPath::new(bed.directory.file_name().unwrap().to_str().unwrap())
}

fn stopper() -> Stopper {
    Stopper::new(&cgroup::find_root().unwrap())
}

fn named(pid: u32) -> Named {
    let started = Process::new(pid).started().unwrap();
    Named { pid, started }
}

fn processes_of(bed: &Bed) -> Vec<u32> {
    processes(&bed.directory, Budget::new(1000, 1000, GONE_WITHIN)).0
}

/// Waits until so many processes are in the bed.
fn settled(bed: &Bed, count: usize) -> Vec<u32> {
    for _ in 0..200 {
        let found = processes_of(bed);
        if found.len() == count {
            return found;
        }
        std::thread::sleep(LOOKED_EVERY);
    }
    panic!("{:?}", processes_of(bed));
}

#[test]
fn what_root_may_do_is_proven_beforehand() {
    // Kept: where nothing else is there, its cgroup is the one to try.
    let Some(_bed) = Bed::new() else {
        return;
    };
    stopper().try_out_all().unwrap();
    stopper().try_out_one().unwrap();
}

#[tokio::test]
async fn a_whole_cgroup_is_ended_also_while_it_stands_still_and_what_is_below_it() {
    let Some(bed) = Bed::new() else {
        return;
    };
    std::fs::create_dir(bed.directory.join("below")).unwrap();
    let enters = format!("echo $$ > {}/below/cgroup.procs; ", bed.directory.display());
    let mut child = bed
        .command(&format!(
            "trap '' TERM; sleep 60 & {enters} sleep 60 & wait"
        ))
        .spawn()
        .unwrap();
    settled(&bed, 3);
    std::fs::write(bed.directory.join("cgroup.freeze"), "1").unwrap();
    let id = CgroupId(bed.id);
    stopper().end_all(&path_of(&bed), id).await.unwrap();
    settled(&bed, 0);
    child.wait().unwrap();
    // And once more: nothing is left to do.
    stopper().end_all(&path_of(&bed), id).await.unwrap();
    std::fs::remove_dir(bed.directory.join("below")).unwrap();
}

#[tokio::test]
async fn another_cgroup_of_the_same_path_is_left_alone() {
    let Some(bed) = Bed::new() else {
        return;
    };
    let mut child = bed.command("exec sleep 60").spawn().unwrap();
    settled(&bed, 1);
    let other = CgroupId(bed.id + 1);
    let error = stopper().end_all(&path_of(&bed), other).await.unwrap_err();
    assert!(error.is_gone());
    let process = [named(child.id())];
    let error = stopper().end(&path_of(&bed), other, &process).await;
    assert!(error.unwrap_err().is_gone());
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn one_process_is_ended_and_its_neighbours_and_namesakes_are_not() {
    let Some(bed) = Bed::new() else {
        return;
    };
    let mut miner = bed.command("exec sleep 61").spawn().unwrap();
    let mut notebook = bed.command("exec sleep 62").spawn().unwrap();
    let mut outside = std::process::Command::new("sleep")
        .arg("63")
        .spawn()
        .unwrap();
    settled(&bed, 2);
    let wrong = Named {
        started: named(notebook.id()).started + 1,
        ..named(notebook.id())
    };
    let asked = [named(miner.id()), wrong, named(outside.id())];
    let id = CgroupId(bed.id);
    let ended = stopper().end(&path_of(&bed), id, &asked).await.unwrap();
    assert_eq!(ended, 1);
    assert!(!miner.wait().unwrap().success());
    for spared in [&mut notebook, &mut outside] {
        assert!(spared.try_wait().unwrap().is_none());
        spared.kill().unwrap();
        spared.wait().unwrap();
    }
}

#[tokio::test]
async fn a_process_whose_cgroup_is_too_deep_to_be_told_is_sought_there() {
    let Some(bed) = Bed::new() else {
        return;
    };
    let mut child = bed.command("exec sleep 64").spawn().unwrap();
    settled(&bed, 1);
    let mut members = Members::new(&bed.directory, &path_of(&bed));
    assert_eq!(members.found_by_walking(child.id()).await, Some(true));
    let other = std::process::id();
    assert_eq!(members.found_by_walking(other).await, Some(false));
    // Not all of them were looked at.
    members.walked = Some((Vec::new(), false));
    assert_eq!(members.found_by_walking(other).await, None);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_cgroup_s_path_names_what_is_below_it_cut_or_not_and_not_its_neighbours() {
    let members = Members::new(Path::new("/"), &CgroupPath::new("/a.slice/b.service"));
    for (path, is_member) in [
        ("/a.slice/b.service", true),
        ("/a.slice/b.service/deep/cut-of", true),
        ("/a.slice/b.services", false),
        ("/a.slice", false),
        ("/", false),
    ] {
        let text = format!("1:cpu:/a.slice/b.service\n0::{path}\n");
        assert_eq!(members.names(text.as_bytes()), is_member, "{path}");
    }
}

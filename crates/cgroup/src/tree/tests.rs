//! Trees made of directories.

use super::*;

fn interest(_slice: &CgroupPath, name: &str) -> Interest {
    match name {
        name if name.starts_with("system-jupyter") => Interest::Slice,
        name if name.starts_with("jupyter-") => Interest::Member,
        _ => Interest::None,
    }
}

struct Bed {
    directory: tempfile::TempDir,
    tree: Tree,
}

impl Bed {
    fn new(existing: &[&str]) -> Bed {
        let directory = tempfile::tempdir().unwrap();
        for path in existing {
            std::fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        let slices = ["system.slice", "jupyter.slice"].map(CgroupPath::new);
        let tree = Tree::new(directory.path(), &slices, interest).unwrap();
        Bed { directory, tree }
    }

    fn make(&self, path: &str) {
        std::fs::create_dir_all(self.directory.path().join(path)).unwrap();
    }

    fn remove(&self, path: &str) {
        std::fs::remove_dir(self.directory.path().join(path)).unwrap();
    }
}

fn told(changes: Vec<Change>) -> Vec<String> {
    changes
        .into_iter()
        .map(|change| match change {
            Change::Appeared(path, _) => format!("+{path}"),
            Change::Gone(path, _) => format!("-{path}"),
        })
        .collect()
}

#[test]
fn members_already_there_are_found() {
    let mut bed = Bed::new(&[
        "system.slice/jupyter-a.service",
        "system.slice/cron.service",
    ]);
    assert_eq!(
        told(bed.tree.rescan().unwrap()),
        ["+/system.slice/jupyter-a.service"]
    );
    assert!(told(bed.tree.rescan().unwrap()).is_empty());
}

#[test]
fn events_tell_who_came_and_went() {
    let mut bed = Bed::new(&["system.slice"]);
    bed.tree.rescan().unwrap();
    bed.make("system.slice/jupyter-a.service");
    assert_eq!(
        told(bed.tree.poll().unwrap()),
        ["+/system.slice/jupyter-a.service"]
    );
    bed.remove("system.slice/jupyter-a.service");
    assert_eq!(
        told(bed.tree.poll().unwrap()),
        ["-/system.slice/jupyter-a.service"]
    );
    assert!(told(bed.tree.rescan().unwrap()).is_empty());
}

#[test]
fn a_slice_that_comes_later_is_looked_into() {
    let mut bed = Bed::new(&[]);
    bed.tree.rescan().unwrap();
    bed.make("jupyter.slice/jupyter-b.service");
    assert_eq!(
        told(bed.tree.poll().unwrap()),
        ["+/jupyter.slice/jupyter-b.service"]
    );
}

#[test]
fn instance_units_in_a_slice_of_their_own_are_found() {
    let mut bed = Bed::new(&["system.slice"]);
    bed.tree.rescan().unwrap();
    bed.make("system.slice/system-jupyter\\x2dc.slice/jupyter-c@d.service");
    assert_eq!(
        told(bed.tree.poll().unwrap()),
        ["+/system.slice/system-jupyter\\x2dc.slice/jupyter-c@d.service"]
    );
    bed.remove("system.slice/system-jupyter\\x2dc.slice/jupyter-c@d.service");
    bed.remove("system.slice/system-jupyter\\x2dc.slice");
    assert_eq!(
        told(bed.tree.poll().unwrap()),
        ["-/system.slice/system-jupyter\\x2dc.slice/jupyter-c@d.service"]
    );
}

#[test]
fn a_path_made_again_is_another_member() {
    let mut bed = Bed::new(&["system.slice/jupyter-a.service"]);
    bed.tree.rescan().unwrap();
    let old = bed.directory.path().join("system.slice/jupyter-a.service");
    // Keep the old inode busy so that the file system cannot give its number again.
    std::fs::rename(&old, bed.directory.path().join("system.slice/old")).unwrap();
    bed.make("system.slice/jupyter-a.service");
    assert_eq!(
        told(bed.tree.rescan().unwrap()),
        [
            "-/system.slice/jupyter-a.service",
            "+/system.slice/jupyter-a.service"
        ]
    );
}

#[test]
fn names_that_do_not_concern_us_say_nothing() {
    let mut bed = Bed::new(&["system.slice"]);
    bed.tree.rescan().unwrap();
    bed.make("system.slice/cron.service");
    bed.make("jupyter-x.service");
    assert!(told(bed.tree.poll().unwrap()).is_empty());
}

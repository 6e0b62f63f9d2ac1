//! RandomX's constants laid where another's process reads them: they are nothing of that process's.
//! What it executes and its own user put there is.

use crate::bed::{Bed, Hostile, NOBODY};
use sensors::constants::Constants;
use sensors::process::Process;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A user who is neither the process's nor root.
const ANOTHER: u32 = 65533;

fn found(pid: u32) -> usize {
    let constants = Constants::new().unwrap();
    // A scan has a bound of time, and another's turn may take all of that on a busy machine.
    let mut scans = (0..600).map(|_| constants.scan(&Process::new(pid)).unwrap());
    let scan = scans.find(|scan| scan.complete || scan.found == 7);
    scan.expect("a whole scan").found
}

/// How many constants count of a process that takes this so.
fn taken(bed: &Bed, way: &str, what: &Path) -> usize {
    let words = [OsStr::new("take"), OsStr::new(way), what.as_os_str()];
    let (process, said) = bed.start_and_hear(&words);
    assert_eq!(said, "taken\n", "{way}");
    found(process.pid())
}

#[test]
fn data_that_a_process_reads_or_maps_are_not_its_code_whoever_wrote_them() {
    let bed = Bed::new();
    for (owner, mode) in [(ANOTHER, 0o644), (NOBODY, 0o600), (0, 0o644)] {
        let planted = bed.planted("data", owner, mode);
        for way in ["read", "map"] {
            assert_eq!(taken(&bed, way, &planted), 0, "{way}, owner {owner}");
        }
    }
}

#[test]
fn code_in_a_file_counts_only_if_no_other_user_could_have_written_it() {
    let bed = Bed::new();
    for (owner, mode, counted) in [
        (NOBODY, 0o600, 7),
        (NOBODY, 0o755, 7),
        (0, 0o755, 7),
        (ANOTHER, 0o755, 0),
        (ANOTHER, 0o666, 0),
        (NOBODY, 0o757, 0),
        (0, 0o666, 0),
    ] {
        let planted = bed.planted("code", owner, mode);
        for way in ["map-code", "map-shared-code"] {
            let found = taken(&bed, way, &planted);
            assert_eq!(found, counted, "{way}, owner {owner}, mode {mode:o}");
        }
    }
    // What the process puts in its place is its own.
    let planted = bed.planted("code", ANOTHER, 0o755);
    assert_eq!(taken(&bed, "map-and-write-code", &planted), 7);
}

#[test]
fn a_group_or_a_list_that_lets_others_write_makes_a_file_theirs_too() {
    let bed = Bed::new();
    let planted = bed.planted("code", 0, 0o775);
    assert_eq!(taken(&bed, "map-code", &planted), 7, "root's own group");
    // Of a group that this node does not know, others may be.
    std::os::unix::fs::chown(&planted, Some(0), Some(4_000_000)).unwrap();
    assert_eq!(taken(&bed, "map-code", &planted), 0, "another group");
    let planted = bed.planted("listed", 0, 0o755);
    // acl(5): user::rwx, user:65533:rw-, group::r-x, mask::rwx, other::r-x
    let entries: [(u16, u16, u32); 5] = [
        (1, 7, u32::MAX),
        (2, 6, ANOTHER),
        (4, 5, u32::MAX),
        (16, 7, u32::MAX),
        (32, 5, u32::MAX),
    ];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, access, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(access.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&planted, "system.posix_acl_access", &list, flags)
        .expect("a file system with access control lists");
    assert_eq!(taken(&bed, "map-code", &planted), 0, "a list");
}

#[test]
fn memory_without_a_file_counts_if_it_is_the_processs_own() {
    let bed = Bed::new();
    assert_eq!(taken(&bed, "memory-of-own", Path::new("")), 7);
    let (given, said) = bed.start_as_root_and_hear(&[OsStr::new("give"), OsStr::new("memory")]);
    assert_eq!(said, "taken\n");
    assert_eq!(found(given.pid()), 0, "memory that another made");
    let (giver, said) = bed.start_as_root_and_hear(&[OsStr::new("give"), OsStr::new("segment")]);
    assert_eq!(said, "taken\n");
    let children = format!("/proc/{0}/task/{0}/children", giver.pid());
    let child = std::fs::read_to_string(children).unwrap();
    let child = child.trim().parse();
    let child = child.unwrap_or_else(|error| panic!("{error}: {}", giver.state()));
    assert_eq!(found(child), 0, "a shared segment");
}

#[test]
fn where_all_data_are_executable_only_the_program_itself_counts() {
    let bed = Bed::new();
    let planted = bed.planted("data", NOBODY, 0o600);
    assert_eq!(taken(&bed, "all-executable", &planted), 0);
}

/// As in the attack: a file in shared memory, by its inode the same as a program.
#[test]
fn a_data_file_with_the_inode_of_a_program_is_not_that_program() {
    let bed = Bed::new();
    let (program, planted) = (bed.files.path().join("p"), bed.files.path().join("d"));
    for place in [&program, &planted] {
        std::fs::create_dir(place).unwrap();
    }
    let source = bed.planted("source", ANOTHER, 0o644);
    let hostile = bed.program();
    // Two file systems in memory number their files alike.
    let script = "mount -t tmpfs one \"$1\" && mount -t tmpfs other \"$2\" && \
                  cp -p \"$3\" \"$1/file\" && cp -p \"$4\" \"$2/file\" && \
                  exec setpriv --reuid=65534 --regid=65534 --clear-groups \
                  \"$1/file\" take map \"$2/file\"";
    let mut command = bed.shell("exec \"$@\"");
    command.args(["unshare", "--mount", "sh", "-c", script, "sh"]);
    command.args([&program, &planted, &hostile, &source]);
    let (process, said) = Hostile::start_and_hear(command);
    assert_eq!(said, "taken\n");
    let inode = |place: &Path| {
        let seen = format!("/proc/{}/root{}/file", process.pid(), place.display());
        std::fs::metadata(seen).unwrap().ino()
    };
    assert_eq!(inode(&program), inode(&planted), "no collision to try");
    assert_eq!(found(process.pid()), 0);
}

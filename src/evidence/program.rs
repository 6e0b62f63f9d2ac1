//! Programs of ours that run in the kernel: loading, and why that failed.

use aya::maps::MapError;
use aya::{Btf, Ebpf, EbpfLoader};
use std::os::unix::fs::MetadataExt;

/// Why a program does not run here; the other senses go on.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The kernel does not describe its types.
    #[error(
        "the kernel gives no type information in /sys/kernel/btf/vmlinux (built without \
         CONFIG_DEBUG_INFO_BTF?): {0}"
    )]
    NoTypes(String),
    /// Our program or its tables were refused.
    #[error(
        "the kernel refuses a BPF program (CAP_BPF and CAP_PERFMON are needed, and no lockdown): {}",
        whole(.0)
    )]
    Refused(#[from] Box<aya::EbpfError>),
    /// What it is to be attached to is not there, or closed to us.
    #[error("{place} cannot be used ({hint}): {}", whole(.why))]
    NotAttached {
        /// The tracepoint, or the cgroup's hook.
        place: &'static str,
        /// Where it should be.
        hint: &'static str,
        /// What the kernel said.
        why: Box<aya::programs::ProgramError>,
    },
    /// A table shared with the kernel cannot be used.
    #[error("a table shared with the kernel cannot be used: {}", whole(.0))]
    Table(#[from] MapError),
    /// The object is not the one this was written for.
    #[error("the embedded BPF object has no {0}: hubwarden was built wrongly")]
    Incomplete(&'static str),
}

/// An error with what caused it, in one line. Of a program that the kernel's check refused the
/// report is pages long; its first line names the mistake.
fn whole(error: &dyn std::error::Error) -> String {
    let mut words = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        if !words.iter().any(|before: &String| before.ends_with(line)) {
            words.push(line.chars().take(200).collect());
        }
        next = error.source();
    }
    words.join(": ")
}

/// The first pid namespace's inode (include/linux/proc_ns.h, `PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: u64 = 0xeffffffc;

/// The running kernel's description of its types; some 40 ms of work, so once for all programs.
///
/// # Errors
/// It has none.
pub fn types() -> Result<Btf, ProgramError> {
    Btf::from_sys_fs().map_err(|error| ProgramError::NoTypes(error.to_string()))
}

/// Loads an object's tables; its programs are still to be loaded each.
///
/// # Errors
/// The kernel refused.
pub(super) fn load(object: &[u8], types: Option<&Btf>) -> Result<Ebpf, ProgramError> {
    let namespace = std::fs::metadata("/proc/self/ns/pid").map_or(0, |file| file.ino());
    let namespace = match namespace {
        FIRST_PID_NAMESPACE => 0,
        // The kernel has 32 bits for it.
        other => other as u32,
    };
    let loaded = EbpfLoader::new()
        .btf(types)
        .override_global("our_pid_ns", &namespace, true)
        .load(object)
        .map_err(Box::new)?;
    Ok(loaded)
}

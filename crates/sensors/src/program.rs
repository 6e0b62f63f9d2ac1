//! Programs of ours that run in the kernel: loading, and why that failed.

use aya::maps::{Map, MapError};
use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why a program does not run here; the other sensors go on.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The kernel does not describe its types.
    #[error(
        "the kernel gives no type information in {TYPES} (built without \
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
    #[error("{} cannot be used ({}): {}", .place.name, .place.hint, whole(.why))]
    NotAttached {
        /// The tracepoint, or the cgroup's hook.
        place: Place,
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

/// What a program of ours is attached to.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// In words.
    pub name: &'static str,
    /// Where it should be, or what is needed for it.
    pub hint: &'static str,
}

impl Place {
    /// It refused this.
    pub(super) fn refused(self, error: aya::programs::ProgramError) -> ProgramError {
        let why = Box::new(error);
        ProgramError::NotAttached { place: self, why }
    }
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

/// Where the running kernel describes its types.
pub const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's description of its types; some 40 ms of work, so once for all programs.
///
/// # Errors
/// It has none.
pub fn types() -> Result<Btf, ProgramError> {
    types_in(Path::new(TYPES))
}

/// The same, of the kernel that this file describes.
///
/// # Errors
/// It describes none.
pub fn types_in(file: &Path) -> Result<Btf, ProgramError> {
    Btf::parse_file(file, Endianness::default())
        .map_err(|error| ProgramError::NoTypes(whole(&error)))
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

/// A program of a loaded object, as the kind that its place takes.
///
/// # Errors
/// The object has no such program.
pub(super) fn part<'a, P>(
    object: &'a mut Ebpf,
    name: &'static str,
    place: Place,
) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = object
        .program_mut(name)
        .ok_or(ProgramError::Incomplete("program"))?;
    program.try_into().map_err(|error| place.refused(error))
}

/// A table of a loaded object.
///
/// # Errors
/// The object has no such table, or it is of another kind.
pub(super) fn table<T: TryFrom<Map, Error = MapError>>(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<T, ProgramError> {
    let table = object
        .take_map(name)
        .ok_or(ProgramError::Incomplete(name))?;
    Ok(T::try_from(table)?)
}

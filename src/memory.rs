//! Memory that was needed for a moment only.

/// Gives pages that nothing is in back to the kernel.
///
/// To load the sensors' programs takes the kernel's whole type information, and to read the packet
/// rules back all of them twice; glibc keeps what is freed of that in the arena of the thread that
/// did it, for good (21 MB of 39 with 1,000 servers). To look for it takes about a millisecond.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) is thread-safe and touches nothing that is allocated.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Has the kernel take large pieces back as soon as they are freed.
///
/// glibc raises the size from which it maps a piece by itself whenever such a piece is freed, up to
/// 32 MB (mallopt(3), `M_MMAP_THRESHOLD`), and [`trim`] gives nothing of the end of another thread's
/// arena back: 12 MB of the kernel's type information stayed there. A size that is set stays.
pub fn bound() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) changes numbers of the allocator's, under its lock.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, 128 * 1024);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, 128 * 1024);
    }
}

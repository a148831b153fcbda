//! The programs load, and stay far from the verifier's limits: the first container waits for it.

mod common;

mod root {
    use std::os::fd::AsRawFd;

    use crate::common::datapath::Datapath;

    /// BPF_COMPLEXITY_LIMIT_INSNS, include/linux/bpf.h.
    const LIMIT: u32 = 1_000_000;

    #[test]
    #[ignore = "root"]
    fn no_program_comes_near_the_verifiers_limit() {
        let d = Datapath::new();
        let progs = &d.skel.progs;
        for (name, program) in [
            ("nk_from_container", &progs.nk_from_container),
            ("nk_to_container", &progs.nk_to_container),
            ("nk_from_wire", &progs.nk_from_wire),
            ("nk_guard", &progs.nk_guard),
        ] {
            use std::os::fd::AsFd;
            let mut info = libbpf_sys::bpf_prog_info::default();
            let mut length = u32::try_from(size_of_val(&info)).expect("small");
            // SAFETY: the descriptor is a program's, and the kernel writes at most `length` bytes.
            let error = unsafe {
                libbpf_sys::bpf_prog_get_info_by_fd(
                    program.as_fd().as_raw_fd(),
                    &raw mut info,
                    &raw mut length,
                )
            };
            assert_eq!(error, 0, "{name}");
            let (verified, jited) = (info.verified_insns, info.jited_prog_len);
            println!("{name}: {verified} instructions verified, {jited} bytes of machine code");
            assert!(verified < LIMIT / 10, "{name}: {verified}");
            assert!(
                jited > 0,
                "{name} is not compiled: the numbers in the design count on it"
            );
        }
    }
}

//! Goal: where a seccomp profile refuses `io_uring_setup`, as container engines' default ones do, launching an executor is an
//! error that says so and how to allow it; never a panic or a hang.

use std::env;
use std::process::Command;

use cubed_runtime::{Executor, ExecutorOptions};

/// Set in the child, which gives up its right to rings first.
const CHILD: &str = "CUBED_TEST_REFUSED";

#[test]
fn a_refused_ring_is_an_error_with_its_remedy() {
    if env::var_os(CHILD).is_some() {
        refuse_rings();
        let options = ExecutorOptions { name: "refused".to_owned(), core: None };
        let launched = Executor::Glommio.launch(options, async || ());
        println!("{}", launched.expect_err("no ring, no executor"));
        return;
    }
    let output = Command::new(env::current_exe().expect("the test binary"))
        .args(["a_refused_ring_is_an_error_with_its_remedy", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("the test binary starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("io_uring is forbidden here") && text.contains("seccomp"), "{text}");
}

/// From here on `io_uring_setup` answers EPERM in this process.
fn refuse_rings() {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain integers; the call touches no memory of ours.
    let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(promised, 0);
    // SAFETY: `program` points to `filter`, and both outlive the call, which copies them. SECCOMP_FILTER_FLAG_TSYNC puts the
    // filter on every thread, the one that the executor will start from included.
    let filtered = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    assert_eq!(filtered, 0);
}

//! The `mindreel` binary: calls [`mindreel::cli::run`], nothing else but one kindness to containers.

fn main() -> std::process::ExitCode {
    // Mesa's device-select layer complains on stderr, several lines at every start, where there is no
    // XDG_RUNTIME_DIR (containers, cron). We choose the adapter ourselves and do not need it.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: nothing else runs yet: this is the first statement of the only thread.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    mindreel::cli::run()
}

//! The `mindreel` binary: calls [`mindreel::cli::run`], nothing else.

fn main() -> std::process::ExitCode {
    mindreel::cli::run()
}

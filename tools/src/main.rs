//! The program `chainring`; everything is in the library beside it, where fuzzers reach it too.

fn main() -> std::process::ExitCode {
    chainring_tools::run_program()
}

//! `v4shim`: see the library part.

fn main() -> std::process::ExitCode {
    v4shim::main()
}

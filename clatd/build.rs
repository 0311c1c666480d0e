//! Compiles the kernel fast path. Needs clang (14 or later), and nothing else: no headers, no libraries, no network.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const SOURCE_DIR: &str = "bpf";
const SOURCE: &str = "bpf/clat.bpf.c";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={SOURCE_DIR}");
    println!("cargo::rerun-if-env-changed=CLANG");
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?);
    // BPF has a byte order of its own: that of the machine it will run on.
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb",
        _ => "bpfel",
    };
    for (name, defines) in [("clat.bpf.o", &[][..]), ("clat-test.bpf.o", &["-DTEST_RUN"][..])] {
        let output = Command::new(&clang)
            // -mcpu=v2: Linux 5.15 knows v3, but its verifier follows v2 code better. -g is for the maps' types (BTF).
            .args(["-target", target, "-mcpu=v2", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
            .args(["-Wno-unused-function", "-Wno-unused-command-line-argument", "-nostdinc"])
            // The object is part of the program, its debug information included: the same bytes wherever it was built.
            .args(["-ffile-prefix-map=bpf/=", "-ffile-compilation-dir=/v4shim/clatd"])
            .args(defines)
            .args(["-c", SOURCE, "-o"])
            .arg(out.join(name))
            .output()
            .map_err(|error| {
                format!(
                    "cannot compile the kernel fast path ({SOURCE}): cannot run `{clang}`: {error}\n\
                     install clang (Debian, Ubuntu: apt-get install clang), or set CLANG to its path"
                )
            })?;
        if !output.status.success() {
            return Err(format!(
                "cannot compile the kernel fast path ({SOURCE}) with `{clang}` for {target}:\n{}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    Ok(())
}

#!/usr/bin/env python3
"""Run a command as on a kernel before 6.6, which has no TCX links.

    old_kernel.py COMMAND...

A system-call filter answers bpf(BPF_LINK_CREATE) as those kernels do: EINVAL.
"""
import ctypes
import errno
import os
import platform
import struct
import sys

SYS_BPF = {"x86_64": 321, "aarch64": 280, "armv7l": 386}
BPF_LINK_CREATE = 28
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06                    # of classic BPF: absolute word, jump if equal, return
ALLOW, ERRNO = 0x7fff0000, 0x00050000
NUMBER, COMMAND = 0, 16                                   # offsets in struct seccomp_data; little-endian machines only


def main():
    """Install the filter and become the command."""
    program = [
        (LOAD, 0, 0, NUMBER),
        (EQUAL, 0, 3, SYS_BPF[platform.machine()]),
        (LOAD, 0, 0, COMMAND),
        (EQUAL, 0, 1, BPF_LINK_CREATE),
        (RETURN, 0, 0, ERRNO | errno.EINVAL),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        sys.exit(f"old_kernel.py: prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])


main()

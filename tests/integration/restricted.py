"""Becomes a command in a process that may do less: for tests of what a server says about it.

    restricted.py [--files N] [--no-io-uring ERRNO] COMMAND...

--files sets both limits of open files, and nobody, root included, may raise them again. --no-io-uring is what the
seccomp filter of a container does: io_uring_setup fails with that error.
"""

import ctypes
import os
import resource
import struct
import sys

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 24, 38, 22
CAP_SYS_RESOURCE = 24
SECCOMP_MODE_FILTER = 2
IO_URING_SETUP = 425


def limit_files(count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)


def refuse_io_uring(error):
    """A filter of four instructions: load the number of the call; io_uring_setup fails; the rest is allowed."""
    instructions = [(0x20, 0, 0, 0), (0x15, 0, 1, IO_URING_SETUP), (0x06, 0, 0, 0x00050000 | error),
                    (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in instructions))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        sys.exit(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")


def main():
    words = sys.argv[1:]
    while words and words[0].startswith("--"):
        option, value = words.pop(0), int(words.pop(0))
        if option == "--files":
            limit_files(value)
        elif option == "--no-io-uring":
            refuse_io_uring(value)
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()

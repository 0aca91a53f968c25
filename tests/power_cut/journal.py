"""Reads the log out of a crashed disk's image, and judges it. guest.rs tells the format."""

import functools
import struct
import subprocess

FIRST, RECORD = 4096, 6000


class Broken(Exception):
    """A promise that was not kept."""


@functools.cache
def record(n):
    words = ((n << 32 | j) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF for j in range(RECORD // 8))
    return struct.pack(f"<{RECORD // 8}Q", *words)


def word_of(image, acknowledged, folder):
    """The log's word, if all is as promised after `acknowledged` records were acknowledged."""
    disk, dump = folder / "image", folder / "dump"
    disk.write_bytes(image)
    # Replays the journal, as a mount does. 1: it corrected something, as the journal's replay may make it.
    check = subprocess.run(["e2fsck", "-fp", disk], capture_output=True, text=True)
    if check.returncode not in (0, 1):
        raise Broken(f"the file system is broken: {(check.stdout + check.stderr).strip()}")
    dump.write_bytes(b"")
    subprocess.run(["debugfs", "-R", f"dump /log {dump}", disk], capture_output=True, check=True)
    log = dump.read_bytes()
    word = struct.unpack_from("<Q", log)[0] if len(log) >= 8 else 0
    if word < acknowledged:
        raise Broken(f"record {acknowledged} was acknowledged, and the word says {word}")
    for n in range(1, word + 1):
        start = FIRST + (n - 1) * RECORD
        found, right = log[start:start + RECORD], record(n)
        if found != right:
            wrong = sum(a != b for a, b in zip(found, right)) + len(right) - len(found)
            kept = "acknowledged" if n <= acknowledged else "published before it was durable"
            raise Broken(f"the word says {word}, and {wrong} bytes of record {n} are wrong, which was {kept}")
    return word

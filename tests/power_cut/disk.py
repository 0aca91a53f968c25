"""A disk with a volatile write cache, which a power cut loses: an NBD server of one image, in memory.

A host's page cache survives the kill of a virtual machine, so that a disk in a file would forgive a guest that never
flushes it. Here what was written since the last completed flush is only *pending*: reads see it, and a flush makes it
durable. At the cut the requests stop being answered, and what is left of the image is what was durable, with any
subset of the pending writes, each of them whole, torn by sectors, or missing.
"""

import random
import socket
import struct
import threading

SECTOR = 512

# The NBD protocol, its newstyle handshake: options are answered until the client goes.
HAS_FLAGS, SEND_FLUSH, SEND_FUA = 1, 4, 8
OPT_ABORT, OPT_GO = 2, 7
REP_ACK, REP_INFO, REP_UNSUPPORTED = 1, 3, 0x80000001
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
FUA = 1
INVALID = 22


class Disk:
    def __init__(self, image):
        self.durable = bytearray(image)
        self.seen = bytearray(image)
        self.pending = []  # (offset, bytes), oldest first
        self.flushes = 0
        self.dead = threading.Event()
        self._lock = threading.Lock()
        self._left, self._at_flush = None, False

    def cut_after(self, requests, at_flush):
        """Cuts at the request that comes after so many, or at the first flush from there on."""
        with self._lock:
            self._left, self._at_flush = requests, at_flush

    def cut(self):
        with self._lock:
            self.dead.set()

    def images(self, rng, count):
        """What may be left after the cut: all pending writes lost, all there, and random subsets."""
        if not self.pending:
            return [bytes(self.durable)]
        return [bytes(self.durable), bytes(self.seen)] + [self._image(rng) for _ in range(count - 2)]

    def _image(self, rng):
        image = bytearray(self.durable)
        for offset, data in self.pending:
            chance = rng.choice((0, 0.5, 1))
            for at in range(0, len(data), SECTOR):
                if rng.random() < chance:
                    image[offset + at:offset + at + SECTOR] = data[at:at + SECTOR]
        return image

    def _perform(self, kind, flags, offset, data, length):
        """The answer (error, bytes), or None from the cut on."""
        with self._lock:
            if self.dead.is_set():
                return None
            if offset + length > len(self.seen) or kind not in (READ, WRITE, FLUSH):
                return INVALID, b""
            if kind == WRITE:
                self.seen[offset:offset + length] = data
                self.pending.append((offset, data))
            if self._left is not None:
                self._left -= 1
                if self._left < 0 and (kind == FLUSH or not self._at_flush):
                    self.dead.set()
                    return None
            if kind == FLUSH or flags & FUA:
                # A write with FUA takes the older ones along: more than it must, and never less.
                for at, written in self.pending:
                    self.durable[at:at + len(written)] = written
                self.pending.clear()
                self.flushes += 1
            return 0, bytes(self.seen[offset:offset + length]) if kind == READ else b""


class Server:
    """Serves a disk to one client on a Unix socket, from a thread, until it is closed."""

    def __init__(self, disk, path):
        self._disk = disk
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._client = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for end in (self._listener, self._client):
            if end:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it was never connected, or the client is gone
        self._thread.join()
        for end in (self._listener, self._client):
            if end:
                end.close()

    def _run(self):
        try:
            self._client, _ = self._listener.accept()
            with self._client.makefile("rb") as stream:
                if self._shake_hands(stream):
                    self._serve(stream)
        except (OSError, struct.error):
            pass  # the client is gone, perhaps in the middle of a request

    def _shake_hands(self, stream):
        self._client.sendall(b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", 3))
        stream.read(4)
        while True:
            _, option, length = struct.unpack(">8sII", stream.read(16))
            stream.read(length)

            def reply(kind, data=b"", option=option):
                self._client.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)

            if option == OPT_GO:
                flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA
                reply(REP_INFO, struct.pack(">HQH", 0, len(self._disk.seen), flags))
                reply(REP_ACK)
                return True
            reply(REP_ACK if option == OPT_ABORT else REP_UNSUPPORTED)
            if option == OPT_ABORT:
                return False

    def _serve(self, stream):
        while True:
            _, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", stream.read(28))
            if kind == DISCONNECT:
                return
            data = stream.read(length) if kind == WRITE else b""
            answer = self._disk._perform(kind, flags, offset, data, length)
            if answer:
                error, data = answer
                self._client.sendall(struct.pack(">IIQ", 0x67446698, error, handle) + data)

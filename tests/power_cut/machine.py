"""The virtual machine: a kernel as Debian packages it, an initramfs made here, and qemu."""

import gzip
import lzma
import os
import re
import shutil
import stat
import subprocess
import threading
from pathlib import Path

ARCHITECTURE = "x86_64"
QEMU = f"qemu-system-{ARCHITECTURE}"
BUSYBOX = "busybox"
# What a kernel has built in or as modules. ext4 asks for the last one, in kernels that have it, by another name.
MODULES, ASKED_FOR = ("virtio_pci", "virtio_blk", "ext4"), "crc32c_generic"
# As long as a guest may be silent, seconds: a boot under emulation on a busy machine.
PATIENCE = 180

INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
for module in {modules}; do /bin/busybox insmod /modules/$module || echo "no module $module"; done
/bin/busybox mount -t ext4 -o {options} /dev/vda /disk && /guest /disk/log {mutant}
echo "ended $?"
/bin/busybox poweroff -f
"""


class Missing(Exception):
    """Why there can be no machine here."""


class Kernel:
    """The newest kernel in a folder that has boot/ and lib/modules/, as `/` or an unpacked package."""

    def __init__(self, folders):
        found = [path for folder in folders for path in sorted(Path(folder).glob("boot/vmlinuz-*"))]
        found = [path for path in found if self._modules(path).is_dir() and os.access(path, os.R_OK)]
        if not found:
            raise Missing(f"no readable boot/vmlinuz-* with its lib/modules/ in {' or '.join(map(str, folders))}")
        self.image = found[-1]
        self.modules = self._modules(self.image)

    @staticmethod
    def _modules(image):
        return image.parent.parent / "lib/modules" / image.name[len("vmlinuz-"):]

    def load_order(self):
        """The contents of the modules and of what they depend on, by name, in the order to load them in."""
        built_in = (self.modules / "modules.builtin").read_text()
        files = {re.sub(r"\.ko.*", "", path.name).replace("-", "_"): path for path in self.modules.rglob("*.ko*")}
        order = {}

        def add(name):
            if name in order or re.search(rf"/{name.replace('_', '[-_]')}\.ko", built_in):
                return
            if name not in files:
                raise Missing(f"the kernel {self.image.name} has no {name}")
            data = files[name].read_bytes()
            data = lzma.decompress(data) if files[name].suffix == ".xz" else data
            depends = re.search(rb"\0depends=([^\0]*)\0", data)
            for other in filter(None, depends.group(1).decode().split(",") if depends else ()):
                add(other.replace("-", "_"))
            order[name] = data

        if ASKED_FOR in files:
            add(ASKED_FOR)
        for name in MODULES:
            add(name)
        return order


def libraries(program):
    """What a dynamic program needs to start, by the paths it looks for it at. Nothing, if it is static."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", listed)}


def initramfs(kernel, program, mutant, options):
    """A compressed cpio archive (the format "newc") of what the guest needs."""
    modules = kernel.load_order()
    init = INIT.format(modules=" ".join(modules), options=options, mutant=mutant)
    files = {"init": init.encode(), "guest": Path(program).read_bytes()}
    files["bin/busybox"] = Path(shutil.which(BUSYBOX)).read_bytes()
    files.update({str(path)[1:]: path.read_bytes() for path in libraries(program)})
    files.update({f"modules/{name}": data for name, data in modules.items()})
    folders = {"dev", "proc", "sys", "disk"} | {str(up) for name in files for up in Path(name).parents} - {"."}

    archive = bytearray()

    def add(name, mode, data=b"", device=(0, 0)):
        fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        archive.extend(b"070701" + "".join(f"{field:08X}" for field in fields).encode() + name.encode() + b"\0")
        archive.extend(bytes(-len(archive) % 4) + data)
        archive.extend(bytes(-len(archive) % 4))

    for folder in sorted(folders):
        add(folder, stat.S_IFDIR | 0o755)
    add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    for name, data in files.items():
        add(name, stat.S_IFREG | 0o755, data)
    add("TRAILER!!!", 0)
    return gzip.compress(bytes(archive), 1)


class Machine:
    """A running guest. Its lines are what it prints on the serial console, until it ends or is killed."""

    def __init__(self, kernel, initrd, socket, complaints):
        command = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "1", "-m", "256"]
        command += ["-accel", "tcg", "-cpu", "max", "-serial", "stdio"]
        command += ["-kernel", kernel.image, "-initrd", initrd]
        command += ["-append", "console=ttyS0 quiet loglevel=0 panic=-1"]
        command += ["-blockdev", f"driver=nbd,node-name=disk,server.type=unix,server.path={socket}"]
        command += ["-device", "virtio-blk-pci,drive=disk,write-cache=on"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self._process.stdout.close()

    def kill(self):
        """SIGKILL: the guest's memory is gone, with all that it had not yet sent to its disk."""
        self._process.kill()
        self._process.wait()

    def lines(self):
        while True:
            watchdog = threading.Timer(PATIENCE, self._process.kill)
            watchdog.start()
            try:
                line = self._process.stdout.readline()
            finally:
                watchdog.cancel()
            if not line:
                return
            yield line.decode(errors="replace").strip()

"""An image like Raspberry Pi OS': a FAT partition that cloud-init reads, and an ext4 root behind it."""

import shutil
import struct
import subprocess
from pathlib import Path

MIB = 1 << 20
BOOT_MIB, START_MIB = 512, 8
# Room for what is installed and written.
SPARE_MIB = 900
LABEL = 0x0BADCAFE
CMDLINE = "console=serial0,115200 console=tty1 root=PARTUUID=0badcafe-02 rootfstype=ext4 rootwait\n"
# As the stock image has it: the underscore in its name makes cloud-init ignore it.
STOCK = {
    "cmdline.txt": CMDLINE,
    "config.txt": "# a guest reads none\n",
    "meta-data": "dsmode: local\ninstance_id: rpios-image\n",
    "network-config": "",
}
IMAGER_USER_DATA = """#cloud-config
hostname: from-imager
manage_etc_hosts: true
users:
- name: alice
  shell: /bin/bash
  lock_passwd: true
runcmd:
- [sh, -c, "touch /var/imager-was-here"]
"""
# What a card with Raspberry Pi OS has beyond Debian.
ROOT_FILES = {
    "etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg": "datasource_list: [ NoCloud, None ]\n"
    "datasource:\n  NoCloud:\n    seedfrom: file:///boot/firmware\n",
    "etc/systemd/system/cloud-init-main.service.d/rpi.conf": "[Unit]\nRequiresMountsFor=/boot/firmware\n",
    "etc/systemd/system/cloud-init-local.service.d/rpi.conf": "[Unit]\nRequiresMountsFor=/boot/firmware\n",
    "etc/fstab": "LABEL=bootfs /boot/firmware vfat defaults 0 2\nLABEL=rootfs / ext4 defaults,noatime 0 1\n",
    "etc/hostname": "raspberrypi\n",
    "etc/machine-id": "",
    # The test's own way in: a shell on a port that only the emulator has.
    "etc/systemd/system/test-shell.service": "[Unit]\nDefaultDependencies=no\nAfter=systemd-udevd.service\n"
    "StartLimitIntervalSec=0\n"
    "[Service]\nExecStart=/bin/sh -c 'until [ -e /dev/virtio-ports/midge.shell ]; do sleep 1; done; "
    "exec sh <>/dev/virtio-ports/midge.shell >&0 2>&1'\nRestart=always\n[Install]\nWantedBy=sysinit.target\n",
}


def make_base(rootfs: Path, folder: Path, architecture: str, data: Path) -> Path:
    """Make base-ARCH.img, .vmlinuz and .initrd, once; needs root, to unpack files as they are owned."""
    image = folder / f"base-{architecture}.img"
    if image.exists():
        return image
    root = folder / f"root-{architecture}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    _run("tar", "-C", root, "--numeric-owner", "-xpf", rootfs)
    _furnish(root, data)
    for name in ("vmlinuz", "initrd.img"):
        (newest,) = (root / "boot").glob(f"{name}-*")
        shutil.copy(newest, image.with_suffix(f".{name.removesuffix('.img')}"))
    partial = image.with_suffix(".part")
    _assemble(partial, root)
    shutil.rmtree(root)
    return partial.rename(image)


def _furnish(root: Path, data: Path) -> None:
    (root / "boot/firmware").mkdir(exist_ok=True)
    for name, text in ROOT_FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    wanted = root / "etc/systemd/system/sysinit.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "test-shell.service").symlink_to("/etc/systemd/system/test-shell.service")
    (root / "srv/data").mkdir(parents=True)
    shutil.copy(data, root / "srv/data/data.npz")


def _assemble(image: Path, root: Path) -> None:
    used = int(
        subprocess.run(["/usr/bin/du", "-sm", root], capture_output=True, check=True).stdout.split()[0]
    )
    root_mib = used * 12 // 10 + SPARE_MIB
    entries = (("boot", START_MIB, BOOT_MIB, 0x0C), ("root", START_MIB + BOOT_MIB, root_mib, 0x83))
    parts = {name: image.with_name(f"{image.name}.{name}") for name, *_ in entries}
    make_boot(parts["boot"], BOOT_MIB)
    _sized(parts["root"], root_mib)
    _run("mke2fs", "-q", "-t", "ext4", "-L", "rootfs", "-O", "^metadata_csum_seed", "-d", root, parts["root"])
    _sized(image, START_MIB + BOOT_MIB + root_mib)
    table = b"".join(
        struct.pack("<B3sB3sII", 0, b"\xff" * 3, kind, b"\xff" * 3, at * MIB // 512, size * MIB // 512)
        for _, at, size, kind in entries
    )
    with image.open("r+b") as file:
        file.seek(440)
        file.write(struct.pack("<IH", LABEL, 0) + table.ljust(64, b"\0") + b"\x55\xaa")
    for name, at, _, _ in entries:
        _run(
            "dd",
            f"if={parts[name]}",
            f"of={image}",
            "bs=1M",
            f"seek={at}",
            "conv=notrunc,sparse",
            "status=none",
        )
        parts[name].unlink()


def make_boot(partition: Path, mib: int) -> None:
    """A FAT32 file system with the files of a Raspberry Pi that anybody here reads."""
    _sized(partition, mib)
    _run("mkfs.fat", "-F", "32", "-s", "1", "-n", "bootfs", partition, quiet=True)
    for name, text in STOCK.items():
        _run("mcopy", "-i", partition, "-", f"::/{name}", given=text.encode())


def make_fat(image: Path, folder: Path) -> Path:
    """A FAT32 file system with all that lies in a folder, as a stick may have."""
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    _sized(image, used // MIB * 11 // 10 + 64)
    _run("mkfs.fat", "-F", "32", image, quiet=True)
    _run("mcopy", "-s", "-i", image, *sorted(folder.iterdir()), "::/")
    return image


def _sized(path: Path, mib: int) -> None:
    with path.open("wb") as file:
        file.truncate(mib * MIB)


def _run(*command: object, given: bytes | None = None, quiet: bool = False) -> None:
    out = subprocess.DEVNULL if quiet else None
    subprocess.run([str(word) for word in command], input=given, stdout=out, check=True)

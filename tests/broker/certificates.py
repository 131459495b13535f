"""Certificates for brokers of tests, made by openssl."""

import shutil
import subprocess
from pathlib import Path


def openssl(folder: Path, *arguments: str) -> None:
    program = shutil.which("openssl")
    assert program is not None, "these tests need openssl"
    subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def make_authority(folder: Path, name: str) -> None:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        folder,
        "req",
        "-x509",
        *curve,
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.crt",
        "-subj",
        f"/CN={name}",
    )


def make_certificate(folder: Path, name: str, authority: str) -> None:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(folder, "req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
    sign(folder, name, name, authority, days=30)


def sign(folder: Path, request: str, name: str, authority: str, *, days: int) -> None:
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    issuer = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial", "-extfile", "names")
    openssl(
        folder, "x509", "-req", "-in", f"{request}.csr", "-out", f"{name}.crt", *issuer, "-days", str(days)
    )

import ssl
from collections.abc import Callable
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from host.certificates import (
    MAX_PEM_BYTES,
    belongs,
    certificate,
    chain,
    common_name,
    is_issued_by,
    new_key,
    private_key,
    public_key,
    request,
    requested_key,
)
from host.errors import DataError
from tests.deploy.registrar.chains import chain_for


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_request_carries_the_key_that_signed_it() -> None:
    key = new_key()
    assert requested_key(request(key, "pi-1")) == private_key(key).public_key()


def test_no_two_keys_are_alike() -> None:
    assert new_key() != new_key()


def test_a_request_signed_with_another_key_is_refused() -> None:
    asked = bytearray(request(new_key(), "pi-1"))
    at = asked.index(b"\n-----END") - 12
    asked[at] = ord("A") if asked[at] != ord("A") else ord("B")
    with pytest.raises(DataError, match=r"not signed with its own key|no certificate request"):
        requested_key(bytes(asked))


def test_only_keys_on_p256_are_used() -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        with pytest.raises(DataError, match="not on the curve P-256"):
            private_key(pem(key))


@pytest.mark.parametrize("bad", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\n", b"\xff" * 100], ids=repr)
def test_what_is_neither_key_nor_request_nor_certificate_is_refused(bad: bytes) -> None:
    for read in (private_key, requested_key, certificate):
        with pytest.raises(DataError, match="it is no"):
            read(bad)


def test_what_is_too_long_is_not_read() -> None:
    for read in (private_key, requested_key, certificate):
        with pytest.raises(DataError, match="too long"):
            read(b"x" * (MAX_PEM_BYTES + 1))


def test_a_damaged_certificate_is_a_fault_of_its_sender_wherever_it_is_damaged() -> None:
    key = new_key()
    whole = certificate(chain_for(key, "pi-1", 2_000_000_000.0)).public_bytes(Encoding.DER)
    readers: list[Callable[[bytes], object]] = [
        chain,
        common_name,
        public_key,
        lambda pem: belongs(pem, key),
        lambda pem: is_issued_by(pem, pem),
    ]
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        shown = ssl.DER_cert_to_PEM_cert(bytes(damaged)).encode()
        for read in readers:
            with suppress(DataError):
                read(shown)

"""All randomness of training derives from the run's seed, the round and the device."""

import hashlib


def derive_seed(seed: int, round_number: int, device: str) -> int:
    """Derive the seed, below 2**63, of one device in one round: the first bits of a SHA-256."""
    digest = hashlib.sha256(f"{seed}/{round_number}/{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

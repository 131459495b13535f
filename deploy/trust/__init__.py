"""Whom the federation trusts, once it runs: revocation, rotation, and the list of its devices."""

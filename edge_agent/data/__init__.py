"""The device's own examples, from files to arrays."""

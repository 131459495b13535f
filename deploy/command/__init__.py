"""The `midge` command."""

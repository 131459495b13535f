"""Packages of midge: the wheel that one machine hands to another, Debian's, and recipes for containers."""

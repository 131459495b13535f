"""Services of systemd: the units, and what puts them in place on a machine."""

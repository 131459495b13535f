"""A whole federation on this machine: a broker, an aggregator and devices, each a process of its own."""

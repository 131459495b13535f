"""A federation on one machine: a broker, an aggregator and a few devices as processes of their own."""

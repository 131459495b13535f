"""Training for real on devices that are files: what settings and strategies are worth, without a broker."""

"""A broker that is not ours: the rights it must give, whether it does, and how to leave nothing on it."""

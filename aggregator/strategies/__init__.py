"""How the updates of a round become the next theta."""

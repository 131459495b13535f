"""`midge monitor`: rounds as they happen, in a terminal."""

"""A whole federation in one process, without network, clock or disk: one seed reproduces it to the bit."""

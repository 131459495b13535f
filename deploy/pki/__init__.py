"""A federation's certificates: its authority, and the register of what it issued."""

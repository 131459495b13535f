"""The round coordinator: a pure state machine. It knows no socket, file, clock, thread or random source."""

"""The agent that trains on a device."""

"""What crosses the broker, and the Mosquitto that carries it."""

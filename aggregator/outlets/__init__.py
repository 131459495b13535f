"""What leaves for other systems: Home Assistant, Prometheus, webhooks; each is off unless it is set."""

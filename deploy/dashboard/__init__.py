"""A web page of a federation: one feed for all browsers, and nothing from any network but the broker."""

"""A web page for people who would rather look: one feed, any number of browsers, no network but the broker's."""

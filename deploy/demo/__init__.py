"""Three devices that each lack some digits: alone, and then together."""

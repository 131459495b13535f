"""What the monitor topics tell, for every terminal, page and script that shows it."""

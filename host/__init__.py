"""What both services need of the machine they run on."""

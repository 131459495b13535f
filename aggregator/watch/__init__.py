"""What people and tools see of a federation: documents made from what is known, and one who says them."""

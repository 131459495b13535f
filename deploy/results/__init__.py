"""What a trained model is worth: predictions, confusion, curves."""

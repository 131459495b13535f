"""What trains a model on the device, behind one interface."""

"""A federation's home: one folder with all that its operator has, and bundles for devices."""

from aggregator.keras.determinism import be_deterministic

# Before any test module makes TensorFlow's first tensor, which settles how many threads there are.
be_deterministic()

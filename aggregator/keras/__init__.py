"""All of the aggregator that imports TensorFlow; it runs in a child process."""

"""TensorFlow's gradients said again with operators that LiteRT has: one function an operator."""

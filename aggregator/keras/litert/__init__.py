"""From a compiled Keras model to a training program for LiteRT, proved equal to Keras before it leaves."""

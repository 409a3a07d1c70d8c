"""Graphs of Keras models: walked, copied, rebuilt with other layers, and compared.

Everything here takes Sequential and functional models; what only walks layers takes those of tf_keras as well.
"""

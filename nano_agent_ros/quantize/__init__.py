"""INT4 weights: quantization of matrices, the artifact folder that engines read, and its making from a checkpoint."""

"""The engine for NVIDIA GPUs: graph, builder, cache and run time. docs/tensorrt.md tells how they fit together."""

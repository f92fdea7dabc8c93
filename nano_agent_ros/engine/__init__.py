"""Engines that run one INT4 artifact: the native C++ one, and PyTorch as the reference."""

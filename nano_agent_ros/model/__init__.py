"""The Nemotron-H network: its configuration (no PyTorch needed), layers, and checkpoints in Hugging Face layout."""

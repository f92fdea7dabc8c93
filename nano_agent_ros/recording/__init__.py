"""Conversations recorded in MCAP logs, and run again from them."""

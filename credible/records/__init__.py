"""Loaders for real auction records, and their replay through the protocol."""

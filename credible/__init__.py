"""The face: command line, simulation of repeated auctions, real records, reports."""

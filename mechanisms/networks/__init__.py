"""Auctions computed by neural networks: individually rational and feasible by construction, truthful only about so."""

from mechanisms.networks.alg_net import AlgNet

__all__ = ["AlgNet"]

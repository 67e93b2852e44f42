"""Auctions computed by neural networks: individually rational and feasible by construction, truthful only about so."""

from mechanisms.networks.alg_net import AlgNet
from mechanisms.networks.regret_net import RegretNet

__all__ = ["AlgNet", "RegretNet"]

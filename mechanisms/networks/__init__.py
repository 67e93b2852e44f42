"""Auctions computed by neural networks: individually rational and feasible by construction; one is truthful too."""

from mechanisms.networks.alg_net import AlgNet
from mechanisms.networks.equivariant import EquivariantNet, RegretFormer
from mechanisms.networks.fraction_net import FractionNet
from mechanisms.networks.myerson_net import MyersonNet
from mechanisms.networks.regret_net import RegretNet

__all__ = ["AlgNet", "EquivariantNet", "FractionNet", "MyersonNet", "RegretFormer", "RegretNet"]

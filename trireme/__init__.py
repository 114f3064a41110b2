"""Trireme: RECO, REACT and RAR compared over one shared memory, on the same pictures."""

__version__ = "0.1.0"

"""Differential privacy: mechanisms, noise, clipping and accounting; nothing here knows of processes or messages."""

from ps.privacy.accountant import affordable, demand_accountant, epsilon_of, noise_for
from ps.privacy.budget import PrivacyBudget
from ps.privacy.composition import Conditions
from ps.privacy.mechanism import MECHANISMS, Mechanism, parse_privacy

__all__ = [
    "MECHANISMS",
    "Conditions",
    "Mechanism",
    "PrivacyBudget",
    "affordable",
    "demand_accountant",
    "epsilon_of",
    "noise_for",
    "parse_privacy",
]

"""The one version of all Papyra distributions; a test holds it equal to theirs."""

__version__ = "0.4.0"

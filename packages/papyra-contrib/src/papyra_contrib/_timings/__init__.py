"""How long messages wait and are handled: samples of them, and histograms."""

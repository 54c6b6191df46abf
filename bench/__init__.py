"""Measurements. Compare within one run; a single absolute figure of a noisy machine says little."""

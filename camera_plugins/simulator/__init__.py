"""The simulated detector: draws images and gives them at the rate asked for."""

"""Trained runs in use: recognition under a budget, and export."""

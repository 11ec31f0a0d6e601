"""Shipped search strategies."""

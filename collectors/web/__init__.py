"""Asking the world politely and taking what it sends with care."""

"""Kernels, guests and what is run in them. It runs commands inside a guest and never imports the guard."""

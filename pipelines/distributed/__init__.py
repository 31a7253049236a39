"""Devices, processes and machines."""

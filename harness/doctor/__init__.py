"""Examine the devices of this machine: every meter measures a known quantity."""

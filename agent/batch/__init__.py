"""Batch jobs on this device while it is idle: which folders they may use, what idle is, and who starts and stops them.

Only a device whose settings name folders for them loads more of this room than ``kept``.
"""

"""What makes evidence: one file for each way of asking the hardware, behind the interface of base.py.

The development attester is not in here: it is made by `--development` alone (leanto_cloud/development.py).
"""

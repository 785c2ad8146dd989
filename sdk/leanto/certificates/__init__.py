"""Promises about the risk of answering locally: found, signed, looked up, and watched by audits.

selective_risk.py   the threshold, with an exact guarantee      certificate.py   the signed record, bound to build and cloud
certified.py        what a policy's certificates promise now    agreement.py     whether two answers say the same
audit.py            the bet against a promise                   auditor.py       asks the cloud again, after the answer
"""

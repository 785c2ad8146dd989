"""The local leg: one generation on the edge, and what is watched while it runs.

run.py           the generation, paused when there is news      pace.py           how long answers take this edge
low_logprob.py   a low quantile of the tokens so far            degeneration.py   loops, and calls that come to nothing
json_prefix.py   whether text can still become a JSON object
"""

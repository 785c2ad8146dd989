"""Other engines as child processes, one model each, that answer one measurement at a time: so all of them can be timed in turn."""

"""The release log and its witnesses, as an operator runs them: a folder of tiles, a server of that folder, and who cosigns it."""

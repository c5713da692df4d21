"""The command line: one small file per command; parsing, progress and printing only."""

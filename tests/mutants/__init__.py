"""Mutants of the joins, statistics and findings: do the fast tests notice?"""

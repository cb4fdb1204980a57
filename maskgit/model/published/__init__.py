"""Nets of published generators, as their own projects compute them.

Each is an entry of maskgit.BACKBONES; maskgit.importing reads their files.
"""

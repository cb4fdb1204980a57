"""Nets of published tokenizers, as their own projects compute them.

Each is an entry of vqgan.tokenizers.TOKENIZERS; maskgit.importing reads their files.
"""

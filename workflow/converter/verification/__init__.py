"""Does a file compute what its source computes?"""
